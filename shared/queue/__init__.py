"""Jobs: what is done later, apart from the request that wanted it."""

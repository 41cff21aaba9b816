"""Control plane and command line."""

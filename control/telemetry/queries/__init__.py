"""From a question to the rows that answer it: model, plan, SQL, check, execution."""

"""PostgreSQL for tests: one server a run, a fresh database a test."""

"""The control plane for tests: the API over real HTTP on a real PostgreSQL."""

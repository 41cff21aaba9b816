"""Aggregates in PostgreSQL."""

"""Reads: SQL straight to read models."""

"""Logs: structured, bounded, without secrets, to files and to wherever an operator wants them."""

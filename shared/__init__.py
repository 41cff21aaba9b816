"""Kernel of both planes; imports neither."""

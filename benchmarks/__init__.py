"""Benchmarks: micro benchmarks of single stages, and the payloads that they share."""

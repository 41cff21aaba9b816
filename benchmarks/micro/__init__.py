"""Micro benchmarks (pytest-benchmark): `pytest benchmarks/micro`."""

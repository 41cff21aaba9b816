"""A data set for benchmarks of reading: see `python -m benchmarks.dataset --help`."""

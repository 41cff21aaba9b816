"""How fast telemetry is read: see `python -m benchmarks.reading --help`."""

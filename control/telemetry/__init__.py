"""400 telemetry: reading metrics, logs and traces."""

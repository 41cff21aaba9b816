"""Reading metrics, logs and traces."""

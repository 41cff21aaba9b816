"""OpenTelemetry of the product itself: traces, metrics and logs of both planes."""

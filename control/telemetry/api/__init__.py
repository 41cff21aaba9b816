"""Routes below /telemetry."""

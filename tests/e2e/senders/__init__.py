"""Programs that send known telemetry through real SDKs; each prints what it sent as JSON."""

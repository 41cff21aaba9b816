"""Transports: they carry OTLP bytes to the gateway and its answer back, and decide nothing."""

"""Data plane: OTLP in, ClickHouse out. Read receivers, gateway, codec, log and writer in turn."""

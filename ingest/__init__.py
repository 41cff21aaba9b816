"""Data plane: OTLP in, ClickHouse out. Read receivers, gateway, codec, log, writer, in that order."""

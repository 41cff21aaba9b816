"""What must always hold: aggregates and values; no I/O."""

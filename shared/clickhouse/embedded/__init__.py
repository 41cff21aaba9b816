"""A ClickHouse server for one machine: the chDB engine behind ClickHouse's HTTP interface."""

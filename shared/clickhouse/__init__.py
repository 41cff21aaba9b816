"""ClickHouse: the client that every process uses, migrations, and the embedded server."""

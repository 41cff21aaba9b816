"""PostgreSQL: connections, transactions with row-level security, migrations, the outbox."""

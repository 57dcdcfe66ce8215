"""PostgreSQL: the pool, the statements, migrations, the inbox and the outbox."""

"""The job types of a chat product, over PostgreSQL and Redis pub/sub."""

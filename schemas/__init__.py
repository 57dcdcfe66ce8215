"""What outlives a process: the wire contract, the reports, and the database schema."""

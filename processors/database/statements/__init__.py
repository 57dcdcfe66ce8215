"""
The SQL of the messaging tables: one module per part of the schema, one constant per statement.

Each statement that changes something is complete by itself: rows, counters and the outbox event
of one cause are written together or not at all. Rows are locked in one order everywhere: the
conversation, the member, deliveries by message id, messages by id. Nothing waits in a circle,
whatever overlaps.
"""

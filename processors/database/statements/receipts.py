"""Receipts: delivery rows only move forward, and counters follow them."""

# ruff: noqa: S608 - statements are joined from constants of this file alone

from __future__ import annotations

from typing import Final

# Expects a relation l(message_id, old, new, delivered_at, read_at) of locked delivery rows.
_ADVANCE: Final = """
u AS (
  UPDATE message_deliveries d
  SET state = l.new,
    delivered_at = coalesce(d.delivered_at, l.delivered_at),
    read_at = CASE WHEN l.new >= 30 THEN l.read_at ELSE d.read_at END
  FROM l WHERE d.message_id = l.message_id AND d.user_id = $1 AND d.state < l.new
  RETURNING d.message_id, l.old, d.state
), k AS (
  SELECT m.id, m.n_delivered, m.n_read, u.old, u.state
  FROM messages m JOIN u ON u.message_id = m.id
  ORDER BY m.id FOR NO KEY UPDATE OF m
), a AS (
  -- Counts from k, read under the lock: those of m may be older at first, when the row's checks
  -- are made for the first time.
  UPDATE messages m
  SET n_delivered = k.n_delivered + (k.old < 20)::integer,
    n_read = k.n_read + (k.old < 30 AND k.state >= 30)::integer
  FROM k WHERE m.id = k.id
  RETURNING m.id, m.conversation_id, m.sender_id, m.seq, m.n_recipients, m.n_delivered, m.n_read,
    k.state
)"""

ACKNOWLEDGE: Final = (
    """
WITH t AS (SELECT clock_timestamp() AS now), n AS (
  SELECT * FROM unnest($2::uuid[], $3::smallint[], $4::timestamptz[], $5::timestamptz[])
    AS claim(message_id, state, delivered_at, read_at)
), f AS (
  SELECT count(*) AS found FROM message_deliveries d JOIN n USING (message_id)
  WHERE d.user_id = $1
), l AS (
  SELECT d.message_id, d.state AS old, n.state AS new,
    greatest(d.sent_at, least(coalesce(n.delivered_at, t.now), t.now)) AS delivered_at,
    greatest(d.sent_at, least(coalesce(n.read_at, t.now), t.now)) AS read_at
  FROM message_deliveries d JOIN n USING (message_id) CROSS JOIN t
  WHERE d.user_id = $1 AND d.state < n.state
  ORDER BY d.message_id
  FOR UPDATE OF d
),"""
    + _ADVANCE
    + """, o AS (
  INSERT INTO outbox (topic, key, payload)
  SELECT 'user', a.sender_id::text, jsonb_build_object(
    'type', 'receipts.advanced', 'conversationId', a.conversation_id, 'userId', $1::uuid,
    'receipts', jsonb_agg(jsonb_build_object(
      'messageId', a.id, 'seq', a.seq,
      'state', CASE WHEN a.state >= 30 THEN 'read' ELSE 'delivered' END,
      'recipients', a.n_recipients, 'delivered', a.n_delivered, 'read', a.n_read
    ) ORDER BY a.seq))
  FROM a GROUP BY a.sender_id, a.conversation_id
)
SELECT f.found, (SELECT count(*) FROM a) AS advanced FROM f
"""
)
"""User, then one array each of message ids without repeats, ranks, times delivered, times read."""

ADVANCE_UP_TO: Final = (
    """
WITH t AS (SELECT clock_timestamp() AS now), n AS (
  SELECT message_id FROM message_deliveries
  WHERE user_id = $1 AND conversation_id = $2 AND seq <= $3 AND state < 30
    AND state < $4::smallint
  ORDER BY seq LIMIT $6
), l AS (
  SELECT d.message_id, d.state AS old, $4::smallint AS new,
    greatest(d.sent_at, least(coalesce($5::timestamptz, t.now), t.now)) AS delivered_at,
    greatest(d.sent_at, least(coalesce($5::timestamptz, t.now), t.now)) AS read_at
  FROM message_deliveries d JOIN n USING (message_id) CROSS JOIN t
  WHERE d.user_id = $1 AND d.state < $4::smallint
  ORDER BY d.message_id
  FOR UPDATE OF d
),"""
    + _ADVANCE
    + """
SELECT (SELECT count(*) FROM n) AS found, (SELECT count(*) FROM a) AS advanced
"""
)
"""User, conversation, sequence, rank, time, rows at most. Fewer found than asked for: all done."""

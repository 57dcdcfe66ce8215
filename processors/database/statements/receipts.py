"""
Receipts: delivery rows only move forward, and counters follow them.

Rows are locked in one order: members, deliveries by message and user, messages by id.
"""

# ruff: noqa: S608 - statements are joined from constants of this file alone

from __future__ import annotations

from typing import Final

STANDINGS: Final = """
SELECT q.place, c.id IS NOT NULL AS is_known, c.deleted_at IS NULL AS is_open, c.last_seq,
  m.user_id IS NOT NULL AS is_member, m.left_at IS NOT NULL AS has_left,
  m.last_delivered_seq, m.last_read_seq
FROM unnest($1::uuid[], $2::uuid[])
  WITH ORDINALITY AS q (conversation_id, user_id, place)
LEFT JOIN conversations c ON c.id = q.conversation_id
LEFT JOIN conversation_members m USING (conversation_id, user_id)
"""
"""Conversations, users: how each user stands, whether or not either exists."""

# Expects a relation l (message_id, user_id, old, new, delivered_at, read_at) of locked delivery
# rows. Who keeps reading private has it recorded, and counts for others as delivered.
_ADVANCE: Final = """
u AS (
  UPDATE message_deliveries d
  SET state = l.new,
    delivered_at = coalesce(d.delivered_at, l.delivered_at),
    read_at = CASE WHEN l.new >= 30 THEN l.read_at ELSE d.read_at END,
    failed_at = NULL, error_code = NULL
  FROM l WHERE d.message_id = l.message_id AND d.user_id = l.user_id AND d.state < l.new
  RETURNING d.message_id, d.user_id, l.old, d.state, d.read_at
), p AS (
  SELECT u.message_id, u.user_id, u.read_at,
    CASE WHEN x.private_receipts THEN least(u.old, 20) ELSE u.old END AS old,
    CASE WHEN x.private_receipts THEN least(u.state, 20) ELSE u.state END AS state
  FROM u LEFT JOIN users x ON x.id = u.user_id
), c AS (
  SELECT message_id, count(*) FILTER (WHERE old < 20)::integer AS delivered,
    count(*) FILTER (WHERE old < 30 AND state >= 30)::integer AS read
  FROM p WHERE old < state GROUP BY message_id
), k AS (
  SELECT m.id, m.n_delivered, m.n_read
  FROM messages m JOIN c ON c.message_id = m.id
  ORDER BY m.id FOR NO KEY UPDATE OF m
), a AS (
  -- Counts from k, read under the lock: those of m may be older at first, when the row's checks
  -- are made for the first time.
  UPDATE messages m
  SET n_delivered = k.n_delivered + c.delivered, n_read = k.n_read + c.read
  FROM k JOIN c ON c.message_id = k.id WHERE m.id = k.id
  RETURNING m.id, m.conversation_id, m.sender_id, m.seq, m.n_recipients, m.n_delivered, m.n_read
), z AS (
  INSERT INTO message_reads (message_id, user_id, read_at)
  SELECT p.message_id, p.user_id, p.read_at
  FROM p JOIN a ON a.id = p.message_id
  WHERE p.state >= 30 AND a.n_recipients <= $1::integer
  ON CONFLICT DO NOTHING
)"""

ACKNOWLEDGE: Final = (
    """
WITH t AS (SELECT clock_timestamp() AS now), n AS (
  SELECT * FROM unnest($2::uuid[], $3::uuid[], $4::smallint[], $5::timestamptz[],
    $6::timestamptz[]) AS claim (user_id, message_id, state, delivered_at, read_at)
), f AS (
  SELECT message_id, user_id FROM message_deliveries JOIN n USING (message_id, user_id)
), l AS (
  SELECT d.message_id, d.user_id, d.state AS old, n.state AS new,
    greatest(d.sent_at, least(coalesce(n.delivered_at, t.now), t.now)) AS delivered_at,
    greatest(d.sent_at, least(coalesce(n.read_at, t.now), t.now)) AS read_at
  FROM message_deliveries d JOIN n USING (message_id, user_id) CROSS JOIN t
  WHERE d.state < n.state
  ORDER BY d.message_id, d.user_id
  FOR UPDATE OF d
),"""
    + _ADVANCE
    + """, o AS (
  INSERT INTO outbox (topic, key, payload)
  SELECT 'user', a.sender_id::text, jsonb_build_object(
    'type', 'receipts.advanced', 'conversationId', a.conversation_id, 'userId', p.user_id,
    'receipts', jsonb_agg(jsonb_build_object(
      'messageId', a.id, 'seq', a.seq,
      'state', CASE WHEN p.state >= 30 THEN 'read' ELSE 'delivered' END,
      'recipients', a.n_recipients, 'delivered', a.n_delivered, 'read', a.n_read
    ) ORDER BY a.seq))
  FROM a JOIN p ON p.message_id = a.id WHERE p.old < p.state
  GROUP BY a.sender_id, a.conversation_id, p.user_id
)
SELECT f.user_id, f.message_id, u.message_id IS NOT NULL AS advanced,
  coalesce(u.state >= 30, false) AS was_read
FROM f LEFT JOIN u USING (message_id, user_id)
"""
)
"""
Recipients of a message at most for keeping who read it; then, without repeats of a user and
message, arrays of users, messages, ranks, times delivered, times read.
"""

ADVANCE_UP_TO: Final = (
    """
WITH t AS (SELECT clock_timestamp() AS now), n AS (
  SELECT * FROM unnest($2::uuid[], $3::uuid[], $4::bigint[], $5::smallint[], $6::timestamptz[])
    WITH ORDINALITY AS n (user_id, conversation_id, seq, state, at, place)
), f AS (
  SELECT n.place, n.state, n.at, r.message_id, n.user_id
  FROM n CROSS JOIN LATERAL (
    SELECT message_id FROM message_deliveries d
    WHERE d.user_id = n.user_id AND d.conversation_id = n.conversation_id AND d.seq <= n.seq
      AND d.state < 30 AND d.state < n.state
    ORDER BY d.seq LIMIT $7::integer
  ) r
), l AS (
  SELECT d.message_id, d.user_id, d.state AS old, f.state AS new,
    greatest(d.sent_at, least(coalesce(f.at, t.now), t.now)) AS delivered_at,
    greatest(d.sent_at, least(coalesce(f.at, t.now), t.now)) AS read_at
  FROM message_deliveries d JOIN f USING (message_id, user_id) CROSS JOIN t
  WHERE d.state < f.state
  ORDER BY d.message_id, d.user_id
  FOR UPDATE OF d
),"""
    + _ADVANCE
    + """
SELECT place, count(*) AS found FROM f GROUP BY place
"""
)
"""
Recipients at most for keeping who read; users, conversations, sequences, ranks, times, of which
one user and conversation stands once; rows of each at most. Fewer found than that: all done.
"""

MOVE_WATERMARKS: Final = """
WITH g AS (
  SELECT n.conversation_id, n.user_id, n.at,
    least(n.delivered, c.last_seq) AS delivered, least(n.read, c.last_seq) AS read
  FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::bigint[], $5::timestamptz[])
    AS n (conversation_id, user_id, delivered, read, at)
  JOIN conversations c ON c.id = n.conversation_id AND c.deleted_at IS NULL
), l AS (
  SELECT m.conversation_id, m.user_id, g.delivered, g.read, g.at
  FROM conversation_members m JOIN g USING (conversation_id, user_id)
  WHERE m.left_at IS NULL
    AND (m.last_read_seq < g.read OR m.last_delivered_seq < greatest(g.delivered, g.read))
  ORDER BY m.conversation_id, m.user_id
  FOR NO KEY UPDATE OF m
), w AS (
  UPDATE conversation_members m
  SET last_delivered_seq = greatest(m.last_delivered_seq, l.delivered, l.read),
    last_read_at = CASE WHEN m.last_read_seq < l.read
      THEN greatest(m.joined_at, least(coalesce(l.at, now()), now()))
      ELSE m.last_read_at END,
    last_read_seq = greatest(m.last_read_seq, l.read)
  FROM l
  WHERE m.conversation_id = l.conversation_id AND m.user_id = l.user_id
    AND (m.last_read_seq < l.read OR m.last_delivered_seq < greatest(l.delivered, l.read))
  RETURNING m.conversation_id, m.user_id, m.last_delivered_seq, m.last_read_seq
), e AS (
  SELECT w.*, coalesce(x.private_receipts, false) AS private, jsonb_build_object(
    'type', 'watermark.advanced', 'conversationId', w.conversation_id, 'userId', w.user_id,
    'deliveredUpToSeq', w.last_delivered_seq) AS event
  FROM w LEFT JOIN users x ON x.id = w.user_id
), o AS (
  INSERT INTO outbox (topic, key, payload)
  SELECT 'conversation', e.conversation_id::text, e.event
    || CASE WHEN e.private
      THEN '{}' ELSE jsonb_build_object('readUpToSeq', e.last_read_seq) END
  FROM e
  UNION ALL
  -- Private reading is told to the reader's own devices alone.
  SELECT 'user', e.user_id::text, e.event || jsonb_build_object('readUpToSeq', e.last_read_seq)
  FROM e WHERE e.private
)
SELECT conversation_id, user_id, last_delivered_seq, last_read_seq FROM w
"""
"""
Conversations, users, delivered up to, read up to (0: not named), times; a conversation and user
stand once. No row: nothing moved.
"""

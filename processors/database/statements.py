"""
The SQL of the messaging tables, one constant per statement.

Each statement that changes something is complete by itself: rows, counters and the outbox event
of one cause are written together or not at all. Rows are locked in one order everywhere: the
member, deliveries by message id, messages by id. Nothing waits in a circle, whatever overlaps.
"""

# ruff: noqa: S608 - statements are joined from constants of this file alone

from __future__ import annotations

from typing import Final

SEND: Final = """
WITH c AS (
  -- The row lock gives out sequence numbers in the order of commits: who sees N can see N - 1.
  SELECT id, last_seq FROM conversations
  WHERE id = $1 AND deleted_at IS NULL
  FOR NO KEY UPDATE
), r AS (
  SELECT user_id FROM conversation_members
  WHERE conversation_id = $1 AND left_at IS NULL AND user_id <> $2
  LIMIT $7::integer + 1
), m AS (
  INSERT INTO messages
    (conversation_id, seq, sender_id, client_msg_id, body_hash, kind, body, n_recipients,
     created_at)
  SELECT c.id, c.last_seq + 1, $2, $3, $4, $5, $6,
    (SELECT CASE WHEN count(*) <= $7 THEN count(*)::integer END FROM r), clock_timestamp()
  FROM c
  WHERE EXISTS (
    SELECT FROM conversation_members s JOIN users u ON u.id = s.user_id
    WHERE s.conversation_id = c.id AND s.user_id = $2
      AND s.left_at IS NULL AND u.disabled_at IS NULL
  )
  ON CONFLICT (conversation_id, sender_id, client_msg_id) DO NOTHING
  RETURNING id, conversation_id, seq, n_recipients, created_at
), s AS (
  UPDATE conversations SET last_seq = m.seq FROM m WHERE conversations.id = m.conversation_id
), d AS (
  INSERT INTO message_deliveries (message_id, user_id, conversation_id, seq, sent_at)
  SELECT m.id, r.user_id, m.conversation_id, m.seq, m.created_at
  FROM m CROSS JOIN r WHERE m.n_recipients IS NOT NULL
), o AS (
  INSERT INTO outbox (topic, key, payload)
  SELECT 'conversation', m.conversation_id::text, jsonb_build_object(
    'type', 'message.created', 'conversationId', m.conversation_id, 'messageId', m.id,
    'seq', m.seq, 'senderId', $2::uuid, 'clientMessageId', $3::text, 'kind', $5::text,
    'content', $6::text, 'sentAt', iso_utc(m.created_at))
  FROM m
)
SELECT id, seq, n_recipients FROM m
"""
"""Conversation, sender, client id, hash, kind, content, rows at most. No row: see FIND_SENT."""

FIND_SENT: Final = """
SELECT id, seq, n_recipients, body_hash FROM messages
WHERE conversation_id = $1 AND sender_id = $2 AND client_msg_id = $3
"""
"""The message that a client id stands for already."""

STANDING: Final = """
SELECT c.id IS NOT NULL AS is_known, c.deleted_at IS NULL AS is_open, c.last_seq,
  m.user_id IS NOT NULL AS is_member, m.left_at IS NOT NULL AS has_left,
  m.last_delivered_seq, m.last_read_seq
FROM (SELECT $1::uuid AS conversation_id, $2::uuid AS user_id) q
LEFT JOIN conversations c ON c.id = q.conversation_id
LEFT JOIN conversation_members m USING (conversation_id, user_id)
"""
"""How a user stands to a conversation, whether or not either exists. Always one row."""

USER: Final = "SELECT disabled_at IS NOT NULL AS is_disabled FROM users WHERE id = $1"

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

MOVE_WATERMARKS: Final = """
WITH g AS (
  SELECT id, least($3::bigint, last_seq) AS delivered, least($4::bigint, last_seq) AS read
  FROM conversations WHERE id = $1 AND deleted_at IS NULL
), w AS (
  UPDATE conversation_members m
  SET last_delivered_seq = greatest(m.last_delivered_seq, g.delivered, g.read),
    last_read_at = CASE WHEN m.last_read_seq < g.read
      THEN greatest(m.joined_at, least(coalesce($5::timestamptz, now()), now()))
      ELSE m.last_read_at END,
    last_read_seq = greatest(m.last_read_seq, g.read)
  FROM g
  WHERE m.conversation_id = g.id AND m.user_id = $2 AND m.left_at IS NULL
    AND (m.last_read_seq < g.read OR m.last_delivered_seq < greatest(g.delivered, g.read))
  RETURNING m.conversation_id, m.last_delivered_seq, m.last_read_seq
), o AS (
  INSERT INTO outbox (topic, key, payload)
  SELECT 'conversation', w.conversation_id::text, jsonb_build_object(
    'type', 'watermark.advanced', 'conversationId', w.conversation_id, 'userId', $2::uuid,
    'deliveredUpToSeq', w.last_delivered_seq, 'readUpToSeq', w.last_read_seq)
  FROM w
)
SELECT last_delivered_seq, last_read_seq FROM w
"""
"""Conversation, user, delivered up to, read up to (0: not named), time. No row: nothing moved."""

INBOX_CLAIM: Final = """
INSERT INTO job_inbox (handler, job_id) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING job_id
"""
INBOX_RESULT: Final = "SELECT result FROM job_inbox WHERE handler = $1 AND job_id = $2"
INBOX_RECORD: Final = "UPDATE job_inbox SET result = $3 WHERE handler = $1 AND job_id = $2"

OUTBOX_CLAIM: Final = """
WITH n AS MATERIALIZED (
  SELECT id FROM outbox
  WHERE topic = ANY ($1::text[]) AND (claimed_until IS NULL OR claimed_until <= now())
  ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED
)
UPDATE outbox o SET claimed_until = now() + $3::bigint * interval '1 millisecond'
FROM n WHERE o.id = n.id
RETURNING o.id, o.topic, o.key, o.payload::text AS payload
"""
OUTBOX_DELETE: Final = "DELETE FROM outbox WHERE id = ANY ($1::bigint[])"
OUTBOX_RELEASE: Final = "UPDATE outbox SET claimed_until = NULL WHERE id = ANY ($1::bigint[])"
OUTBOX_INSERT: Final = "INSERT INTO outbox (topic, key, payload) VALUES ($1, $2, $3)"

ADD_USER: Final = """
INSERT INTO users (id, display_name) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING
"""
ADD_CONVERSATION: Final = """
INSERT INTO conversations (id, title) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING
"""
ADD_MEMBERS: Final = """
INSERT INTO conversation_members (conversation_id, user_id)
SELECT $1, unnest($2::uuid[]) ON CONFLICT (conversation_id, user_id) DO NOTHING
"""

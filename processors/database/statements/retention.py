"""
Removal of messages and conversations.

A statement takes windows of a bounded number of rows, each along the unique index on conversation
and sequence number, so that what it costs depends on the rows that it handles, not on those there
are. Rows that others have locked are left for the next time. No statement takes a conversation's
row in a way that a send would wait for, except ADVANCE, for its own short time.
"""

from __future__ import annotations

from typing import Final

DEFAULT_POLICY: Final = "SELECT days FROM retention_policies WHERE scope_kind = 'default'"

PAGE: Final = """
SELECT c.id, c.tenant_id, c.retention_days, c.legal_hold, c.last_seq, c.purged_through_seq,
  t.scope_id IS NOT NULL AS has_tenant_policy, t.days AS tenant_days,
  n.created_at AS next_at, f.seq AS first_seq, f.deleted_at AS first_deleted_at
FROM (
  SELECT * FROM conversations
  WHERE id > $1 AND ($3::uuid IS NULL OR id = $3) ORDER BY id LIMIT $2
) c
LEFT JOIN retention_policies t ON t.scope_kind = 'tenant' AND t.scope_id = c.tenant_id
LEFT JOIN LATERAL (
  SELECT m.created_at FROM messages m
  WHERE m.conversation_id = c.id AND m.seq > c.purged_through_seq ORDER BY m.seq LIMIT 1
) n ON true
LEFT JOIN LATERAL (
  SELECT m.seq, m.deleted_at FROM messages m
  WHERE m.conversation_id = c.id AND m.seq <= c.purged_through_seq ORDER BY m.seq LIMIT 1
) f ON true
ORDER BY c.id
"""
"""After this id, so many, this one alone. With the first message not yet purged, and the first."""

UNHELD: Final = """
SELECT id FROM conversations WHERE id = ANY ($1::uuid[]) AND NOT legal_hold
ORDER BY id FOR KEY SHARE
"""
"""
Of these, the ones that are under no hold, which they stay until the transaction ends.

The lock lets sends through; who sets a hold waits for it.
"""

_WINDOWS: Final = """
WITH d AS (
  SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::timestamptz[], $4::integer[])
    AS d (conversation_id, after_seq, cutoff, rows_max)
), w AS MATERIALIZED (
  SELECT d.conversation_id, d.cutoff, m.id, m.seq, m.created_at, m.deleted_at
  FROM d CROSS JOIN LATERAL (
    SELECT x.id, x.seq, x.created_at, x.deleted_at FROM messages x
    WHERE x.conversation_id = d.conversation_id AND x.seq > d.after_seq
    ORDER BY x.seq LIMIT d.rows_max
  ) m
), e AS MATERIALIZED (
  SELECT conversation_id, count(*) AS seen, max(seq) AS last_seq,
    min(seq) FILTER (WHERE created_at >= cutoff) AS kept_seq
  FROM w GROUP BY conversation_id
), g AS MATERIALIZED (
  SELECT w.conversation_id, w.id, w.deleted_at FROM w JOIN e USING (conversation_id)
  WHERE e.kept_seq IS NULL OR w.seq < e.kept_seq
)
"""

_CLEAR: Final = """
, v AS (
  SELECT m.id FROM messages m
  WHERE m.id IN (SELECT g.id FROM g WHERE g.deleted_at IS NULL) AND m.deleted_at IS NULL
    AND NOT EXISTS (SELECT FROM notifications n WHERE n.message_id = m.id)
  ORDER BY m.id FOR NO KEY UPDATE SKIP LOCKED
), u AS (
  UPDATE messages m
  SET body = NULL, ciphertext = NULL, key_id = NULL, mentions = '{}', version = m.version + 1,
    -- The hash of a short text gives the text away.
    body_hash = sha256(uuid_send(m.id)), deleted_at = $5
  FROM v WHERE m.id = v.id
  RETURNING m.id, m.conversation_id
), s AS (
  DELETE FROM message_search s USING u WHERE s.message_id = u.id
)
SELECT e.conversation_id, e.seen, e.last_seq, e.kept_seq IS NOT NULL AS has_kept,
  ARRAY(SELECT u.id FROM u WHERE u.conversation_id = e.conversation_id) AS cleared
FROM e
"""
CLEAR: Final = _WINDOWS + _CLEAR
"""
Conversations, after these numbers, older than that, so many each; the time. Contents go, rows stay.

Ends before the first message of a window that is young enough to be kept: numbers and times grow
together, since both are given out under the conversation's lock. Messages that still have
notifications stay: those go first, see :data:`UNTELL`.
"""

_OLD_TOLD: Final = """
SELECT g.id, g.conversation_id FROM g
WHERE EXISTS (SELECT FROM notifications n WHERE n.message_id = g.id)
"""
OLD_TOLD: Final = _WINDOWS + _OLD_TOLD
"""As :data:`CLEAR`, without the time: the messages that have notifications."""

UNTELL: Final = """
WITH v AS MATERIALIZED (
  SELECT id FROM notifications WHERE message_id = ANY ($1::uuid[]) LIMIT $2
  FOR UPDATE SKIP LOCKED
), r AS (
  DELETE FROM notifications n USING v WHERE n.id = v.id RETURNING 1
)
SELECT count(*) AS removed FROM r
"""
"""
Messages, so many: their notifications, but those that others have in hand.

In transactions of their own, before any message is locked: receipts come to notifications by way
of messages, and there may be as many to one message as its conversation has members.
"""

_COUNT_OLD: Final = """
SELECT e.conversation_id, e.seen, e.last_seq, e.kept_seq IS NOT NULL AS has_kept,
  (SELECT count(*) FROM g WHERE g.conversation_id = e.conversation_id AND g.deleted_at IS NULL)
    AS messages
FROM e
"""
COUNT_OLD: Final = _WINDOWS + _COUNT_OLD
"""As :data:`CLEAR`, and changes nothing."""

REACHED: Final = """
SELECT d.conversation_id, r.seq
FROM unnest($1::uuid[], $2::bigint[], $3::timestamptz[]) AS d (conversation_id, seq_max, cutoff)
JOIN conversations c ON c.id = d.conversation_id
CROSS JOIN LATERAL (
  SELECT min(m.seq) AS seq FROM messages m
  WHERE m.conversation_id = c.id AND m.seq > c.purged_through_seq AND m.seq <= d.seq_max
    AND (m.deleted_at IS NULL OR m.created_at >= d.cutoff)
) k
CROSS JOIN LATERAL (
  SELECT max(m.seq) AS seq FROM messages m
  WHERE m.conversation_id = c.id AND m.seq > c.purged_through_seq AND m.seq <= d.seq_max
    AND (k.seq IS NULL OR m.seq < k.seq)
) r
WHERE r.seq IS NOT NULL
"""
"""Conversations, up to these numbers, older than that: the last number before a message kept."""

ADVANCE: Final = """
WITH d AS (
  SELECT * FROM unnest($1::uuid[], $2::bigint[]) AS d (conversation_id, seq)
), c AS (
  SELECT c.id, d.seq FROM conversations c JOIN d ON d.conversation_id = c.id
  WHERE NOT c.legal_hold AND c.purged_through_seq < d.seq
  ORDER BY c.id FOR NO KEY UPDATE OF c
), u AS (
  UPDATE conversations SET purged_through_seq = c.seq
  FROM c WHERE conversations.id = c.id AND conversations.purged_through_seq < c.seq
  RETURNING conversations.id, c.seq
), o AS (
  INSERT INTO outbox (topic, key, payload)
  SELECT 'conversation', u.id::text, jsonb_build_object(
    'type', 'conversation.purged', 'conversationId', u.id, 'purgedThroughSeq', u.seq)
  FROM u
)
SELECT count(*) AS moved FROM u
"""
"""Conversations, their new marks."""

CLEARED: Final = """
SELECT m.id, m.conversation_id, m.n_recipients,
  EXISTS (SELECT FROM notifications n WHERE n.message_id = m.id) AS is_told
FROM unnest($1::uuid[], $2::integer[]) AS d (conversation_id, rows_max)
JOIN conversations c ON c.id = d.conversation_id
CROSS JOIN LATERAL (
  SELECT x.id, x.conversation_id, x.n_recipients FROM messages x
  WHERE x.conversation_id = c.id AND x.seq <= c.purged_through_seq AND x.deleted_at < $3
  ORDER BY x.seq LIMIT d.rows_max
) m
"""
"""Conversations, so many each, cleared before: messages whose rows may go, none of them locked."""

ANY_MESSAGES: Final = """
SELECT id, n_recipients FROM messages WHERE conversation_id = $1 ORDER BY seq LIMIT $2
"""

LOCK: Final = """
WITH d AS MATERIALIZED (
  SELECT message_id, user_id FROM message_deliveries WHERE message_id = ANY ($1::uuid[])
  ORDER BY message_id, user_id FOR UPDATE SKIP LOCKED
), b AS MATERIALIZED (
  SELECT x.message_id FROM message_deliveries x
  WHERE x.message_id = ANY ($1::uuid[]) AND NOT EXISTS (
    SELECT FROM d WHERE d.message_id = x.message_id AND d.user_id = x.user_id
  )
)
SELECT m.id FROM messages m
WHERE m.id = ANY ($1::uuid[]) AND m.id NOT IN (SELECT b.message_id FROM b)
  AND NOT EXISTS (SELECT FROM notifications n WHERE n.message_id = m.id)
ORDER BY m.id FOR UPDATE SKIP LOCKED
"""
"""
Of these messages, those that nobody else has in hand, nor any of their delivery rows, and that have
no notifications, see :data:`UNTELL`.
"""

REMOVE: Final = """
WITH v AS (DELETE FROM messages WHERE id = ANY ($1::uuid[]) RETURNING 1)
SELECT count(*) AS removed FROM v
"""

DELETED_WITH_FILES: Final = """
WITH w AS MATERIALIZED (
  SELECT id, conversation_id, deleted_at FROM messages
  WHERE deleted_at IS NOT NULL AND deleted_at >= $1 AND deleted_at < $3
    AND (deleted_at, id) > ($1, $2::uuid)
  ORDER BY deleted_at, id LIMIT $4
), l AS (
  SELECT deleted_at, id, count(*) OVER () AS seen FROM w ORDER BY deleted_at DESC, id DESC LIMIT 1
)
SELECT l.deleted_at AS last_at, l.id AS last_id, l.seen,
  ARRAY(
    SELECT w.id FROM w WHERE EXISTS (SELECT FROM message_attachments a WHERE a.message_id = w.id)
  ) AS messages,
  ARRAY(SELECT DISTINCT w.conversation_id FROM w) AS conversations
FROM l
"""
"""After this time and id, before that, so many: deleted messages that still have attachments."""

OF_CONVERSATIONS: Final = """
SELECT id FROM messages
WHERE id = ANY ($1::uuid[]) AND conversation_id = ANY ($2::uuid[]) AND deleted_at IS NOT NULL
"""

DELETED_CONVERSATIONS: Final = """
SELECT id, deleted_at FROM conversations
WHERE deleted_at IS NOT NULL AND deleted_at < $1 AND NOT legal_hold AND deleted_at >= $2
  AND (deleted_at, id) > ($2, $3::uuid) AND ($5::uuid IS NULL OR id = $5)
ORDER BY deleted_at, id LIMIT $4
"""
"""Deleted before, after this time and id, so many, this one alone."""

STILL_DELETED: Final = """
SELECT id FROM conversations
WHERE id = $1 AND NOT legal_hold AND deleted_at IS NOT NULL AND deleted_at < $2
FOR KEY SHARE
"""

COUNT_MESSAGES: Final = "SELECT count(*) FROM messages WHERE conversation_id = ANY ($1::uuid[])"

REMOVE_NOTIFICATIONS: Final = """
WITH v AS MATERIALIZED (
  SELECT id FROM notifications WHERE conversation_id = $1 LIMIT $2
  FOR UPDATE SKIP LOCKED
), r AS (
  DELETE FROM notifications n USING v WHERE n.id = v.id RETURNING 1
)
SELECT count(*) AS removed FROM r
"""

REMOVE_MEMBERS: Final = """
WITH v AS MATERIALIZED (
  SELECT user_id FROM conversation_members WHERE conversation_id = $1 ORDER BY user_id LIMIT $2
  FOR UPDATE SKIP LOCKED
), r AS (
  DELETE FROM conversation_members m USING v
  WHERE m.conversation_id = $1 AND m.user_id = v.user_id RETURNING 1
)
SELECT count(*) AS removed FROM r
"""

REMOVE_KEYS: Final = """
WITH r AS (DELETE FROM encryption_keys WHERE conversation_id = $1 RETURNING 1)
SELECT count(*) AS removed FROM r
"""

REMOVE_CONVERSATION: Final = """
WITH v AS MATERIALIZED (
  SELECT id, deleted_at FROM conversations c
  WHERE id = $1 AND NOT legal_hold AND deleted_at IS NOT NULL AND deleted_at < $2
    AND NOT EXISTS (SELECT FROM messages m WHERE m.conversation_id = c.id)
  FOR UPDATE SKIP LOCKED
), r AS (
  DELETE FROM conversations c USING v WHERE c.id = v.id RETURNING c.id
), a AS (
  INSERT INTO audit_log (actor, action, subject)
  SELECT 'retention', 'conversation.removed',
    jsonb_build_object(
      'conversationId', v.id, 'deletedAt', iso_utc(v.deleted_at), 'keys', $3::bigint)
  FROM v
)
SELECT count(*) AS removed FROM r
"""
"""Conversation, deleted before, keys that went with it. Its last row, once no message is left."""

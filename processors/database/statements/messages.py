"""
Sending: messages, their numbers, rows, events and follow-up jobs in one statement.

LOCK comes first, in the same transaction: whoever holds a conversation's row gives out its next
numbers, so these have no gaps and follow the order of commits: who sees N can see N - 1. The
statement after it has a snapshot from after the wait, so it sees every message sent before.
"""

from __future__ import annotations

from typing import Final

LOCK: Final = """
SELECT id, encrypted FROM conversations
WHERE id = ANY ($1::uuid[]) AND deleted_at IS NULL
ORDER BY id
FOR NO KEY UPDATE
"""
"""Conversations. Deleted and unknown ones are left out."""

INSERT: Final = """
WITH n AS (
  SELECT * FROM unnest(
    $1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::bytea[], $6::text[], $7::text[],
    $8::bytea[], $9::uuid[], $10::text[], $11::text[]
  ) WITH ORDINALITY AS n (id, conversation_id, sender_id, client_msg_id, body_hash, kind, body,
    ciphertext, key_id, mentions, attachments, place)
), g AS (
  SELECT n.*, c.search_mode,
    c.last_seq + row_number() OVER (PARTITION BY n.conversation_id ORDER BY n.place) AS seq
  FROM n
  JOIN conversations c ON c.id = n.conversation_id
    AND c.deleted_at IS NULL AND c.encrypted = (n.key_id IS NOT NULL)
  JOIN conversation_members s ON s.conversation_id = n.conversation_id
    AND s.user_id = n.sender_id AND s.left_at IS NULL
  JOIN users u ON u.id = n.sender_id AND u.disabled_at IS NULL
  WHERE NOT EXISTS (
    SELECT FROM messages x WHERE x.conversation_id = n.conversation_id
      AND x.sender_id = n.sender_id AND x.client_msg_id = n.client_msg_id
  )
), r AS MATERIALIZED (
  SELECT q.conversation_id, m.user_id
  FROM (SELECT DISTINCT conversation_id FROM g) q
  CROSS JOIN LATERAL (
    SELECT user_id FROM conversation_members
    WHERE conversation_id = q.conversation_id AND left_at IS NULL
    LIMIT $12::integer + 2
  ) m
), k AS (
  SELECT conversation_id,
    CASE WHEN count(*) <= $12 + 1 THEN (count(*) - 1)::integer END AS recipients
  FROM r GROUP BY conversation_id
), m AS (
  INSERT INTO messages
    (id, conversation_id, seq, sender_id, client_msg_id, body_hash, kind, body, ciphertext, key_id,
     mentions, n_recipients, created_at)
  SELECT coalesce(g.id, uuid_v7()), conversation_id, g.seq, g.sender_id, g.client_msg_id,
    g.body_hash, g.kind, g.body, g.ciphertext, g.key_id, g.mentions::uuid[], k.recipients,
    clock_timestamp()
  FROM g JOIN k USING (conversation_id)
  ORDER BY g.place
  RETURNING id, conversation_id, seq, sender_id, client_msg_id, kind, body, key_id, mentions,
    n_recipients, created_at
), s AS (
  UPDATE conversations c SET last_seq = t.seq
  FROM (SELECT conversation_id, max(seq) AS seq FROM m GROUP BY conversation_id) t
  WHERE c.id = t.conversation_id
), d AS (
  INSERT INTO message_deliveries (message_id, user_id, conversation_id, seq, sent_at)
  SELECT m.id, r.user_id, m.conversation_id, m.seq, m.created_at
  FROM m JOIN r USING (conversation_id)
  WHERE m.n_recipients IS NOT NULL AND r.user_id <> m.sender_id
), o AS (
  INSERT INTO outbox (topic, key, payload)
  SELECT 'conversation', m.conversation_id::text, jsonb_build_object(
    'type', 'message.created', 'conversationId', m.conversation_id, 'messageId', m.id,
    'seq', m.seq, 'senderId', m.sender_id, 'clientMessageId', m.client_msg_id, 'kind', m.kind,
    'sentAt', iso_utc(m.created_at))
    || CASE WHEN m.key_id IS NULL
      THEN jsonb_build_object('content', m.body) ELSE '{"encrypted": true}' END
    || CASE WHEN m.mentions = '{}'
      THEN '{}' ELSE jsonb_build_object('mentions', m.mentions) END
    || CASE WHEN g.attachments = '{}'
      THEN '{}' ELSE jsonb_build_object('attachments', g.attachments::uuid[]) END
  FROM m JOIN g USING (conversation_id, seq)
  ORDER BY m.conversation_id, m.seq
), i AS (
  INSERT INTO outbox (topic, key, payload)
  SELECT 'job', 'indexing', jsonb_build_object(
    'id', 'index-' || min(m.id::text), 'type', 'indexing', 'lane', 'normal',
    'data', jsonb_build_object('action', 'index', 'messageIds', jsonb_agg(m.id)))
  FROM m JOIN g USING (conversation_id, seq)
  WHERE $13 AND g.search_mode <> 'none'
  HAVING count(*) > 0
), f AS (
  INSERT INTO outbox (topic, key, payload)
  SELECT 'job', 'notification', jsonb_build_object(
    'id', 'notify-' || min(m.id::text), 'type', 'notification', 'lane', 'normal',
    'data', jsonb_build_object('action', 'message', 'messageIds', jsonb_agg(m.id ORDER BY m.seq)))
  FROM m WHERE $14
  GROUP BY m.conversation_id
)
SELECT g.place, m.id, m.seq, m.n_recipients FROM m JOIN g USING (conversation_id, seq)
"""
"""
Arrays of ids (null: made here), conversations, senders, client ids, hashes, kinds, bodies,
ciphertexts, keys, mentions and attachments (as array literals); then rows at most, whether to
index, whether to notify. Places count from 1. What may not be sent, or was sent before, has no row.
"""

FIND_SENT: Final = """
SELECT n.place, m.id, m.seq, m.n_recipients, m.body_hash, m.deleted_at IS NOT NULL AS is_deleted
FROM unnest($1::uuid[], $2::uuid[], $3::text[])
  WITH ORDINALITY AS n (conversation_id, sender_id, client_msg_id, place)
JOIN messages m USING (conversation_id, sender_id, client_msg_id)
"""
"""Conversations, senders, client ids: the messages that these stand for already."""

FOR_CHANGE: Final = """
SELECT m.id, m.conversation_id, m.seq, m.sender_id, m.version, m.kind, m.body,
  m.deleted_at IS NOT NULL AS is_deleted, c.encrypted, c.legal_hold, s.role,
  s.user_id IS NOT NULL AND s.left_at IS NULL AND u.disabled_at IS NULL AS is_member,
  ARRAY(SELECT attachment_id FROM message_attachments a WHERE a.message_id = m.id
    ORDER BY position) AS attachments
FROM messages m
JOIN conversations c ON c.id = m.conversation_id AND c.deleted_at IS NULL
LEFT JOIN conversation_members s ON s.conversation_id = m.conversation_id AND s.user_id = $2
LEFT JOIN users u ON u.id = s.user_id
WHERE m.id = $1
"""
"""Message, user: what has to be known before a change."""

EDIT: Final = """
WITH c AS (
  -- Held, so that encryption cannot be turned on, nor a hold be laid, between look and change.
  SELECT id FROM conversations
  WHERE id = $7 AND deleted_at IS NULL AND NOT legal_hold AND encrypted = ($5::uuid IS NOT NULL)
  FOR SHARE
), m AS (
  -- The hash stays what it says: whether the message is sent again, as it was written first.
  UPDATE messages m SET body = $3, ciphertext = $4, key_id = $5,
    body_hash = coalesce($8::bytea, m.body_hash),
    version = m.version + 1, edited_at = clock_timestamp()
  FROM c
  WHERE m.id = $1 AND m.conversation_id = c.id AND m.version = $2 AND m.deleted_at IS NULL
  RETURNING m.id, m.conversation_id, m.seq, m.version, m.key_id, m.body, m.edited_at
), o AS (
  INSERT INTO outbox (topic, key, payload)
  SELECT 'conversation', m.conversation_id::text, jsonb_build_object(
    'type', 'message.edited', 'conversationId', m.conversation_id, 'messageId', m.id,
    'seq', m.seq, 'version', m.version, 'editedAt', iso_utc(m.edited_at))
    || CASE WHEN m.key_id IS NULL
      THEN jsonb_build_object('content', m.body) ELSE '{"encrypted": true}' END
  FROM m
), i AS (
  INSERT INTO outbox (topic, key, payload)
  SELECT 'job', 'indexing', jsonb_build_object(
    'id', 'update-' || m.id || '-' || m.version, 'type', 'indexing', 'lane', 'normal',
    'data', jsonb_build_object('action', 'update', 'messageIds', jsonb_build_array(m.id)))
  FROM m WHERE $6
)
SELECT version FROM m
"""
"""
Message, version, body, ciphertext, key, whether to index, conversation, hash (null: as it is). No
row: the message or its conversation changed meanwhile.
"""

DELETE: Final = """
WITH c AS (
  SELECT id FROM conversations WHERE id = $3 AND NOT legal_hold FOR SHARE
), m AS (
  -- A hash of a short text would give it away.
  UPDATE messages m SET body = NULL, ciphertext = NULL, key_id = NULL, mentions = '{}',
    body_hash = sha256(uuid_send(m.id)),
    version = m.version + 1, deleted_at = clock_timestamp()
  FROM c
  WHERE m.id = $1 AND m.conversation_id = c.id AND m.deleted_at IS NULL
  RETURNING m.id, m.conversation_id, m.seq
), o AS (
  INSERT INTO outbox (topic, key, payload)
  SELECT 'conversation', m.conversation_id::text, jsonb_build_object(
    'type', 'message.deleted', 'conversationId', m.conversation_id, 'messageId', m.id,
    'seq', m.seq)
  FROM m
), i AS (
  INSERT INTO outbox (topic, key, payload)
  SELECT 'job', 'indexing', jsonb_build_object(
    'id', 'delete-' || m.id, 'type', 'indexing', 'lane', 'normal',
    'data', jsonb_build_object('action', 'delete', 'messageIds', jsonb_build_array(m.id)))
  FROM m WHERE $2
)
SELECT id FROM m
"""
"""Message, whether to index, conversation. No row: it was deleted before, or is held."""

STATUS: Final = """
SELECT m.id, m.conversation_id, m.seq, m.n_recipients, m.n_delivered, m.n_read, m.version,
  m.created_at, m.edited_at, m.deleted_at
FROM messages m WHERE m.id = $1
"""

"""Data keys and what they seal."""

from __future__ import annotations

from typing import Final

RESERVE: Final = """
WITH k AS (
  SELECT id, epoch, state FROM encryption_keys
  WHERE conversation_id = $1 AND purpose = 'data' ORDER BY epoch DESC LIMIT 1
), u AS (
  UPDATE encryption_keys e SET uses = e.uses + $2
  FROM k
  WHERE e.id = k.id AND e.state = 'active' AND e.uses + $2 <= $3 AND e.created_at > $4
  RETURNING e.id, e.conversation_id, e.purpose, e.epoch, e.kek_id, e.wrapped, e.state,
    e.created_at
)
SELECT c.tenant_id, k.epoch AS latest, k.state AS latest_state, u.*
FROM conversations c LEFT JOIN k ON true LEFT JOIN u ON true
WHERE c.id = $1
"""
"""
Conversation, uses to book, uses at most, created after. No row: there is no such conversation;
no id in it: its latest key may not be used any more, or it has none.
"""

LATEST: Final = """
SELECT c.tenant_id, k.id, k.conversation_id, k.purpose, k.epoch, k.kek_id, k.wrapped, k.state
FROM conversations c
LEFT JOIN LATERAL (
  SELECT * FROM encryption_keys e
  WHERE e.conversation_id = c.id AND e.purpose = $2 ORDER BY e.epoch DESC LIMIT 1
) k ON true
WHERE c.id = $1
"""
"""Conversation, purpose. No row: there is no such conversation; no id in it: it has no key."""

BEGIN_EPOCH: Final = """
WITH n AS (
  INSERT INTO encryption_keys (id, conversation_id, purpose, epoch, kek_id, wrapped, created_at)
  SELECT $1, $2, $3, $4::integer + 1, $5, $6, $7
  WHERE $4 = (
    SELECT coalesce(max(epoch), 0) FROM encryption_keys WHERE conversation_id = $2 AND purpose = $3
  )
  ON CONFLICT (conversation_id, purpose, epoch) DO NOTHING
  RETURNING id, conversation_id, purpose, epoch
), r AS (
  UPDATE encryption_keys e SET state = 'retired'
  FROM n
  WHERE e.conversation_id = n.conversation_id AND e.purpose = n.purpose AND e.epoch < n.epoch
    AND e.state = 'active'
)
SELECT epoch FROM n
"""
"""Id, conversation, purpose, epoch before, wrapper, wrapped, time. No row: another came first."""

KEYS: Final = """
SELECT c.tenant_id, k.id, k.conversation_id, k.purpose, k.epoch, k.kek_id, k.wrapped, k.state
FROM encryption_keys k JOIN conversations c ON c.id = k.conversation_id
WHERE k.id = ANY ($1::uuid[])
"""

QUARANTINE: Final = """
WITH b AS (
  SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::bytea[], $4::text[])
    AS t (message_id, key_id, ciphertext, code)
), q AS (
  INSERT INTO encryption_quarantine (message_id, version, key_id, code)
  SELECT m.id, m.version, m.key_id, b.code
  FROM b JOIN messages m ON m.id = b.message_id
  WHERE m.key_id = b.key_id AND m.ciphertext = b.ciphertext
  ON CONFLICT (message_id, version) DO NOTHING
  RETURNING message_id, version, key_id, code
), a AS (
  INSERT INTO audit_log (actor, action, subject)
  SELECT 'processors', 'encryption.quarantine', jsonb_build_object(
    'messageId', q.message_id, 'version', q.version, 'keyId', q.key_id, 'code', q.code)
  FROM q
)
SELECT message_id, code FROM q
"""
"""Messages, keys, records, codes. Only what a message still holds is set aside, and once."""

PLAIN: Final = """
SELECT m.id, m.conversation_id, m.seq, m.version, m.kind, m.body, m.body_hash, c.search_mode,
  ARRAY(SELECT attachment_id FROM message_attachments a WHERE a.message_id = m.id
    ORDER BY position) AS attachments
FROM messages m JOIN conversations c ON c.id = m.conversation_id
WHERE m.id = ANY ($1::uuid[]) AND m.body IS NOT NULL AND c.encrypted
ORDER BY m.id
"""
"""Messages: those that should be encrypted and are not."""

PLAIN_AFTER: Final = """
SELECT m.id, m.conversation_id, m.seq, m.version, m.kind, m.body, m.body_hash, c.search_mode,
  ARRAY(SELECT attachment_id FROM message_attachments a WHERE a.message_id = m.id
    ORDER BY position) AS attachments
FROM messages m JOIN conversations c ON c.id = m.conversation_id
WHERE m.conversation_id = $1 AND m.seq > $2 AND m.seq <= $3
  AND m.body IS NOT NULL AND c.encrypted
ORDER BY m.seq LIMIT $4
"""
"""Conversation, places after and up to, at most: those that should be encrypted and are not."""

LAST_SEQ: Final = "SELECT last_seq FROM conversations WHERE id = $1"

ENCRYPT: Final = """
WITH n AS (
  SELECT * FROM unnest($1::uuid[], $2::integer[], $3::bytea[], $4::uuid[], $5::bytea[])
    AS n (id, version, ciphertext, key_id, body_hash)
), l AS MATERIALIZED (
  SELECT m.id FROM messages m JOIN n ON n.id = m.id
  WHERE m.version = n.version AND m.body IS NOT NULL
  ORDER BY m.id FOR NO KEY UPDATE OF m
), u AS (
  UPDATE messages m
  SET body = NULL, ciphertext = n.ciphertext, key_id = n.key_id, body_hash = n.body_hash
  FROM n JOIN l ON l.id = n.id
  WHERE m.id = n.id AND m.version = n.version AND m.body IS NOT NULL
  RETURNING m.id
), s AS (
  -- What is found by plain words goes with the plain content.
  DELETE FROM message_search s USING u WHERE s.message_id = u.id
)
SELECT count(*) AS changed FROM u
"""
"""Messages, the versions they have, records, keys, hashes. Others than these are left alone."""

FORGET_WORDS: Final = """
WITH d AS (
  DELETE FROM message_search WHERE conversation_id = $1 AND tsv IS NOT NULL RETURNING message_id
)
SELECT d.message_id AS id, c.search_mode FROM d JOIN conversations c ON c.id = $1
"""
"""What an index job left behind that had begun before the conversation was encrypted."""

OUTDATED: Final = """
SELECT m.id, m.seq, m.version, m.ciphertext, m.key_id
FROM messages m
WHERE m.conversation_id = $1 AND m.seq > $2 AND m.seq <= $3 AND m.key_id <> $5
  AND NOT EXISTS (
    SELECT FROM encryption_quarantine q WHERE q.message_id = m.id AND q.version = m.version
  )
ORDER BY m.seq LIMIT $4
"""
"""Conversation, places after and up to, at most, present key: what older keys sealed."""

RE_ENCRYPT: Final = """
WITH n AS (
  SELECT * FROM unnest($1::uuid[], $2::integer[], $3::uuid[], $4::bytea[], $5::uuid[])
    AS n (id, version, old_key_id, ciphertext, key_id)
), l AS MATERIALIZED (
  SELECT m.id FROM messages m JOIN n ON n.id = m.id
  WHERE m.version = n.version AND m.key_id = n.old_key_id
  ORDER BY m.id FOR NO KEY UPDATE OF m
), u AS (
  UPDATE messages m SET ciphertext = n.ciphertext, key_id = n.key_id
  FROM n JOIN l ON l.id = n.id
  WHERE m.id = n.id AND m.version = n.version AND m.key_id = n.old_key_id
  RETURNING m.id
)
SELECT count(*) AS changed FROM u
"""
"""Messages, the versions and keys they have, new records, new keys."""

RETIRED: Final = """
SELECT k.id, k.conversation_id FROM encryption_keys k
WHERE k.state = 'retired' AND k.purpose = 'data' AND ($1::uuid IS NULL OR k.id > $1)
  AND EXISTS (SELECT FROM messages m WHERE m.key_id = k.id)
ORDER BY k.id LIMIT $2
"""
"""Key to begin after, at most: retired keys by which messages are sealed still."""

REWRAPPABLE: Final = """
SELECT k.id, k.conversation_id, k.purpose, k.kek_id, k.wrapped, k.state, c.tenant_id
FROM encryption_keys k JOIN conversations c ON c.id = k.conversation_id
WHERE ($1::uuid IS NULL OR k.id > $1) AND k.kek_id <> $2 AND k.wrapped IS NOT NULL
ORDER BY k.id LIMIT $3
"""
"""Key to begin after, primary wrapper, at most: keys that another one wrapped."""

REWRAP: Final = """
UPDATE encryption_keys k SET kek_id = n.kek_id, wrapped = n.wrapped
FROM unnest($1::uuid[], $2::bytea[], $3::text[], $4::bytea[])
  AS n (id, old_wrapped, kek_id, wrapped)
WHERE k.id = n.id AND k.wrapped = n.old_wrapped
RETURNING k.id
"""
"""Keys, their wrapped forms, new wrappers, new forms."""

FOR_SHREDDING: Final = """
SELECT deleted_at IS NOT NULL AS is_deleted, legal_hold,
  EXISTS (SELECT FROM messages m WHERE m.conversation_id = c.id AND m.body IS NOT NULL) AS is_plain
FROM conversations c WHERE id = $1 FOR NO KEY UPDATE
"""

SHRED: Final = """
UPDATE encryption_keys SET wrapped = NULL, state = 'shredded'
WHERE conversation_id = $1 AND wrapped IS NOT NULL
RETURNING id
"""

FORGET_SEARCH: Final = """
WITH v AS (
  SELECT message_id FROM message_search WHERE conversation_id = $1
  ORDER BY message_id LIMIT $2 FOR UPDATE
), d AS (
  DELETE FROM message_search s USING v WHERE s.message_id = v.message_id RETURNING s.message_id
)
SELECT count(*) AS removed FROM d
"""

TURN_ON: Final = """
UPDATE conversations
SET encrypted = true,
  search_mode = CASE WHEN search_mode = 'text' THEN $2 ELSE search_mode END
WHERE id = $1 AND NOT encrypted
RETURNING id
"""

READ: Final = """
SELECT id, conversation_id, version, body, ciphertext, key_id
FROM messages WHERE id = ANY ($1::uuid[]) AND (body IS NOT NULL OR ciphertext IS NOT NULL)
"""

STORE: Final = """
UPDATE messages m SET body = n.body, ciphertext = NULL, key_id = NULL
FROM unnest($1::uuid[], $2::integer[], $3::uuid[], $4::text[]) AS n (id, version, key_id, body)
WHERE m.id = n.id AND m.version = n.version AND m.key_id = n.key_id
RETURNING m.id
"""
"""Messages, the versions and keys they have, contents."""

AUDIT: Final = "INSERT INTO audit_log (actor, action, subject) VALUES ($1, $2, $3)"

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

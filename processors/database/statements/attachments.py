"""Attachments: uploaded, claimed by messages, let go with the last of them."""

from __future__ import annotations

from typing import Final

CLAIMABLE: Final = """
SELECT n.place, a.id
FROM unnest($1::bigint[], $2::uuid[], $3::uuid[]) AS n (place, attachment_id, sender_id)
JOIN attachments a ON a.id = n.attachment_id AND a.state <> 'pending'
WHERE a.owner_id = n.sender_id OR EXISTS (
  -- Forwarding: seen by the sender in a conversation of theirs.
  SELECT FROM message_attachments x
  JOIN messages m ON m.id = x.message_id AND m.deleted_at IS NULL
  JOIN conversation_members s ON s.conversation_id = m.conversation_id
  WHERE x.attachment_id = a.id AND s.user_id = n.sender_id AND s.left_at IS NULL
    AND m.seq > s.joined_seq
)
ORDER BY a.id
FOR NO KEY UPDATE OF a
"""
"""
Places, attachments, senders: those that may be attached.

Belongs to the transaction that inserts the messages. The row's lock is what keeps cleanup from
taking an attachment whose last reference goes at the same time: it looks for references only once
it has the lock, and finds the new one or removes the row, which is then not among those found.
"""

ATTACH: Final = """
WITH n AS (
  SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::smallint[])
    AS n (message_id, attachment_id, position)
), a AS (
  UPDATE attachments SET state = 'attached'
  WHERE id IN (SELECT attachment_id FROM n) AND state <> 'attached'
)
INSERT INTO message_attachments (message_id, attachment_id, position) SELECT * FROM n
"""
"""Messages, attachments, positions."""

DETACH: Final = """
DELETE FROM message_attachments WHERE message_id = ANY ($1::uuid[]) RETURNING attachment_id
"""

LOCK: Final = "SELECT id FROM attachments WHERE id = ANY ($1::uuid[]) ORDER BY id FOR UPDATE"
"""
Comes before :data:`RELEASE`, in a statement of its own.

What other transactions did to the references before they let go of the rows is seen by the next
statement, and not by this one.
"""

RELEASE: Final = """
WITH a AS (
  DELETE FROM attachments a
  WHERE a.id = ANY ($1::uuid[])
    AND NOT EXISTS (SELECT FROM message_attachments r WHERE r.attachment_id = a.id)
  RETURNING a.object_key, a.thumbnail_keys
), k AS (
  INSERT INTO object_deletions (key, not_before)
  SELECT k.key, $2 FROM a CROSS JOIN LATERAL unnest(a.object_key || a.thumbnail_keys) AS k (key)
  ON CONFLICT (key) DO NOTHING
  RETURNING 1
)
SELECT (SELECT count(*) FROM a) AS attachments, (SELECT count(*) FROM k) AS objects
"""
"""Attachments, the time. Those without any reference go, and their keys into the ledger."""

BEGIN: Final = """
INSERT INTO attachments (id, owner_id, object_key, media_type, size, created_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)
"""

FIND_OWN: Final = """
SELECT id, object_key, state, media_type, size, sha256 FROM attachments
WHERE id = $1 AND owner_id = $2
"""

COMPLETE: Final = """
UPDATE attachments SET state = 'ready', sha256 = $3
WHERE id = $1 AND state = 'pending' AND size = $2
RETURNING id
"""

DISCARD: Final = """
SELECT id FROM attachments WHERE id = $1 AND owner_id = $2 AND state <> 'attached' FOR UPDATE
"""

ADD_THUMBNAIL: Final = """
UPDATE attachments
SET thumbnail_keys = array_remove(thumbnail_keys, $2::text) || $2::text
WHERE id = $1
RETURNING id
"""

VISIBLE: Final = """
SELECT a.id, a.object_key, a.thumbnail_keys, a.state, a.media_type, a.size, a.sha256
FROM attachments a
WHERE a.id = $1 AND a.state <> 'pending' AND (
  a.owner_id = $2 OR EXISTS (
    SELECT FROM message_attachments r
    JOIN messages m ON m.id = r.message_id AND m.deleted_at IS NULL
    JOIN conversations c ON c.id = m.conversation_id AND c.deleted_at IS NULL
    JOIN conversation_members s ON s.conversation_id = c.id AND s.user_id = $2
      AND s.left_at IS NULL AND m.seq > s.joined_seq
    WHERE r.attachment_id = a.id
  )
)
"""
"""Attachment, user: their own, or one that a message holds which they may see."""

EXPIRE: Final = """
WITH v AS MATERIALIZED (
  SELECT id FROM attachments WHERE state <> 'attached' AND expires_at < $1
  ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED
), a AS (
  DELETE FROM attachments a USING v WHERE a.id = v.id RETURNING a.object_key, a.thumbnail_keys
), k AS (
  INSERT INTO object_deletions (key, not_before)
  SELECT k.key, $1 FROM a CROSS JOIN LATERAL unnest(a.object_key || a.thumbnail_keys) AS k (key)
  ON CONFLICT (key) DO NOTHING
  RETURNING 1
)
SELECT (SELECT count(*) FROM a) AS attachments, (SELECT count(*) FROM k) AS objects
"""
"""The time, so many. Uploads that no message claimed in time."""

COUNT_EXPIRED: Final = """
SELECT (SELECT count(*) FROM attachments WHERE state <> 'attached' AND expires_at < $1)
    AS attachments,
  (SELECT count(*) FROM object_deletions WHERE not_before <= $1) AS objects
"""

CLAIM_DELETIONS: Final = """
WITH v AS MATERIALIZED (
  SELECT key FROM object_deletions
  WHERE not_before <= $1 AND (lease_until IS NULL OR lease_until <= $1 OR lease_by = $4)
  ORDER BY not_before LIMIT $2 FOR UPDATE SKIP LOCKED
)
UPDATE object_deletions d SET lease_until = $3, lease_by = $4 FROM v WHERE d.key = v.key
RETURNING d.key, d.attempts
"""
"""The time, so many, leased until, by which job, which may take over leases of its own."""

DELETED: Final = """
WITH v AS (DELETE FROM object_deletions WHERE key = ANY ($1::text[]) RETURNING 1)
SELECT count(*) AS removed FROM v
"""

FAILED: Final = """
UPDATE object_deletions d
SET attempts = d.attempts + 1, last_error = f.error, not_before = f.not_before,
  lease_until = NULL, lease_by = NULL
FROM unnest($1::text[], $2::text[], $3::timestamptz[]) AS f (key, error, not_before)
WHERE d.key = f.key
"""
"""Keys, what went wrong, when to try again."""

UNLEASE: Final = """
UPDATE object_deletions SET lease_until = NULL, lease_by = NULL WHERE key = ANY ($1::text[])
"""

KEYS_OF_SHARD: Final = """
SELECT a.id, a.object_key, a.thumbnail_keys, a.state,
  a.state = 'attached' AND NOT EXISTS (
    SELECT FROM message_attachments r WHERE r.attachment_id = a.id
  ) AS is_unheld
FROM attachments a WHERE a.object_key >= $1 AND a.object_key < $2
"""

DELETIONS_OF_SHARD: Final = "SELECT key FROM object_deletions WHERE key >= $1 AND key < $2"

STILL_STORED: Final = """
SELECT id FROM attachments WHERE id = ANY ($1::uuid[]) AND state <> 'pending'
"""

ADD_DELETIONS: Final = """
WITH k AS (
  INSERT INTO object_deletions (key, not_before) SELECT k.key, $2 FROM unnest($1::text[]) AS k (key)
  WHERE NOT EXISTS (
    SELECT FROM attachments a
    WHERE a.object_key = split_part(k.key, '.', 1)
      AND (a.object_key = k.key OR k.key = ANY (a.thumbnail_keys))
  )
  ON CONFLICT (key) DO NOTHING RETURNING 1
)
SELECT count(*) AS added FROM k
"""
"""Keys that no row knows, the time."""

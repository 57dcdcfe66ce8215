"""Messages behind a position, as members and gateways read them."""

from __future__ import annotations

from typing import Final

_FIELDS: Final = """
  m.id, m.seq, m.sender_id, m.client_msg_id, m.kind, m.body, m.ciphertext, m.key_id, m.version,
  m.mentions, iso_utc(m.created_at) AS sent_at, iso_utc(m.edited_at) AS edited_at,
  m.deleted_at IS NOT NULL AS is_deleted,
  ARRAY(SELECT a.attachment_id FROM message_attachments a WHERE a.message_id = m.id
    ORDER BY a.position) AS attachments
"""

PAGE: Final = f"""
WITH s AS (
  SELECT c.id AS conversation_id, least(c.last_seq, $5::bigint) AS last_seq,
    c.purged_through_seq,
    greatest(least($3::bigint, c.last_seq), c.purged_through_seq, cm.joined_seq) AS start_seq
  FROM conversations c JOIN conversation_members cm ON cm.conversation_id = c.id
  WHERE c.id = $1 AND c.deleted_at IS NULL AND cm.user_id = $2 AND cm.left_at IS NULL
)
SELECT s.last_seq, s.purged_through_seq, s.start_seq, p.*
FROM s LEFT JOIN LATERAL (
  SELECT {_FIELDS} FROM messages m
  WHERE m.conversation_id = s.conversation_id AND m.seq > s.start_seq AND m.seq <= s.last_seq
  ORDER BY m.seq LIMIT $4
) p ON true
ORDER BY p.seq
"""  # noqa: S608 - the columns above, nothing from outside
"""Conversation, user, position, messages at most, last place. No row: not an active member."""

MISSED: Final = f"""
SELECT {_FIELDS} FROM messages m
WHERE m.conversation_id = $1 AND m.seq > $2 AND m.seq <= $3 ORDER BY m.seq LIMIT $4
"""  # noqa: S608
"""Conversation, position, last place, messages at most; whoever may see them."""

LAST_SEQS: Final = "SELECT id, last_seq FROM conversations WHERE id = ANY ($1::uuid[])"

GONE_MEMBERS: Final = """
SELECT q.conversation_id, q.user_id
FROM unnest($1::uuid[], $2::uuid[]) AS q (conversation_id, user_id)
WHERE NOT EXISTS (
  SELECT FROM conversation_members m JOIN conversations c ON c.id = m.conversation_id
  WHERE m.conversation_id = q.conversation_id AND m.user_id = q.user_id
    AND m.left_at IS NULL AND c.deleted_at IS NULL
)
"""
"""Conversations and users, pair by pair; those returned are active members no more."""

GONE_USERS: Final = """
SELECT q.id FROM unnest($1::uuid[]) AS q (id)
WHERE NOT EXISTS (SELECT FROM users u WHERE u.id = q.id AND u.disabled_at IS NULL)
"""
"""Those returned are disabled, or not there."""

"""Users, conversations and members."""

from __future__ import annotations

from typing import Final

STANDING: Final = """
SELECT c.id IS NOT NULL AS is_known, c.deleted_at IS NULL AS is_open, c.last_seq,
  m.user_id IS NOT NULL AS is_member, m.left_at IS NOT NULL AS has_left,
  m.last_delivered_seq, m.last_read_seq, m.joined_seq, c.purged_through_seq
FROM (SELECT $1::uuid AS conversation_id, $2::uuid AS user_id) q
LEFT JOIN conversations c ON c.id = q.conversation_id
LEFT JOIN conversation_members m USING (conversation_id, user_id)
"""
"""How a user stands to a conversation, whether or not either exists. Always one row."""

USER: Final = "SELECT disabled_at IS NOT NULL AS is_disabled FROM users WHERE id = $1"

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

ADD_MEMBER: Final = """
WITH c AS (
  -- Waits for messages being sent, so that the number below is the last one before the joining.
  SELECT id, last_seq FROM conversations WHERE id = $1 AND deleted_at IS NULL FOR SHARE
), w AS (
  INSERT INTO conversation_members AS m
    (conversation_id, user_id, role, joined_seq, last_delivered_seq, last_read_seq)
  SELECT c.id, u.id, $3, CASE WHEN $4::boolean THEN 0 ELSE c.last_seq END, c.last_seq, c.last_seq
  FROM c JOIN users u ON u.id = $2 AND u.disabled_at IS NULL
  ON CONFLICT (conversation_id, user_id) DO UPDATE
  SET left_at = NULL, joined_at = now(), role = EXCLUDED.role, joined_seq = EXCLUDED.joined_seq,
    last_delivered_seq = greatest(m.last_delivered_seq, EXCLUDED.last_delivered_seq),
    last_read_seq = greatest(m.last_read_seq, EXCLUDED.last_read_seq)
  WHERE m.left_at IS NOT NULL
  RETURNING m.conversation_id, m.user_id, m.role, m.joined_seq
), o AS (
  INSERT INTO outbox (topic, key, payload)
  SELECT t.topic, t.key, jsonb_build_object('type', 'member.added',
    'conversationId', w.conversation_id, 'userId', w.user_id, 'role', w.role,
    'joinedSeq', w.joined_seq)
  FROM w CROSS JOIN LATERAL (VALUES
    ('conversation', w.conversation_id::text), ('user', w.user_id::text)) AS t (topic, key)
)
SELECT joined_seq FROM w
"""
"""Conversation, user, role, whether earlier messages are seen. No row: nothing changed."""

REMOVE_MEMBER: Final = """
WITH w AS (
  UPDATE conversation_members SET left_at = now()
  WHERE conversation_id = $1 AND user_id = $2 AND left_at IS NULL
  RETURNING conversation_id, user_id
), o AS (
  INSERT INTO outbox (topic, key, payload)
  SELECT t.topic, t.key, jsonb_build_object('type', 'member.removed',
    'conversationId', w.conversation_id, 'userId', w.user_id)
  FROM w CROSS JOIN LATERAL (VALUES
    ('conversation', w.conversation_id::text), ('user', w.user_id::text)) AS t (topic, key)
)
SELECT user_id FROM w
"""
"""Conversation, user. No row: was no active member."""

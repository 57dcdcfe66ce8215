"""Users, conversations and members."""

from __future__ import annotations

from typing import Final

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

"""Sending: the message, its number, its rows and its event in one statement."""

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

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

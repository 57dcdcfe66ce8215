"""Attachments: uploaded, claimed by messages, let go with the last of them."""

from __future__ import annotations

from typing import Final

CLAIM: Final = """
WITH a AS (
  SELECT id FROM attachments
  WHERE id = ANY ($1::uuid[]) AND owner_id = $2 AND state IN ('ready', 'attached')
  ORDER BY id FOR NO KEY UPDATE
)
UPDATE attachments t SET state = 'attached' FROM a WHERE t.id = a.id RETURNING t.id
"""
"""
Ids without repeats, sender. Fewer rows than ids: at least one may not be claimed.

Belongs to the transaction that inserts the message. An attachment that is attached already may be
attached again by its owner, which is how a message is forwarded. The row's lock is what keeps
cleanup from taking an attachment whose last reference goes at the same time: it looks for
references only once it has the lock, and finds the new one or removes the row, which is then not
among those claimed.
"""

ATTACH: Final = """
INSERT INTO message_attachments (message_id, attachment_id, position)
SELECT $1, t.id, t.n - 1 FROM unnest($2::uuid[]) WITH ORDINALITY AS t (id, n)
"""
"""Message, attachments in their order, after :data:`CLAIM` in the same transaction."""

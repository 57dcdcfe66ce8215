"""Batches: recipients are claimed, queued, and settled by what became of their messages."""

from __future__ import annotations

from typing import Final

CREATE: Final = """
INSERT INTO message_batches (id, created_by, spec, spec_hash, total)
VALUES ($1, $2, $3, $4, $5) ON CONFLICT (id) DO NOTHING RETURNING id
"""
ADD_RECIPIENTS: Final = """
INSERT INTO batch_recipients (batch_id, ordinal, user_id, child_id, conversation_id)
SELECT $1, * FROM unnest($2::integer[], $3::uuid[], $4::uuid[], $5::uuid[])
"""
BATCH: Final = """
SELECT id, created_by, spec, spec_hash, total, rate_at, cancelled_at, finished_at, counts,
  extract(epoch FROM now() - changed_at)::float8 * 1000 AS quiet_ms
FROM message_batches WHERE id = $1
"""

TAKE_UP: Final = (
    "UPDATE message_batches SET worked_at = now() WHERE id = $1 AND finished_at IS NULL"
)

RESERVE: Final = """
UPDATE message_batches
SET rate_at = $2::timestamptz + $3::bigint * interval '1 microsecond'
WHERE id = $1 AND (rate_at IS NULL OR rate_at <= $2) RETURNING rate_at
"""
"""Batch, the present time, how long what is queued now stands for. No row: not yet."""

CLAIM: Final = """
WITH n AS MATERIALIZED (
  SELECT ordinal FROM batch_recipients
  WHERE batch_id = $1 AND state < 2
    AND (state = 0 OR lease_until < now() OR claimed_by = $3)
  ORDER BY ordinal LIMIT $2 FOR UPDATE SKIP LOCKED
), c AS (
  UPDATE batch_recipients r
  SET state = 1, claimed_by = $3, lease_until = now() + $4::bigint * interval '1 millisecond'
  FROM n WHERE r.batch_id = $1 AND r.ordinal = n.ordinal
  RETURNING r.ordinal, r.user_id, r.child_id, r.conversation_id
)
SELECT c.*, CASE WHEN u.id IS NULL THEN 'unknown-user'
  WHEN u.disabled_at IS NOT NULL THEN 'user-disabled'
  WHEN m.left_at IS NOT NULL THEN 'left' END AS fault
FROM c LEFT JOIN users u ON u.id = c.user_id
LEFT JOIN conversation_members m
  ON m.conversation_id = c.conversation_id AND m.user_id = c.user_id
ORDER BY c.ordinal
"""
"""Batch, rows at most, who claims, lease in ms. Also what the same one claimed before it died."""

OPEN_CONVERSATIONS: Final = """
WITH d AS MATERIALIZED (
  SELECT * FROM unnest($1::uuid[], $2::uuid[]) AS d(conversation_id, user_id)
  ORDER BY conversation_id
), c AS (
  INSERT INTO conversations (id, kind)
  SELECT conversation_id, 'direct' FROM d ON CONFLICT (id) DO NOTHING
)
INSERT INTO conversation_members (conversation_id, user_id)
SELECT d.conversation_id, m.user_id
FROM d CROSS JOIN LATERAL (VALUES (least(d.user_id, $3::uuid)), (greatest(d.user_id, $3::uuid)))
  AS m(user_id)
ON CONFLICT (conversation_id, user_id) DO NOTHING
"""
"""Direct conversations, the user of each, the sender."""

MARK: Final = """
UPDATE batch_recipients r
SET state = m.state, error_code = m.error_code, claimed_by = NULL, lease_until = NULL
FROM unnest($2::integer[], $3::smallint[], $4::text[]) AS m(ordinal, state, error_code)
WHERE r.batch_id = $1 AND r.ordinal = m.ordinal AND r.state < 2
"""
"""Batch, then one array each of ordinals, states, error codes."""

SETTLE: Final = """
UPDATE batch_recipients r SET state = m.state, error_code = m.error_code
FROM unnest($2::uuid[], $3::smallint[], $4::text[]) AS m(child_id, state, error_code)
WHERE r.batch_id = $1 AND r.child_id = m.child_id AND r.state <> 3 AND r.state <> m.state
"""
"""Batch, then one array each of children, states, error codes. Sent stays sent."""

SETTLE_BY_MESSAGES: Final = """
UPDATE batch_recipients r
SET state = CASE WHEN m.id IS NOT NULL THEN 3 ELSE 4 END,
  error_code = CASE WHEN m.id IS NOT NULL THEN NULL
    WHEN c.id IS NULL OR c.deleted_at IS NOT NULL THEN 'conversation-deleted'
    ELSE 'unconfirmed' END
FROM batch_recipients q
LEFT JOIN conversations c ON c.id = q.conversation_id
LEFT JOIN messages m ON m.conversation_id = q.conversation_id AND m.sender_id = $2
  AND m.client_msg_id = q.child_id::text
WHERE q.batch_id = $1 AND q.state = 2 AND r.batch_id = q.batch_id AND r.ordinal = q.ordinal
  AND r.state = 2
  AND (m.id IS NOT NULL OR c.id IS NULL OR c.deleted_at IS NOT NULL OR $3::boolean)
"""
"""Batch, sender, whether to give up those of which nothing is known."""

CANCEL: Final = """
UPDATE message_batches SET cancelled_at = coalesce(cancelled_at, now())
WHERE id = $1 AND finished_at IS NULL RETURNING id
"""
STOP: Final = """
UPDATE batch_recipients SET state = 5, claimed_by = NULL, lease_until = NULL
WHERE batch_id = $1 AND state < 2
  AND (state = 0 OR lease_until < now() OR claimed_by IS NOT DISTINCT FROM $2)
"""
"""Batch, who asks. What another has claimed may be queued by now, so its lease has to end."""

QUEUED: Final = """
SELECT child_id FROM batch_recipients
WHERE batch_id = $1 AND state = 2 AND claimed_by IS NULL ORDER BY ordinal LIMIT $2
"""
"""Batch, rows at most: children that nobody has asked to be cancelled."""

TAKEN_BACK: Final = """
UPDATE batch_recipients SET claimed_by = 'cancelled'
WHERE batch_id = $1 AND child_id = ANY ($2::uuid[]) AND state = 2
"""

CORRECT: Final = """
UPDATE batch_recipients r SET state = 3, error_code = NULL
FROM batch_recipients q JOIN messages m ON m.conversation_id = q.conversation_id
  AND m.sender_id = $2 AND m.client_msg_id = q.child_id::text
WHERE q.batch_id = $1 AND q.state > 3 AND r.batch_id = q.batch_id AND r.ordinal = q.ordinal
"""
"""Batch, sender: what is in its conversation was sent, whatever its job came to."""

LOCK: Final = "SELECT id FROM message_batches WHERE id = $1 FOR NO KEY UPDATE"

COUNTS: Final = """
SELECT count(*) FILTER (WHERE state < 2) AS waiting, count(*) FILTER (WHERE state = 2) AS queued,
  count(*) FILTER (WHERE state = 3) AS sent, count(*) FILTER (WHERE state = 4) AS failed,
  count(*) FILTER (WHERE state = 5) AS cancelled,
  (SELECT coalesce(jsonb_object_agg(e.error_code, e.n), '{}') FROM (
    SELECT coalesce(error_code, 'unknown') AS error_code, count(*) AS n
    FROM batch_recipients WHERE batch_id = $1 AND state = 4 GROUP BY 1
  ) e) AS errors
FROM batch_recipients WHERE batch_id = $1
"""

TELL: Final = """
WITH b AS (
  UPDATE message_batches
  SET counts = $2, changed_at = now(),
    finished_at = CASE WHEN $3 THEN now() END,
    spec = CASE WHEN $3 THEN spec - 'content' ELSE spec END
  WHERE id = $1 AND finished_at IS NULL AND counts IS DISTINCT FROM $2
  RETURNING created_by
)
INSERT INTO outbox (topic, key, payload)
SELECT 'user', created_by::text, jsonb_build_object('type', $4::text) || $2 FROM b
RETURNING id
"""
"""Batch, counts, whether they are the last ones, the event's type. No row: told before."""

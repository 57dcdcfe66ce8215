"""Pruning of what the back end keeps for itself, and jobs that got lost on the way."""

from __future__ import annotations

from typing import Final

PRUNE_INBOX: Final = """
WITH v AS MATERIALIZED (
  SELECT handler, job_id FROM job_inbox WHERE done_at < $1 ORDER BY done_at LIMIT $2
  FOR UPDATE SKIP LOCKED
), r AS (
  DELETE FROM job_inbox j USING v
  WHERE j.handler = v.handler AND j.job_id = v.job_id RETURNING 1
)
SELECT count(*) AS removed FROM r
"""

PRUNE_OUTBOX: Final = """
WITH v AS MATERIALIZED (
  SELECT id FROM outbox WHERE failed_at < $1 ORDER BY failed_at LIMIT $2 FOR UPDATE SKIP LOCKED
), r AS (
  DELETE FROM outbox o USING v WHERE o.id = v.id RETURNING 1
)
SELECT count(*) AS removed FROM r
"""
"""Only rows that were set aside: one that waits to be published is never old."""

PRUNE_NOTIFICATIONS: Final = """
WITH v AS MATERIALIZED (
  SELECT id FROM notifications WHERE created_at < $1 ORDER BY created_at LIMIT $2
  FOR UPDATE SKIP LOCKED
), r AS (
  DELETE FROM notifications n USING v WHERE n.id = v.id RETURNING 1
)
SELECT count(*) AS removed FROM r
"""

PRUNE_READ_NOTIFICATIONS: Final = """
WITH v AS MATERIALIZED (
  SELECT id FROM notifications WHERE read_at < $1 ORDER BY read_at LIMIT $2
  FOR UPDATE SKIP LOCKED
), r AS (
  DELETE FROM notifications n USING v WHERE n.id = v.id RETURNING 1
)
SELECT count(*) AS removed FROM r
"""

PRUNE_EXPIRED_NOTIFICATIONS: Final = """
WITH v AS MATERIALIZED (
  SELECT id FROM notifications WHERE expires_at < $1 ORDER BY expires_at LIMIT $2
  FOR UPDATE SKIP LOCKED
), r AS (
  DELETE FROM notifications n USING v WHERE n.id = v.id RETURNING 1
)
SELECT count(*) AS removed FROM r
"""

PRUNE_PACES: Final = """
WITH v AS MATERIALIZED (
  SELECT user_id, channel, conversation_id FROM notification_paces
  WHERE told_at < $1 ORDER BY told_at LIMIT $2 FOR UPDATE SKIP LOCKED
), r AS (
  DELETE FROM notification_paces p USING v
  WHERE p.user_id = v.user_id AND p.channel = v.channel
    AND p.conversation_id = v.conversation_id
  RETURNING 1
)
SELECT count(*) AS removed FROM r
"""

PRUNE_TARGETS: Final = """
WITH v AS MATERIALIZED (
  SELECT id FROM push_targets WHERE disabled_at < $1 ORDER BY disabled_at LIMIT $2
  FOR UPDATE SKIP LOCKED
), r AS (
  DELETE FROM push_targets t USING v WHERE t.id = v.id RETURNING 1
)
SELECT count(*) AS removed FROM r
"""

PRUNE_BATCHES: Final = """
WITH v AS MATERIALIZED (
  SELECT id FROM message_batches WHERE finished_at < $1 ORDER BY finished_at
  LIMIT greatest(1, $2::integer / 10000) FOR UPDATE SKIP LOCKED
), r AS (
  DELETE FROM message_batches b USING v WHERE b.id = v.id RETURNING 1
)
SELECT count(*) AS removed FROM r
"""
"""A batch has up to 10,000 recipients, which go with it."""

PRUNE_AUDIT: Final = """
WITH v AS MATERIALIZED (
  SELECT id FROM audit_log WHERE at < $1 ORDER BY at LIMIT $2 FOR UPDATE SKIP LOCKED
), r AS (
  DELETE FROM audit_log a USING v WHERE a.id = v.id RETURNING 1
)
SELECT count(*) AS removed FROM r
"""

LOST_DELIVERIES: Final = """
SELECT id FROM notification_deliveries
WHERE state IN ('pending', 'sending') AND (lease_until IS NULL OR lease_until < $1)
  AND (next_at < $1 OR next_at IS NULL AND created_at < $1)
ORDER BY next_at LIMIT $2
"""
"""Deliveries that nobody has in hand, long past their time, so many."""

LOST_DIGESTS: Final = """
SELECT user_id, channel, conversation_id, due_at FROM notification_digests
WHERE due_at < $1 ORDER BY due_at LIMIT $2
"""

LOST_BATCHES: Final = """
SELECT id, worked_at FROM message_batches
WHERE finished_at IS NULL AND worked_at < $1 AND created_at > $3
ORDER BY worked_at LIMIT $2
"""
"""Unfinished batches that nobody has worked on, so many, of those begun since."""

COUNTS: Final = {
    "inbox": "SELECT count(*) FROM job_inbox WHERE done_at < $1",
    "outbox": "SELECT count(*) FROM outbox WHERE failed_at < $1",
    "notifications": "SELECT count(*) FROM notifications WHERE created_at < $1",
    "notifications_read": "SELECT count(*) FROM notifications WHERE read_at < $1",
    "notifications_expired": "SELECT count(*) FROM notifications WHERE expires_at < $1",
    "paces": "SELECT count(*) FROM notification_paces WHERE told_at < $1",
    "targets": "SELECT count(*) FROM push_targets WHERE disabled_at < $1",
    "batches": "SELECT count(*) FROM message_batches WHERE finished_at < $1",
    "audit": "SELECT count(*) FROM audit_log WHERE at < $1",
}
"""For dry runs; what one of them removes another may count too."""

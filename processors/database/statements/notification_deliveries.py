"""Deliveries of notifications: what is known before one, its claim, and its end."""

from __future__ import annotations

from typing import Final

LOAD: Final = """
SELECT d.id, d.user_id, d.channel, d.target_id, d.state, d.error_code, d.attempts, d.lease_until,
  d.next_at, d.first_tried_at, d.last_tried_at,
  n.id AS notification_id, n.type, n.conversation_id, n.message_id, n.seq, n.payload, n.read_at,
  n.created_at, n.expires_at,
  u.email, u.phone, u.locale, u.disabled_at IS NOT NULL AS user_is_disabled,
  c.title, c.kind AS conversation_kind, c.encrypted,
  c.deleted_at IS NOT NULL AS conversation_is_deleted,
  cm.user_id IS NOT NULL AND cm.left_at IS NULL AS is_member, cm.notify_level, cm.muted_until,
  cm.last_read_seq, cm.last_delivered_seq,
  m.deleted_at IS NOT NULL AS message_is_deleted, d.user_id = ANY (m.mentions) AS is_mentioned,
  r.state AS receipt,
  t.id IS NOT NULL AND t.disabled_at IS NULL AS has_target, t.provider, t.kind AS target_kind,
  t.token, t.keys, t.app_id, t.environment, t.registered_at,
  p.sent_at AS pace_sent_at, p.delivery_id AS pace_delivery_id, p.told_at AS pace_told_at,
  p.gap_ms AS pace_gap_ms,
  CASE WHEN d.channel = 'push' THEN (
    SELECT count(*) FROM (
      SELECT FROM notifications x WHERE x.user_id = d.user_id AND x.read_at IS NULL AND x.listed
      LIMIT 1000) AS unread
  ) END AS unread,
  (
    SELECT coalesce(jsonb_agg(
      jsonb_build_array(w.scope_kind, w.type, w.channel, w.enabled, w.digest)), '[]')
    FROM notification_preferences w WHERE w.user_id = d.user_id
      AND (w.scope_kind = 'user' OR w.scope_id = n.conversation_id::text)
  ) AS preferences,
  (
    SELECT coalesce(jsonb_agg(jsonb_build_array(w.type, w.channel, w.enabled, w.digest)), '[]')
    FROM notification_defaults w WHERE w.tenant_id = coalesce(c.tenant_id, '')
  ) AS defaults,
  (
    SELECT coalesce(jsonb_agg(
      jsonb_build_array(q.starts::text, q.ends::text, q.days, coalesce(q.tz, u.tz))), '[]')
    FROM quiet_hours q WHERE q.user_id = d.user_id
  ) AS quiet_hours
FROM notification_deliveries d
JOIN notifications n ON n.id = d.notification_id
JOIN users u ON u.id = d.user_id
LEFT JOIN conversations c ON c.id = n.conversation_id
LEFT JOIN conversation_members cm
  ON cm.conversation_id = n.conversation_id AND cm.user_id = d.user_id
LEFT JOIN messages m ON m.id = n.message_id
LEFT JOIN message_deliveries r ON r.message_id = n.message_id AND r.user_id = d.user_id
LEFT JOIN push_targets t
  ON d.channel = 'push' AND t.id = d.target_id AND t.user_id = d.user_id
LEFT JOIN notification_paces p
  ON p.user_id = d.user_id AND p.channel = d.channel AND p.conversation_id = n.conversation_id
WHERE d.id = $1
"""

SUPPRESSED: Final = """
SELECT reason FROM suppressions
WHERE channel = $1 AND address_hash = $2 AND (until IS NULL OR until > $3)
"""
"""Channel, address hash, now."""

QUOTES: Final = """
SELECT m.id, m.seq, m.version, m.body, m.ciphertext, m.key_id, u.display_name AS sender,
  count(*) OVER () AS n
FROM messages m LEFT JOIN users u ON u.id = m.sender_id
WHERE m.conversation_id = $1 AND m.seq BETWEEN $2 AND $3 AND m.sender_id <> $4
  AND m.deleted_at IS NULL
ORDER BY m.seq DESC LIMIT $5
"""
"""Conversation, first and last sequence number, reader, at most: latest first, with how many."""

CLAIM: Final = """
WITH d AS (
  SELECT id, user_id, channel FROM notification_deliveries
  WHERE id = $1 AND attempts = $4
    AND (state = 'pending' OR (state = 'sending' AND lease_until <= $2))
  FOR NO KEY UPDATE
), p AS (
  INSERT INTO notification_paces AS had
    (user_id, channel, conversation_id, sent_at, delivery_id, told_at, gap_ms)
  SELECT d.user_id, d.channel, $6, $2, d.id, $2, $7 FROM d
  WHERE $7::bigint > 0 AND EXISTS (SELECT FROM conversations WHERE id = $6)
  ON CONFLICT (user_id, channel, conversation_id) DO UPDATE
  SET sent_at = excluded.sent_at, delivery_id = excluded.delivery_id,
    told_at = excluded.told_at, gap_ms = excluded.gap_ms
  WHERE had.sent_at = $8 AND had.delivery_id IS NOT DISTINCT FROM $9
  RETURNING delivery_id
), c AS MATERIALIZED (
  SELECT id FROM d WHERE $7 = 0
  UNION ALL
  SELECT delivery_id FROM p
)
UPDATE notification_deliveries x
SET state = 'sending', attempts = attempts + 1, lease_until = $3, next_at = NULL,
  first_tried_at = coalesce(first_tried_at, $2), last_tried_at = $2, address_hash = $5,
  updated_at = $2
FROM c WHERE x.id = c.id
RETURNING x.attempts
"""
"""
Delivery, now, end of the lease, attempts as seen, address hash; conversation, gap until its next
sending (0: no pace is kept), and whose sending the pace was of when it was looked at, and when.

The pace is taken with the claim, so that of several at once one is sent and the others see that it
is too early. No row: another has the delivery, or its turn.
"""

DEFER: Final = """
UPDATE notification_deliveries
SET next_at = $3, error_code = $5, updated_at = $2
WHERE id = $1 AND attempts = $4 AND state = 'pending'
RETURNING id
"""
"""Delivery, now, until when, attempts as seen, why."""

CLOSE: Final = """
UPDATE notification_deliveries
SET state = $3, error_code = $5, lease_until = NULL, next_at = NULL, updated_at = $2
WHERE id = $1 AND attempts = $4 AND state IN ('pending', 'sending')
RETURNING id
"""
"""Delivery, now, state, attempts as seen, why. No row: it has gone on without us."""

RELEASE: Final = """
WITH d AS (
  UPDATE notification_deliveries
  SET state = 'pending', lease_until = NULL, next_at = $3, error_code = $5, first_tried_at = $6,
    last_tried_at = $7, updated_at = $2
  WHERE id = $1 AND attempts = $4 AND state = 'sending'
  RETURNING id, user_id, channel
)
UPDATE notification_paces p
SET sent_at = coalesce($9, p.sent_at), delivery_id = $10, gap_ms = coalesce($11, 0)
FROM d
WHERE p.user_id = d.user_id AND p.channel = d.channel AND p.conversation_id = $8
  AND p.delivery_id = d.id
"""
"""
Delivery, now, not before, attempts, why; first and last try of those without a known end;
conversation, and its pace before the claim: when, whose, and the gap after it.
"""

LEAVE_OPEN: Final = """
UPDATE notification_deliveries
SET lease_until = $3, error_code = $5, updated_at = $2
WHERE id = $1 AND attempts = $4 AND state = 'sending'
"""
"""Delivery, now, when to ask the provider again, attempts, why."""

SENT: Final = """
UPDATE notification_deliveries
SET state = CASE WHEN state IN ('pending', 'sending', 'unknown') THEN 'sent' ELSE state END,
  provider_id = coalesce(nullif($3, ''), provider_id), error_code = NULL, lease_until = NULL,
  next_at = NULL, updated_at = $2
WHERE id = $1
RETURNING state
"""
"""Delivery, now, the provider's id."""

TARGET_GONE: Final = """
UPDATE push_targets SET disabled_at = $2, reason = $4
WHERE id = $1 AND token = $3 AND disabled_at IS NULL
  AND ($5::timestamptz IS NULL OR registered_at <= $5)
RETURNING id
"""
"""Device, now, the token that was used, why, since when it is gone. A newer token stays."""

SUPPRESS: Final = """
INSERT INTO suppressions (channel, address_hash, reason, created_at) VALUES ($1, $2, $3, $4)
ON CONFLICT (channel, address_hash) DO UPDATE
SET reason = excluded.reason, until = NULL, created_at = excluded.created_at
WHERE suppressions.until IS NOT NULL
RETURNING channel
"""
"""Channel, address hash, why, now. No row: it was suppressed for good already."""

LIFT: Final = """
DELETE FROM suppressions WHERE channel = $1 AND address_hash = $2 AND reason = 'stop'
"""
"""Channel, address hash: only a recipient's own wish is lifted by their wish."""

OF_OTHERS: Final = """
SELECT provider_id FROM notification_deliveries
WHERE channel = 'sms' AND provider_id = ANY ($1::text[]) AND id <> $2
"""
"""Ids of texts at the provider, a delivery: those that are known to be of other deliveries."""

GATHER: Final = """
WITH d AS (
  UPDATE notification_deliveries
  SET state = 'digested', error_code = NULL, next_at = NULL, updated_at = $2
  WHERE id = $1 AND attempts = $3 AND state = 'pending'
  RETURNING id, user_id, channel
), g AS (
  INSERT INTO notification_digests AS had
    (user_id, channel, conversation_id, due_at, n, first_seq, last_seq)
  SELECT d.user_id, d.channel, $4, $5, $6, $7, $8 FROM d
  ON CONFLICT (user_id, channel, conversation_id) DO UPDATE
  SET n = had.n + excluded.n, first_seq = least(had.first_seq, excluded.first_seq),
    last_seq = greatest(had.last_seq, excluded.last_seq)
  RETURNING user_id, channel, due_at, xmax = 0 AS is_new
), p AS (
  UPDATE notification_paces p SET told_at = $2 FROM d
  WHERE p.user_id = d.user_id AND p.channel = d.channel AND p.conversation_id = $4
    AND p.told_at < $2
)
SELECT d.id, (
  SELECT enqueue_job('notification', 'notification', jsonb_build_object('action', 'digest',
      'userId', g.user_id, 'channel', g.channel, 'conversationId', $4::uuid),
    'low', 'digest-' || $1::uuid,
    greatest(0, ceil(extract(epoch FROM g.due_at - $2::timestamptz) * 1000))::bigint)
  FROM g WHERE g.is_new) AS job
FROM d
"""
"""
Delivery, now, attempts as seen, conversation, when a new digest is due, notifications, first and
last sequence number. No row: it has gone on without us.
"""

FLUSH: Final = """
WITH g AS (
  DELETE FROM notification_digests
  WHERE user_id = $1 AND channel = $2 AND conversation_id = $3 AND due_at <= $4
  RETURNING n, first_seq, last_seq
), n AS (
  INSERT INTO notifications
    (user_id, type, dedup_key, conversation_id, seq, payload, listed, created_at, expires_at)
  SELECT $1, 'digest', 'digest:' || uuid_v7(), $3, g.last_seq,
    jsonb_build_object('n', g.n, 'firstSeq', g.first_seq), false, $4, $5
  FROM g RETURNING id
), t AS (
  SELECT $1::uuid AS id WHERE $2 <> 'push'
  UNION ALL
  (SELECT t.id FROM push_targets t WHERE $2 = 'push' AND t.user_id = $1 AND t.disabled_at IS NULL
   ORDER BY t.registered_at DESC, t.id DESC LIMIT $6)
), d AS (
  INSERT INTO notification_deliveries
    (notification_id, user_id, channel, target_id, created_at, updated_at)
  SELECT n.id, $1, $2, t.id, $4, $4 FROM n CROSS JOIN t RETURNING id
), j AS (
  SELECT enqueue_job('notification', 'notification', jsonb_build_object(
    'action', 'deliver', 'deliveryId', d.id), 'low', 'deliver-' || d.id) AS id FROM d
)
SELECT g.n, (SELECT count(*) FROM j) AS deliveries FROM g
"""
"""User, channel, conversation, now, expiry, devices at most. No row: flushed, or not yet due."""

DIGEST_DUE: Final = """
SELECT due_at FROM notification_digests
WHERE user_id = $1 AND channel = $2 AND conversation_id = $3
"""

BADGE_TARGETS: Final = """
SELECT t.id, t.provider, t.kind, t.token, t.keys, t.app_id, t.environment, t.registered_at
FROM push_targets t JOIN users u ON u.id = t.user_id
WHERE t.user_id = $1 AND t.disabled_at IS NULL AND t.provider <> 'webpush'
  AND u.disabled_at IS NULL
ORDER BY t.registered_at DESC, t.id DESC LIMIT $2
"""
"""User, devices at most: those that show a number."""

FIND_REPORTED: Final = """
SELECT id, state, address_hash, user_id FROM notification_deliveries
WHERE channel = $1 AND (id = $2 OR provider_id = $3)
ORDER BY id = $2 DESC NULLS LAST LIMIT 1 FOR NO KEY UPDATE
"""
"""Channel, our id, the provider's id: the delivery that a report is about."""

REPORTED: Final = """
UPDATE notification_deliveries
SET state = $3, error_code = nullif($4, ''), lease_until = NULL, next_at = NULL,
  provider_id = coalesce(provider_id, $5), updated_at = $2
WHERE id = $1
"""
"""Delivery, now, state, code, the provider's id."""

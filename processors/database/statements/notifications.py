"""
Notifications: telling people, gathering, and what reading makes needless.

Rows are locked in one order: notifications by id, their deliveries, digests by user and channel.
Times come from the caller's clock.
"""

# ruff: noqa: S608 - statements are joined from constants of this file alone

from __future__ import annotations

from typing import Final

MESSAGES: Final = """
SELECT m.id, m.conversation_id, m.seq, m.sender_id, m.mentions, c.tenant_id, c.kind
FROM messages m JOIN conversations c ON c.id = m.conversation_id
WHERE m.id = ANY ($1::uuid[]) AND m.deleted_at IS NULL AND c.deleted_at IS NULL
ORDER BY m.conversation_id, m.seq
"""

DEFAULTS: Final = """
SELECT type, channel, enabled, digest FROM notification_defaults WHERE tenant_id = $1
"""

_PERSON: Final = """
  u.email IS NOT NULL AS has_email, u.phone IS NOT NULL AS has_phone,
  ARRAY(
    SELECT t.id FROM push_targets t WHERE t.user_id = u.id AND t.disabled_at IS NULL
    ORDER BY t.registered_at DESC, t.id DESC LIMIT $2
  ) AS targets"""

_OWN: Final = """
  SELECT coalesce(jsonb_agg(
    jsonb_build_array(p.scope_kind, p.type, p.channel, p.enabled, p.digest)), '[]')
  FROM notification_preferences p WHERE p.user_id = {user}
    AND (p.scope_kind = 'user' OR p.scope_id = {conversation}::text)"""

MEMBERS: Final = (
    "SELECT cm.user_id, cm.notify_level,"
    " greatest(cm.joined_seq, cm.last_read_seq) AS after_seq,"
    + _PERSON
    + ", ("
    + _OWN.format(user="u.id", conversation="cm.conversation_id")
    + """) AS preferences
FROM conversation_members cm JOIN users u ON u.id = cm.user_id
WHERE cm.conversation_id = $1 AND cm.user_id > $3 AND cm.left_at IS NULL
  AND u.disabled_at IS NULL AND cm.notify_level <> 'none'
  AND (cm.muted_until IS NULL OR cm.muted_until <= $5)
ORDER BY cm.user_id LIMIT $4
"""
)
"""Conversation, devices at most, user before, members at most, now: those who may hear of it."""

MEMBER_COUNT: Final = """
SELECT count(*) AS n FROM (
  SELECT FROM conversation_members WHERE conversation_id = $1 AND left_at IS NULL LIMIT $2) AS m
"""

USERS: Final = (
    "SELECT u.id AS user_id,"
    + _PERSON
    + ", ("
    + _OWN.format(user="u.id", conversation="NULL")
    + """) AS preferences
FROM users u WHERE u.id = ANY ($1::uuid[]) AND u.disabled_at IS NULL ORDER BY u.id
"""
)
"""Users, devices at most: those of them who exist."""

_JOB: Final = "enqueue_job('notification', 'notification', "

_DELAY: Final = (
    "nullif(greatest(0, ceil(extract(epoch FROM {at} - {now}::timestamptz) * 1000)), 0)::bigint"
)

TELL: Final = (
    """
WITH n AS (
  INSERT INTO notifications (user_id, type, dedup_key, conversation_id, message_id, seq, payload,
    listed, created_at, expires_at)
  SELECT x.user_id, $1, x.dedup_key, $2, x.message_id, x.seq, $3, x.listed, $4, $5
  FROM unnest($6::uuid[], $7::text[], $8::uuid[], $9::bigint[], $10::boolean[])
    AS x(user_id, dedup_key, message_id, seq, listed)
  ORDER BY x.user_id, x.dedup_key
  ON CONFLICT (user_id, dedup_key) DO NOTHING
  RETURNING id, user_id, dedup_key, message_id, seq, listed
), d AS (
  INSERT INTO notification_deliveries
    (notification_id, user_id, channel, target_id, next_at, created_at, updated_at)
  SELECT n.id, n.user_id, w.channel, w.target_id,
    $4::timestamptz + w.delay_ms * interval '1 millisecond', $4, $4
  FROM n JOIN unnest($11::uuid[], $12::text[], $13::text[], $14::uuid[], $15::bigint[])
    AS w(user_id, dedup_key, channel, target_id, delay_ms) USING (user_id, dedup_key)
  RETURNING id, next_at
), j AS (
  SELECT """
    + _JOB
    + """jsonb_build_object('action', 'deliver', 'deliveryId', d.id),
    $16, 'deliver-' || d.id, """
    + _DELAY.format(at="d.next_at", now="$4")
    + """) AS id FROM d
), g AS (
  INSERT INTO notification_digests AS had
    (user_id, channel, conversation_id, due_at, n, first_seq, last_seq)
  SELECT n.user_id, w.channel, $2, $17, count(*)::integer, min(n.seq), max(n.seq)
  FROM n JOIN unnest($18::uuid[], $19::text[], $20::text[])
    AS w(user_id, dedup_key, channel) USING (user_id, dedup_key)
  GROUP BY n.user_id, w.channel ORDER BY n.user_id, w.channel
  ON CONFLICT (user_id, channel, conversation_id) DO UPDATE
  SET n = had.n + excluded.n, first_seq = least(had.first_seq, excluded.first_seq),
    last_seq = greatest(had.last_seq, excluded.last_seq)
  RETURNING user_id, channel, due_at, last_seq, xmax = 0 AS is_new
), k AS (
  SELECT """
    + _JOB
    + """jsonb_build_object('action', 'digest', 'userId', g.user_id, 'channel', g.channel,
      'conversationId', $2::uuid),
    'low', concat_ws('-', 'digest', g.channel, g.user_id, $2::uuid, g.last_seq), """
    + _DELAY.format(at="g.due_at", now="$4")
    + """) AS id FROM g WHERE g.is_new
), o AS (
  INSERT INTO outbox (topic, key, payload)
  SELECT 'user', n.user_id::text, jsonb_strip_nulls($3::jsonb || jsonb_build_object(
    'type', 'notification.created', 'notificationType', $1::text, 'conversationId', $2::uuid,
    'seq', max(n.seq), 'notifications', jsonb_agg(jsonb_build_object(
      'id', n.id, 'messageId', n.message_id, 'seq', n.seq) ORDER BY n.id)))
  FROM n WHERE n.listed GROUP BY n.user_id
)
SELECT (SELECT count(*) FROM n) AS notifications, (SELECT count(*) FROM j) AS deliveries,
  (SELECT count(*) FROM g) AS digests, (SELECT count(*) FROM k) AS flushes
"""
)
"""
Type, conversation, payload, now, expiry; per notification: user, dedup key, message, sequence,
whether the app lists it; per delivery: user, dedup key, channel, target, delay; the lane of the
deliveries; when a new digest is due; per gathered one: user, dedup key, channel.

Deliveries, digests, jobs and live events hang on the notifications that are new, so that a
repetition changes nothing. Only who makes a digest's row has it flushed.
"""

GO_ON: Final = """
SELECT enqueue_job('notification', 'notification',
  jsonb_strip_nulls(jsonb_build_object('action', 'message', 'messageIds', to_jsonb($1::uuid[]),
    'afterUser', $3::uuid)), 'normal', $2)
"""
"""Messages, the id of the job that tells of them, the last member who was told."""

SETTLE_READS: Final = """
WITH m AS MATERIALIZED (
  SELECT user_id, last_read_seq FROM conversation_members
  WHERE conversation_id = $1 AND user_id = ANY ($2::uuid[])
  ORDER BY user_id FOR SHARE
)
UPDATE notifications n SET read_at = $4
FROM m
WHERE n.conversation_id = $1 AND n.user_id = m.user_id AND n.read_at IS NULL
  AND n.seq <= m.last_read_seq AND n.message_id = ANY ($3::uuid[])
"""
"""
Conversation, members, messages, now. Who read on while the notification was written did not see
its row yet; a member's lock waits for who is about to commit that.
"""

_CANCEL: Final = (
    """, n AS (
  UPDATE notifications x SET read_at = {now} FROM r WHERE x.id = r.id AND x.read_at IS NULL
  RETURNING x.id, x.user_id, x.listed
), d AS (
  UPDATE notification_deliveries d
  SET state = 'cancelled', error_code = 'already-read', next_at = NULL, updated_at = {now}
  FROM n WHERE d.notification_id = n.id AND d.state = 'pending'
  RETURNING d.id
), b AS (
  SELECT """
    + _JOB
    + """jsonb_build_object('action', 'badge', 'userId', w.user_id), 'low',
    concat_ws('-', 'badge', w.user_id,
      floor(extract(epoch FROM {now}::timestamptz) * 1000 / {span}::bigint)),
    {span}::bigint + 1000) AS id
  FROM (SELECT DISTINCT user_id FROM n WHERE listed) w
  WHERE EXISTS (
    SELECT FROM push_targets t WHERE t.user_id = w.user_id AND t.disabled_at IS NULL
      AND t.provider <> 'webpush')
)"""
)

_CANCELLED: Final = """
SELECT (SELECT count(*) FROM n) AS read, (SELECT count(*) FROM d) AS cancelled,
  (SELECT count(*) FROM b) AS badges
"""

CANCEL_READ: Final = (
    """
WITH q AS (
  SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::bigint[]) AS q(user_id, conversation_id, seq)
), r AS (
  SELECT x.id FROM notifications x JOIN q USING (user_id, conversation_id)
  WHERE x.seq <= q.seq AND x.read_at IS NULL ORDER BY x.id FOR NO KEY UPDATE OF x
)"""
    + _CANCEL.format(now="$4", span="$5")
    + """, g AS (
  DELETE FROM notification_digests g USING q
  WHERE g.user_id = q.user_id AND g.conversation_id = q.conversation_id AND g.last_seq <= q.seq
)"""
    + _CANCELLED
)
"""
Users, conversations, sequence numbers read up to, now, ms within which badges are set once.

What is 'sending' is left alone: it may be on its way.
"""

CANCEL_READ_MESSAGES: Final = (
    """
WITH q AS (
  SELECT * FROM unnest($1::uuid[], $2::uuid[]) AS q(user_id, message_id)
), r AS (
  SELECT x.id FROM notifications x JOIN q USING (user_id, message_id)
  WHERE x.read_at IS NULL ORDER BY x.id FOR NO KEY UPDATE OF x
)"""
    + _CANCEL.format(now="$3", span="$4")
    + _CANCELLED
)
"""Users, messages, now, ms: as CANCEL_READ, for receipts of single messages."""

MARK_READ: Final = (
    """
WITH r AS (
  SELECT id FROM notifications
  WHERE user_id = $1 AND id = ANY ($2::uuid[]) AND read_at IS NULL AND listed
  ORDER BY id FOR NO KEY UPDATE
)"""
    + _CANCEL.format(now="$3", span="$4")
    + """, o AS (
  INSERT INTO outbox (topic, key, payload)
  SELECT 'user', user_id::text, jsonb_build_object(
    'type', 'notifications.read', 'notificationIds', jsonb_agg(id ORDER BY id))
  FROM n GROUP BY user_id
)"""
    + _CANCELLED
)
"""User, notifications, now, ms: as CANCEL_READ, for notifications that the app lists."""

LIST: Final = """
SELECT id, type, conversation_id, message_id, seq, payload, created_at, read_at
FROM notifications
WHERE user_id = $1 AND listed AND ($2::uuid IS NULL OR id < $2)
ORDER BY id DESC LIMIT $3
"""
"""User, before which one, at most."""

UNREAD: Final = """
SELECT count(*) AS n FROM (
  SELECT FROM notifications WHERE user_id = $1 AND read_at IS NULL AND listed LIMIT $2) AS x
"""
"""User, counted at most."""

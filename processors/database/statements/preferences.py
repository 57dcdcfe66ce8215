"""What users want, when they rest, and the devices that they are reached on."""

from __future__ import annotations

from typing import Final

SET: Final = """
INSERT INTO notification_preferences
  (user_id, scope_kind, scope_id, type, channel, enabled, digest)
SELECT id, $2, $3, $4, $5, $6, $7 FROM users WHERE id = $1
ON CONFLICT (user_id, scope_kind, scope_id, type, channel) DO UPDATE
SET enabled = excluded.enabled, digest = excluded.digest
RETURNING user_id
"""
"""User, scope, its id, type, channel, wanted, gathered. No row: there is no such user."""

UNSUBSCRIBE: Final = """
WITH wider AS (
  UPDATE notification_preferences SET enabled = false
  WHERE user_id = $1 AND channel = $3 AND $2 = '*' AND type <> '*' AND enabled
)
INSERT INTO notification_preferences (user_id, scope_kind, scope_id, type, channel, enabled)
SELECT u.id, s.kind, s.id, $2, $3, false
FROM users u CROSS JOIN LATERAL (
  SELECT 'user' AS kind, '' AS id
  UNION
  SELECT p.scope_kind, p.scope_id FROM notification_preferences p
  WHERE p.user_id = u.id AND p.scope_kind = 'conversation' AND p.enabled AND p.channel IN ($3, '*')
) AS s
WHERE u.id = $1
ON CONFLICT (user_id, scope_kind, scope_id, type, channel) DO UPDATE SET enabled = false
RETURNING user_id
"""
"""
User, type, channel: off for the user, and for each conversation that they asked more of, since what
is said of a conversation counts first. No row: there is no such user.
"""

CLEAR: Final = """
DELETE FROM notification_preferences
WHERE user_id = $1 AND scope_kind = $2 AND scope_id = $3 AND type = $4 AND channel = $5
"""

OF_USER: Final = """
SELECT scope_kind, scope_id, type, channel, enabled, digest FROM notification_preferences
WHERE user_id = $1 ORDER BY scope_kind, scope_id, type, channel
"""

SET_DEFAULT: Final = """
INSERT INTO notification_defaults (tenant_id, type, channel, enabled, digest)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (tenant_id, type, channel) DO UPDATE
SET enabled = excluded.enabled, digest = excluded.digest
"""

CLEAR_QUIET: Final = "DELETE FROM quiet_hours WHERE user_id = $1"
ADD_QUIET: Final = """
INSERT INTO quiet_hours (user_id, starts, ends, days, tz)
SELECT u.id, x.starts, x.ends, x.days, x.tz
FROM users u
CROSS JOIN unnest($2::time[], $3::time[], $4::smallint[], $5::text[]) AS x(starts, ends, days, tz)
WHERE u.id = $1
"""
"""User, then arrays: start, end, weekdays, zone."""

SET_ZONE: Final = "UPDATE users SET tz = $2 WHERE id = $1 RETURNING id"

MUTE: Final = """
UPDATE conversation_members SET notify_level = $3, muted_until = $4
WHERE conversation_id = $1 AND user_id = $2 AND left_at IS NULL RETURNING user_id
"""
"""Conversation, user, level, until when. No row: not a member."""

REGISTER: Final = """
WITH old AS (
  UPDATE push_targets SET disabled_at = $9, reason = 'replaced'
  WHERE user_id = $1 AND provider = $2 AND app_id = $3 AND device_id = $5 AND $5 <> ''
    AND token <> $4 AND disabled_at IS NULL
)
INSERT INTO push_targets
  (user_id, provider, app_id, token, device_id, kind, keys, environment, registered_at)
SELECT id, $2, $3, $4, $5, $6, $7, $8, $9 FROM users WHERE id = $1
ON CONFLICT (provider, app_id, token) DO UPDATE
SET user_id = excluded.user_id, device_id = excluded.device_id, kind = excluded.kind,
  keys = excluded.keys, environment = excluded.environment,
  registered_at = excluded.registered_at, disabled_at = NULL, reason = NULL
RETURNING id
"""
"""User, provider, app, token, device, kind, keys, environment, now. No row: no such user."""

UNREGISTER: Final = """
UPDATE push_targets SET disabled_at = $4, reason = 'signed-out'
WHERE user_id = $1 AND disabled_at IS NULL
  AND (($2 <> '' AND device_id = $2) OR ($3 <> '' AND token = $3))
RETURNING id
"""
"""User, device, token, now."""

"""The scene of the demo, and what is counted at its end."""

from __future__ import annotations

from typing import Final

PEOPLE: Final = """
INSERT INTO users (id, display_name, email, phone, locale)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[])
"""
CONVERSATION: Final = """
INSERT INTO conversations (id, title, encrypted, search_mode, retention_days)
VALUES ($1, $2, $3, CASE WHEN $3 THEN 'blind' ELSE 'text' END, $4)
"""
TARGETS: Final = """
INSERT INTO push_targets (user_id, provider, kind, token, keys, app_id, device_id)
SELECT n.user_id, n.provider, n.kind, n.token, n.keys::jsonb, n.app_id, n.token
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[])
  AS n (user_id, provider, kind, token, keys, app_id)
"""
INDEXED: Final = """
SELECT count(*) FROM message_search WHERE conversation_id = ANY ($1::uuid[])
"""
OPEN_DELIVERIES: Final = """
SELECT count(*) FROM notification_deliveries
WHERE user_id = ANY ($1::uuid[]) AND state IN ('pending', 'sending') AND attempts = 0
"""
DELIVERIES: Final = """
SELECT d.channel, coalesce(t.provider, '') AS provider, d.state, d.error_code, count(*) AS n
FROM notification_deliveries d LEFT JOIN push_targets t ON t.id = d.target_id
WHERE d.user_id = ANY ($1::uuid[])
GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 5 DESC
"""
NOTIFICATIONS: Final = """
SELECT count(*) AS made, count(*) FILTER (WHERE read_at IS NOT NULL) AS read
FROM notifications WHERE user_id = ANY ($1::uuid[])
"""
MESSAGES: Final = """
SELECT count(*) AS sent, sum(n_delivered) AS delivered, sum(n_read) AS read,
  count(*) FILTER (WHERE key_id IS NOT NULL) AS sealed
FROM messages WHERE conversation_id = ANY ($1::uuid[])
"""

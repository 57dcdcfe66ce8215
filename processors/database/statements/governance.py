"""What may become of a conversation: deletion, legal holds, retention; each with its audit row."""

from __future__ import annotations

from typing import Final

SOFT_DELETE: Final = """
WITH c AS (
  UPDATE conversations SET deleted_at = now() WHERE id = $1 AND deleted_at IS NULL
  RETURNING id, last_seq
), o AS (
  INSERT INTO outbox (topic, key, payload)
  SELECT 'conversation', c.id::text, jsonb_build_object(
    'type', 'conversation.deleted', 'conversationId', c.id)
  FROM c
), a AS (
  INSERT INTO audit_log (actor, action, subject)
  SELECT $2, 'conversation.deleted',
    jsonb_build_object('conversationId', c.id, 'lastSeq', c.last_seq) FROM c
)
SELECT (SELECT count(*) FROM c) AS changed,
  EXISTS (SELECT FROM conversations WHERE id = $1) AS known
"""

RESTORE: Final = """
WITH c AS (
  UPDATE conversations SET deleted_at = NULL WHERE id = $1 AND deleted_at IS NOT NULL RETURNING id
), a AS (
  INSERT INTO audit_log (actor, action, subject)
  SELECT $2, 'conversation.restored', jsonb_build_object('conversationId', c.id) FROM c
)
SELECT (SELECT count(*) FROM c) AS changed,
  EXISTS (SELECT FROM conversations WHERE id = $1) AS known
"""

HOLD: Final = """
WITH l AS MATERIALIZED (
  -- Stronger than the update needs: it waits for removals that are under way.
  SELECT id FROM conversations WHERE id = $1 FOR UPDATE
), c AS (
  UPDATE conversations SET legal_hold = $3 FROM l
  WHERE conversations.id = l.id AND legal_hold <> $3 RETURNING conversations.id
), a AS (
  INSERT INTO audit_log (actor, action, subject)
  SELECT $2, CASE WHEN $3 THEN 'hold.set' ELSE 'hold.lifted' END,
    jsonb_build_object('conversationId', c.id, 'reason', $4::text) FROM c
)
SELECT (SELECT count(*) FROM c) AS changed, EXISTS (SELECT FROM l) AS known
"""

RETAIN: Final = """
WITH o AS MATERIALIZED (
  SELECT id, retention_days FROM conversations WHERE id = $1
), c AS (
  UPDATE conversations SET retention_days = $3::integer
  WHERE id = $1 AND retention_days IS DISTINCT FROM $3::integer RETURNING id
), a AS (
  INSERT INTO audit_log (actor, action, subject)
  SELECT $2, 'retention.set', jsonb_build_object(
    'conversationId', c.id, 'days', $3::integer, 'before', o.retention_days)
  FROM c JOIN o USING (id)
)
SELECT (SELECT count(*) FROM c) AS changed, EXISTS (SELECT FROM o) AS known
"""

SET_POLICY: Final = """
WITH o AS MATERIALIZED (
  SELECT days FROM retention_policies WHERE scope_kind = $1 AND scope_id = $2
), p AS (
  INSERT INTO retention_policies AS p (scope_kind, scope_id, days) VALUES ($1, $2, $4::integer)
  ON CONFLICT (scope_kind, scope_id) DO UPDATE SET days = excluded.days
  WHERE p.days IS DISTINCT FROM excluded.days
  RETURNING scope_kind
), a AS (
  INSERT INTO audit_log (actor, action, subject)
  SELECT $3, 'retention.set', jsonb_build_object(
    'scope', $1::text, 'id', $2::text, 'days', $4::integer, 'before', (SELECT days FROM o))
  FROM p
)
SELECT count(*) AS changed FROM p
"""

CLEAR_POLICY: Final = """
WITH p AS (
  DELETE FROM retention_policies WHERE scope_kind = $1 AND scope_id = $2 RETURNING days
), a AS (
  INSERT INTO audit_log (actor, action, subject)
  SELECT $3, 'retention.cleared', jsonb_build_object(
    'scope', $1::text, 'id', $2::text, 'before', p.days)
  FROM p
)
SELECT count(*) AS changed FROM p
"""

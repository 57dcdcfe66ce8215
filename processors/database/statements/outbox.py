"""The outbox of events and jobs."""

from __future__ import annotations

from typing import Final

CLAIM: Final = """
WITH n AS MATERIALIZED (
  SELECT id FROM outbox
  WHERE topic = ANY ($1::text[]) AND (claimed_until IS NULL OR claimed_until <= now())
  ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED
)
UPDATE outbox o SET claimed_until = now() + $3::bigint * interval '1 millisecond'
FROM n WHERE o.id = n.id
RETURNING o.id, o.topic, o.key, o.payload::text AS payload
"""
DELETE: Final = "DELETE FROM outbox WHERE id = ANY ($1::bigint[])"
RELEASE: Final = "UPDATE outbox SET claimed_until = NULL WHERE id = ANY ($1::bigint[])"
INSERT: Final = "INSERT INTO outbox (topic, key, payload) VALUES ($1, $2, $3)"

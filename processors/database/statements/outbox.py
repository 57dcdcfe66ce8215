"""The outbox of events and jobs."""

from __future__ import annotations

from typing import Final

CLAIM: Final = """
WITH n AS MATERIALIZED (
  SELECT id FROM outbox
  WHERE topic <> 'job' AND topic = ANY ($1::text[])
    AND (claimed_until IS NULL OR claimed_until <= now())
  ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED
)
UPDATE outbox o SET claimed_until = now() + $3::bigint * interval '1 millisecond'
FROM n WHERE o.id = n.id
RETURNING o.id, o.topic, o.key, o.payload::text AS payload
"""
DELETE: Final = "DELETE FROM outbox WHERE id = ANY ($1::bigint[])"
RELEASE: Final = "UPDATE outbox SET claimed_until = NULL WHERE id = ANY ($1::bigint[])"
INSERT: Final = "INSERT INTO outbox (topic, key, payload) VALUES ($1, $2, $3)"

ENQUEUE: Final = """
SELECT enqueue_job($1, $2, $3::text::jsonb, $4, $5, $6::bigint, $7::bigint, $8) AS id
"""
"""Queue, type, payload, lane, id, delay, time to live, key."""

ENQUEUE_MANY: Final = """
SELECT enqueue_job(queue, type, data::jsonb, lane, id, delay_ms, ttl_ms, key) AS id
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[],
  $7::bigint[], $8::text[])
  AS job(queue, type, data, lane, id, delay_ms, ttl_ms, key)
"""
"""One array of each of the same; rows come and go in the arrays' order."""

CLAIM_JOBS: Final = "SELECT * FROM claim_jobs($1::uuid, $2, $3, $4, $5::text[])"
"""Relay, jobs and bytes at most, lease in ms, queues to leave alone."""

SETTLE_JOBS: Final = """
WITH sent AS (
  DELETE FROM outbox WHERE id = ANY ($1::bigint[])
), refused AS (
  UPDATE outbox o SET failed_at = now(), error = r.error
  FROM unnest($2::bigint[], $3::text[]) AS r(id, error) WHERE o.id = r.id
)
UPDATE outbox_queues SET leased_until = '-infinity' WHERE queue = ANY ($4::text[]) AND relay = $5
"""
"""Rows that were enqueued, rows to set aside and why, queues to give back, relay."""

LOOK: Final = """
WITH e AS (
  SELECT created_at FROM outbox WHERE topic <> 'job' ORDER BY id LIMIT $1
), j AS (
  SELECT created_at FROM outbox WHERE topic = 'job' AND failed_at IS NULL ORDER BY key, id LIMIT $1
), f AS (
  SELECT id FROM outbox WHERE failed_at IS NOT NULL LIMIT $1
)
SELECT (SELECT count(*) FROM e) AS events, (SELECT count(*) FROM j) AS jobs,
  (SELECT count(*) FROM f) AS set_aside,
  coalesce((SELECT extract(epoch FROM now() - min(created_at)) * 1000 FROM e), 0)::bigint
    AS events_oldest_ms,
  coalesce((SELECT extract(epoch FROM now() - min(created_at)) * 1000 FROM j), 0)::bigint
    AS jobs_oldest_ms
"""
"""Rows counted of a kind, at most."""

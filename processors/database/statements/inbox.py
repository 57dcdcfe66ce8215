"""The inbox: what a job did, recorded with its effects."""

from __future__ import annotations

from typing import Final

CLAIM: Final = """
INSERT INTO job_inbox (handler, job_id) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING job_id
"""
RESULT: Final = "SELECT result FROM job_inbox WHERE handler = $1 AND job_id = $2"
RECORD: Final = "UPDATE job_inbox SET result = $3 WHERE handler = $1 AND job_id = $2"

CLAIM_MANY: Final = """
INSERT INTO job_inbox (handler, job_id)
SELECT $1, id FROM unnest($2::text[]) AS id ORDER BY id
ON CONFLICT DO NOTHING RETURNING job_id
"""
RESULTS: Final = """
SELECT job_id, result FROM job_inbox WHERE handler = $1 AND job_id = ANY ($2::text[])
"""
RECORD_MANY: Final = """
UPDATE job_inbox i SET result = n.result
FROM unnest($2::text[], $3::jsonb[]) AS n (job_id, result)
WHERE i.handler = $1 AND i.job_id = n.job_id
"""

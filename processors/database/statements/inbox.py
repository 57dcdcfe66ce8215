"""The inbox: what a job did, recorded with its effects."""

from __future__ import annotations

from typing import Final

CLAIM: Final = """
INSERT INTO job_inbox (handler, job_id) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING job_id
"""
RESULT: Final = "SELECT result FROM job_inbox WHERE handler = $1 AND job_id = $2"
RECORD: Final = "UPDATE job_inbox SET result = $3 WHERE handler = $1 AND job_id = $2"

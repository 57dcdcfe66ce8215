"""The record of a cleanup job, in its inbox row."""

from __future__ import annotations

from typing import Final

READ_ONLY: Final = "SET TRANSACTION READ ONLY"

OPEN: Final = """
INSERT INTO job_inbox (handler, job_id) VALUES ($1, $2)
ON CONFLICT (handler, job_id) DO UPDATE SET done_at = now()
RETURNING result
"""
"""Handler, job. Waits for another run of the same job to end its step."""

WRITE: Final = "UPDATE job_inbox SET result = $3 WHERE handler = $1 AND job_id = $2"

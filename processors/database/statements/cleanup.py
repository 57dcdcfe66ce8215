"""The record of a cleanup job, in its inbox row."""

from __future__ import annotations

from typing import Final

READ_ONLY: Final = "SET TRANSACTION READ ONLY"

OPEN: Final = """
INSERT INTO job_inbox (handler, job_id, done_at) VALUES ($1, $2, $3)
ON CONFLICT (handler, job_id) DO UPDATE SET done_at = excluded.done_at
RETURNING result
"""
"""Handler, job, the time. Waits for another run of the same job to end its step."""

WRITE: Final = "UPDATE job_inbox SET result = $3 WHERE handler = $1 AND job_id = $2"

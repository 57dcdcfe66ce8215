"""Names and numbers of batches that follow from what is known."""

from __future__ import annotations

import hashlib
import re
from typing import Final
from uuid import UUID, uuid5

DIRECT: Final = UUID("6d1f3a52-9a0e-5b8c-8d53-2f6f0a7c4e11")
BATCH: Final = UUID("0b7b6a0e-4f3c-5d0a-9a43-5f0f8e2d9c37")

QUIET_SHARE: Final = 4
POLL_MS_MIN: Final = 200
POLL_MS_MAX: Final = 5_000
SPANS_PER_S: Final = 2

_CODE = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def direct_conversation(one: UUID, other: UUID) -> UUID:
    """Name the direct conversation of two users, whoever asks."""
    return uuid5(DIRECT, f"{min(one, other)}:{max(one, other)}")


def batch_of_job(job_id: str) -> UUID:
    """Name the batch that a job begins, so that it begins the same one every time."""
    return uuid5(BATCH, job_id)


def child_of(batch_id: UUID, user_id: UUID) -> UUID:
    """Name the job and message of one recipient."""
    return uuid5(batch_id, str(user_id))


def fingerprint(*parts: str) -> bytes:
    """Hash what makes a batch the one it is."""
    told = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        told.update(b"%d:" % len(data) + data)
    return told.digest()


def percent(ended: int, total: int) -> float:
    """How much of a batch has ended; 100 only at its end."""
    return 100.0 if ended >= total else ended * 1000 // total / 10


def chunk_within(rate_per_s: int, chunk: int) -> int:
    """How many to queue at a time, so that a rate is kept smoothly."""
    return min(chunk, max(1, rate_per_s // SPANS_PER_S)) if rate_per_s else chunk


def span_us(queued: int, rate_per_s: int) -> int:
    """Microseconds that a number of messages stands for at a rate."""
    return queued * 1_000_000 // rate_per_s


def poll_ms(quiet_ms: float) -> int:
    """How soon to look again for ends of messages: the longer nothing ended, the later."""
    return round(min(POLL_MS_MAX, max(POLL_MS_MIN, quiet_ms / QUIET_SHARE)))


def error_code(reason: str, error: str) -> str:
    """
    Name why a message failed, by what its dead letter says.

    Refusals of the rules of messaging begin with their code: ``not-a-member: user …``.
    """
    code, colon, _ = error.partition(":")
    if colon and len(code) <= 40 and _CODE.fullmatch(code):
        return code
    return reason or "unknown"

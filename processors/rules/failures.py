"""Which deaths are worth another try, and how jobs of a bulk are named."""

from __future__ import annotations

import hashlib
from typing import Any, Final

import msgspec

RETRYABLE: Final = ("exhausted", "timeout", "child-failed", "line-full", "version-unknown")
"""Reasons whose cause may be over by itself; all others need a change of the job or the code."""


def is_permanent(reason: str) -> bool:
    """Tell whether a job that is dead for a reason would only die again."""
    return reason not in RETRYABLE


def bulk_id(name: str, index: int, job_type: str, payload: Any) -> str:
    """
    Name a job by its bulk, its place there and its content, so that it is named so every time.

    Args:
        name: What tells this bulk from one with the same jobs.
        index: The job's place.
        job_type: Its type.
        payload: A struct, a dict, a dataclass, or bytes; what cannot be encoded is left out.
    """
    if isinstance(payload, bytes | bytearray | memoryview):
        data = bytes(payload)
    else:
        try:
            data = msgspec.json.encode(payload, order="sorted")
        except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError):
            # It will be refused under this name.
            data = b""
    parts = (name.encode("utf-8", "surrogatepass"), b"%d" % index, job_type.encode(), data)
    told = hashlib.blake2b(digest_size=16)
    for part in parts:
        told.update(b"%d:" % len(part) + part)
    return f"b-{told.hexdigest()}"

"""What deaths have in common, so that a thousand dead letters read as a few groups."""

from __future__ import annotations

import hashlib
import re

_VARYING = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
    r"|0x[0-9a-f]+|\b(?=[a-z-]*[0-9])[0-9a-f]{8,}\b|\d+|(?<!\w)'[^']*'|\"[^\"]*\"|`[^`]*`",
    re.IGNORECASE,
)


def normalise(message: str) -> str:
    """Replace what differs from job to job (numbers, ids, quoted values) in an error's text."""
    first_line = message.split("\n", 1)[0][:300]
    return _VARYING.sub("#", first_line)


def fingerprint(job_type: str, reason: str, kind: str, message: str) -> str:
    """
    Name a group of deaths.

    Returns:
        Twelve hexadecimal digits, the same for deaths of one type, reason, error class and text
        up to numbers, ids and quoted values.
    """
    parts = "\x00".join((job_type, reason, kind, normalise(message)))
    return hashlib.blake2b(parts.encode("utf-8", "replace"), digest_size=6).hexdigest()

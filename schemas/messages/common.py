"""Bounds that several payloads share, each said once."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec

CONTENT_BYTES_MAX = 16_384
"""Longest content of a message, in bytes of UTF-8."""

RECEIPTS_MAX = 500
"""Most receipts in one job."""

MESSAGES_MAX = 500
"""Most messages that one job names."""

SEQ_MAX = 2**63 - 1
UNIX_MS_MAX = 253_402_300_799_999  # the last ms of the year 9999

Content = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        max_length=CONTENT_BYTES_MAX,
        description="The text, at most 16 KiB of UTF-8.",
    ),
]
ClientMessageId = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        max_length=128,
        description="The sender's own id; the same id again is the same message.",
    ),
]
Seq = Annotated[int, msgspec.Meta(ge=1, le=SEQ_MAX, description="Place in the conversation.")]
UnixMillis = Annotated[int, msgspec.Meta(ge=0, le=UNIX_MS_MAX, description="Unix time in ms.")]
Instant = Annotated[datetime, msgspec.Meta(tz=True, description="ISO 8601 time with its zone.")]


def check_instant(name: str, at: datetime | int | None) -> None:
    """
    Insist on a time that every system in the way can hold, whatever its zone.

    Raises:
        ValueError: It lies outside the years 1970 to 9998.
    """
    if isinstance(at, datetime) and not 1970 <= at.year <= 9998:
        raise ValueError(f"{name} must lie in the years 1970 to 9998")

"""How long a provider asked to be left alone."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

RETRY_AFTER_MS_MAX: Final = 86_400_000
"""What is believed at most: a day."""


def retry_after_ms(headers: Mapping[str, str], *, now_ms: int) -> int:
    """
    Read ``Retry-After``, which is seconds or an HTTP date; 0 where there is none to be understood.

    Args:
        headers: The answer's headers, their names in any case.
        now_ms: Unix time in milliseconds.
    """
    told = next((value for name, value in headers.items() if name.lower() == "retry-after"), "")
    told = told.strip()
    if told.isascii() and told.isdigit():
        # More digits than a day of seconds has are read as a day, not as a number.
        return min(int(told[:9]) * 1000, RETRY_AFTER_MS_MAX)
    try:
        at = parsedate_to_datetime(told)
        at_ms = round(at.replace(tzinfo=at.tzinfo or UTC).timestamp() * 1000)
    except (ValueError, OverflowError):
        return 0
    return max(0, min(at_ms - now_ms, RETRY_AFTER_MS_MAX))

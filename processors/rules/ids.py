"""Ids that the application makes."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID


def uuid_v7(now_ms: int, random: Callable[[int], bytes]) -> UUID:
    """
    Make a UUID of version 7 (RFC 9562, section 5.7), which sorts by its time.

    Args:
        now_ms: Unix time in milliseconds.
        random: Gives that many random bytes, such as ``os.urandom``.
    """
    chance = int.from_bytes(random(10))
    number = (now_ms & (1 << 48) - 1) << 80 | 0x7 << 76 | (chance >> 68) << 64
    return UUID(int=number | 0b10 << 62 | chance & (1 << 62) - 1)

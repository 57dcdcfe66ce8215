"""
Keys of objects: random, in 256 shards, so that store and database are compared a shard at a time.

``ab/<30 hex digits>`` is an attachment, ``ab/<30 hex digits>.<name>`` something made of it, such
as a thumbnail.
"""

from __future__ import annotations

import re
from collections.abc import Callable

SHARDS = 256
KEY = re.compile(r"[0-9a-f]{2}/[0-9a-f]{30}(\.[a-z0-9-]{1,32})?")
PART = re.compile(r"[a-z0-9-]{1,32}")


def new_key(random: Callable[[int], bytes]) -> str:
    """Make a key that never was; ``random`` gives that many random bytes."""
    name = random(16).hex()
    return f"{name[:2]}/{name[2:]}"


def part_key(key: str, name: str) -> str:
    """Name something that is made of an attachment."""
    assert PART.fullmatch(name)
    return f"{key}.{name}"


def is_ours(key: str) -> bool:
    """Whether a key has the form of ours; others in the store are none of our business."""
    return KEY.fullmatch(key) is not None


def shard(number: int) -> tuple[str, str]:
    """Return the first key that a shard could have, and the first one behind it."""
    assert 0 <= number < SHARDS
    return f"{number:02x}/", f"{number:02x}0"  # "0" follows "/"

"""How a job takes its unique value: the fields ``window``, ``debounce`` and ``throttle``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec

from engine.errors import Malformed
from schemas import rules

Number = Callable[[Any, bytes, int, int], int]


class Claim(msgspec.Struct, frozen=True):
    """
    How a job takes its unique value.

    Attributes:
        mode: ``unique`` while the job waits or runs; ``debounce``: the last one of a burst wins;
            ``throttle``: one in a span.
        ms: How long: the window from the first job, the silence that a burst ends with, the span.
        ms_max: The longest that a burst may put its job off; 0 for no bound.
    """

    mode: Literal["unique", "debounce", "throttle"] = "unique"
    ms: int = 0
    ms_max: int = 0


def claim_of(found: Mapping[bytes, bytes], number: Number) -> Claim | None:
    """
    Read how a unique value is taken.

    Args:
        found: The entry's fields.
        number: Reads a field as a whole number between two bounds.

    Raises:
        Malformed: The fields do not go together.
    """
    modes = [name for name in (b"window", b"debounce", b"throttle") if name in found]
    if b"unique" not in found:
        lone = next(iter(modes), b"debounce-max" if b"debounce-max" in found else b"")
        if lone:
            raise Malformed("unique-options", detail=f"`{lone.decode()}` needs the field `unique`")
        return None
    if len(modes) > 1:
        named = " and ".join(f"`{mode.decode()}`" for mode in modes)
        raise Malformed("unique-options", detail=f"give one of {named}")
    if b"debounce-max" in found and modes != [b"debounce"]:
        raise Malformed("unique-options", detail="`debounce-max` needs the field `debounce`")
    ms = number(found, modes[0], 1, rules.DELAY_MS_MAX) if modes else 0
    if modes == [b"debounce"]:
        has_max = b"debounce-max" in found
        ms_max = number(found, b"debounce-max", 1, rules.DELAY_MS_MAX) if has_max else 0
        return Claim("debounce", ms, ms_max)
    return Claim("throttle" if modes == [b"throttle"] else "unique", ms)

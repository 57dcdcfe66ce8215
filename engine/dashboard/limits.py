"""How much one caller may ask for: buckets of tokens, refilled at a steady rate."""

from __future__ import annotations

from collections import OrderedDict

import msgspec

from engine.clock import Clock

KEYS_MAX = 4_096
"""Callers that are told apart; those who did not ask for the longest time are forgotten."""


class Rate(msgspec.Struct, frozen=True):
    """
    How much is allowed.

    Attributes:
        burst: At once.
        per_s: Per second in the long run.
    """

    burst: int
    per_s: float


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """
    What one caller, or one address without a token, is allowed.

    Attributes:
        reads: Requests that change nothing.
        writes: Requests that change something.
        failures: Tokens that are none.
        reports: Reports of browsers.
    """

    reads: Rate = Rate(1_000, 200)
    writes: Rate = Rate(60, 10)
    failures: Rate = Rate(10, 1 / 6)
    reports: Rate = Rate(10, 1)


class Buckets:
    """
    One bucket for each caller.

    Args:
        rate: How much each is allowed.
        clock: Refills them.
    """

    def __init__(self, rate: Rate, clock: Clock) -> None:
        self._rate = rate
        self._clock = clock
        self._held: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str) -> float:
        """Take one; returns 0, or the seconds until there is one."""
        wait_s = self.wait_s(key)
        if wait_s == 0:
            tokens, at_s = self._held[key]
            self._held[key] = (tokens - 1, at_s)
        return wait_s

    def wait_s(self, key: str) -> float:
        """Return the seconds until there is one to take; 0 for now."""
        now_s = self._clock.monotonic()
        tokens, at_s = self._held.get(key, (float(self._rate.burst), now_s))
        tokens = min(self._rate.burst, tokens + (now_s - at_s) * self._rate.per_s)
        self._held[key] = (tokens, now_s)
        self._held.move_to_end(key)
        if len(self._held) > KEYS_MAX:
            self._held.popitem(last=False)
        return 0 if tokens >= 1 else (1 - tokens) / self._rate.per_s

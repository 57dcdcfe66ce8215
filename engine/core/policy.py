"""What a job type allows: attempts, delays, time limit, crash limit."""

from __future__ import annotations

import msgspec


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """
    How often and how soon a job is tried again.

    Attributes:
        attempts_max: Attempts in all, the first included; 1 to 100.
        base_ms: Upper bound of the delay after the first attempt.
        cap_ms: Upper bound of any delay.
        jitter: Share of the delay that chance decides: 1 is full jitter, 0 none.
    """

    attempts_max: int = 5
    base_ms: int = 1_000
    cap_ms: int = 300_000
    jitter: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= self.attempts_max <= 100:
            raise ValueError(f"attempts must be 1 to 100, not {self.attempts_max}")
        if not 0 <= self.base_ms <= self.cap_ms:
            raise ValueError("the base delay must lie between 0 and the cap")
        if not 0 <= self.jitter <= 1:
            raise ValueError("jitter must lie between 0 and 1")


def Exponential(  # noqa: N802 - reads as a value where handlers are declared
    attempts: int = 5, *, base_s: float = 1.0, cap_s: float = 300.0, jitter: float = 1.0
) -> RetryPolicy:
    """Build a policy of capped exponential delays: ``min(cap, base * 2^(attempt-1))``."""
    return RetryPolicy(
        attempts_max=attempts,
        base_ms=round(base_s * 1000),
        cap_ms=round(cap_s * 1000),
        jitter=jitter,
    )


class TypePolicy(msgspec.Struct, frozen=True, kw_only=True):
    """
    Everything that :func:`engine.core.decide.decide` needs to know of a job type.

    Attributes:
        retry: Attempts and delays.
        deliveries_lost_max: Deliveries that may be lost with their engines before the job is
            dead with reason ``crash-loop``.
        version_grace_ms: How long a job of an unknown payload version waits for an engine
            that knows it.
        version_recheck_ms: How often it is looked at meanwhile.
    """

    retry: RetryPolicy = RetryPolicy()
    deliveries_lost_max: int = 3
    version_grace_ms: int = 600_000
    version_recheck_ms: int = 15_000

"""The delay before the next attempt."""

from __future__ import annotations

from engine.core.policy import RetryPolicy


def retry_delay_ms(attempt: int, policy: RetryPolicy, draw: float) -> int:
    """
    Exponential backoff with a cap and jitter.

    Args:
        attempt: The attempt that just ended, from 1.
        policy: Base, cap and share of jitter.
        draw: Uniform number in [0, 1).

    Returns:
        Milliseconds, at most ``cap_ms``. With full jitter it is uniform from 0 to
        ``min(cap, base * 2^(attempt-1))``, which spreads a crowd of failed jobs best
        (AWS Architecture Blog, "Exponential Backoff And Jitter").
    """
    # Beyond 2^40 every base above 0 has met any cap; the bound keeps the numbers small.
    bound = min(policy.cap_ms, policy.base_ms << min(attempt - 1, 40))
    return round(bound * (1 - policy.jitter + policy.jitter * draw)) if bound else 0

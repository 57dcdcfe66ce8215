"""The delay before the next attempt."""

from __future__ import annotations

import pytest

from engine.core.backoff import retry_delay_ms
from engine.core.policy import Exponential, RetryPolicy, TypePolicy

ALMOST_1 = 1 - 2**-53


@pytest.mark.parametrize(
    ("attempt", "expected_ms"),
    [(1, 1_000), (2, 2_000), (3, 4_000), (9, 256_000), (10, 300_000), (100, 300_000)],
)
def test_the_delay_doubles_up_to_the_cap(attempt: int, expected_ms: int) -> None:
    assert retry_delay_ms(attempt, RetryPolicy(jitter=0.0), 0.5) == expected_ms


def test_full_jitter_spreads_from_zero_to_the_bound() -> None:
    policy = RetryPolicy()

    assert retry_delay_ms(3, policy, 0.0) == 0
    assert retry_delay_ms(3, policy, 0.5) == 2_000
    assert retry_delay_ms(3, policy, ALMOST_1) == 4_000


def test_half_jitter_keeps_half_the_delay() -> None:
    policy = RetryPolicy(jitter=0.5)

    assert retry_delay_ms(1, policy, 0.0) == 500
    assert retry_delay_ms(1, policy, ALMOST_1) == 1_000


def test_no_delay_stays_none() -> None:
    assert retry_delay_ms(50, RetryPolicy(base_ms=0, cap_ms=0), ALMOST_1) == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"attempts_max": 0},
        {"attempts_max": 101},
        {"base_ms": -1},
        {"base_ms": 5, "cap_ms": 4},
        {"jitter": -0.1},
        {"jitter": 1.1},
        {"jitter": float("nan")},
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"attempts|base|jitter"):
        RetryPolicy(**wrong)  # type: ignore[arg-type]


def test_a_policy_reads_as_a_value() -> None:
    assert Exponential(7, base_s=0.5, cap_s=30, jitter=0.1) == RetryPolicy(
        attempts_max=7, base_ms=500, cap_ms=30_000, jitter=0.1
    )
    assert TypePolicy().retry == Exponential() == RetryPolicy()

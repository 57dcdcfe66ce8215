"""How much an engine holds beyond what runs."""

from __future__ import annotations

import pytest

from engine.core.capacity import (
    PROMOTION_PAUSE_S_MAX,
    count_by_bytes,
    prefetch,
    promotion_pause_s,
)


@pytest.mark.parametrize(
    ("rate_per_s", "prefetch_max", "expected"),
    [
        (0, 1_024, 4),
        (10, 1_024, 4),
        (1_000, 1_024, 50),
        (1_000_000, 1_024, 1_024),
        (0, 1, 1),
        (1_000, 10, 10),
    ],
)
def test_the_buffer_follows_the_rate(rate_per_s: float, prefetch_max: int, expected: int) -> None:
    assert prefetch(rate_per_s, prefetch_max) == expected


@pytest.mark.parametrize(
    ("wanted", "bytes_per_job", "expected"),
    [(100, 100, 100), (100, 1_000, 16), (100, 1_000_000, 1), (100, 0, 100), (1, 10**9, 1)],
)
def test_one_read_is_bounded_by_bytes(wanted: int, bytes_per_job: float, expected: int) -> None:
    assert count_by_bytes(wanted, bytes_per_job, 16_384) == expected


@pytest.mark.parametrize(
    ("waiting", "rate_per_s", "expected"),
    [
        # Nothing waits that could be overtaken.
        (0, 0, 0.0),
        (300, 100_000, 0.0),
        (301, 100_000, 0.004),
        (1_000_000, 40_000, 0.01),
        # Slow jobs do not keep what is due where it is.
        (301, 0, PROMOTION_PAUSE_S_MAX),
        (301, 100, PROMOTION_PAUSE_S_MAX),
    ],
)
def test_promotion_keeps_pace_with_the_work(
    waiting: int, rate_per_s: float, expected: float
) -> None:
    assert promotion_pause_s(300, waiting, rate_per_s) == pytest.approx(expected)

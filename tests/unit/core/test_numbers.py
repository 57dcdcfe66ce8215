"""Buckets, percentiles, and what is kept of a quarter of an hour."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.numbers import (
    DEATHS_MAX,
    counts_text,
    levels_text,
    merged,
    quantile_ms,
    quarter_of,
    read_counts,
    read_minutes,
    read_quarter,
    spread_of,
    summed,
)
from engine.telemetry import Histogram
from schemas.numbers import BOUNDS_S, Levels, Numbers

BUCKETS = len(BOUNDS_S) + 1
COUNTS = st.lists(st.integers(0, 10_000), max_size=BUCKETS)
SECONDS = st.floats(0.000_001, 1_000, allow_nan=False)


@given(st.lists(SECONDS, min_size=1, max_size=200), st.sampled_from([0.01, 0.5, 0.95, 0.99, 1]))
def test_a_percentile_lies_in_the_bucket_of_the_true_one(
    seconds: list[float], share: float
) -> None:
    histogram = Histogram()
    for each in seconds:
        histogram.observe(each)

    found = quantile_ms(histogram.counts, share)

    rank = min(len(seconds), max(1, -int(-share * len(seconds) // 1)))
    true_s = sorted(seconds)[rank - 1]
    bounds_ms = [0.0, *(1e3 * bound for bound in BOUNDS_S)]
    at = min(sum(1 for bound in BOUNDS_S if bound < true_s), len(BOUNDS_S) - 1)
    assert found is not None
    if true_s > BOUNDS_S[-1]:
        assert found == bounds_ms[-1]
    else:
        assert bounds_ms[at] <= found <= bounds_ms[at + 1]


@given(COUNTS)
def test_percentiles_rise(counts: list[int]) -> None:
    told = spread_of(counts)

    assert told.count == sum(counts)
    if told.count:
        assert told.p50_ms is not None
        assert told.p95_ms is not None
        assert told.p99_ms is not None
        assert told.p50_ms <= told.p95_ms <= told.p99_ms
    else:
        assert (told.p50_ms, told.p95_ms, told.p99_ms) == (None, None, None)


def test_a_percentile_is_interpolated_within_its_bucket() -> None:
    # A hundred jobs between 10 and 25 ms: the 50th lies in the middle of them.
    assert quantile_ms([0, 0, 0, 100], 0.5) == 17.5
    assert quantile_ms([50, 0, 0, 50], 0.5) == 1.0


@given(st.lists(COUNTS, max_size=8))
def test_merged_buckets_are_the_sums(parts: list[list[int]]) -> None:
    total = merged(Numbers(run={"t": counts}) for counts in parts)

    if not parts:
        assert total is None
    else:
        assert total is not None
        padded = [counts + [0] * (BUCKETS - len(counts)) for counts in parts]
        sums = [sum(column) for column in zip(*padded, strict=True)]
        assert total.run["t"] + [0] * (BUCKETS - len(total.run["t"])) == sums


def test_merging_leaves_the_parts_as_they_are() -> None:
    part = Numbers(ends={"done": {"t": 1}}, run={"t": [1]}, deaths={"f": 1})

    merged([part, part])

    assert part == Numbers(ends={"done": {"t": 1}}, run={"t": [1]}, deaths={"f": 1})


@given(COUNTS)
def test_counts_are_read_as_they_were_written(counts: list[int]) -> None:
    found = read_counts(counts_text(counts).encode())

    assert summed([found, [0] * BUCKETS]) == summed([counts, [0] * BUCKETS])


@pytest.mark.parametrize("text", [b"", b"x", b"1,,2", b"1.5"])
def test_counts_that_make_no_sense_count_as_none(text: bytes) -> None:
    assert read_counts(text) == []


def test_an_hour_is_read_by_its_minutes() -> None:
    levels = Levels(waiting=3, oldest_ms=900)

    found = read_minutes(
        {
            b"60:done:t": b"5",
            b"60:run:t": b"0,5",
            b"60:wait:low": b"5",
            b"61:levels": levels_text(levels).encode(),
            b"60:deaths:abc": b"2",
            b"@engine-1": b"17",
            b"61:levels:": b"?",
            b"nonsense": b"1",
            b"60:dead:t": b"many",
        }
    )

    assert found[60] == Numbers(
        ends={"done": {"t": 5}}, run={"t": [0, 5]}, wait={"low": [5]}, deaths={"abc": 2}
    )
    assert found[61].last == levels
    assert found[61].ends == {}


def test_a_quarter_keeps_the_sums_the_last_and_the_most() -> None:
    full, empty = Levels(waiting=90, oldest_ms=5_000), Levels(waiting=1)
    minutes = {
        29: Numbers(ends={"done": {"t": 100}}),
        30: Numbers(ends={"done": {"t": 1}}, last=full, most=full),
        44: Numbers(ends={"done": {"t": 2}, "dead": {"u": 1}}, last=empty, most=empty),
        45: Numbers(ends={"done": {"t": 100}}),
    }

    kept = read_quarter(quarter_of(minutes, 2))

    assert kept is not None
    assert kept.ends == {"done": {"t": 3}, "dead": {"u": 1}}
    assert (kept.last, kept.most) == (empty, full)


@pytest.mark.parametrize("raw", [b"{}", b"[]", b"junk", b""])
def test_a_quarter_of_which_nothing_is_known_is_none(raw: bytes) -> None:
    assert read_quarter(raw) is None
    assert quarter_of({}, 1) == b"{}"


def test_a_quarter_keeps_the_groups_with_most_deaths() -> None:
    deaths = {f"f{number}": number + 1 for number in range(3 * DEATHS_MAX)}

    kept = read_quarter(quarter_of({0: Numbers(deaths=deaths)}, 0))

    assert kept is not None
    assert len(kept.deaths) == DEATHS_MAX
    assert sum(kept.deaths.values()) == sum(deaths.values())
    assert kept.deaths[f"f{3 * DEATHS_MAX - 1}"] == 3 * DEATHS_MAX

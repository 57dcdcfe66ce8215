"""Which policy counts, and from before which instant messages go."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.rules.retention import (
    BACKOFF_CAP_S,
    Bounds,
    Kept,
    Policy,
    choose,
    clamp,
    cutoff,
    deletion_delay_s,
    instant_of,
)

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)

days = st.none() | st.integers(1, 2**31 - 1)
policies = st.none() | st.builds(Kept, days)
kept = st.builds(Kept, days)


@st.composite
def bounds(draw: st.DrawFn) -> Bounds:
    shortest = draw(st.integers(1, 36_500))
    longest = draw(st.none() | st.integers(shortest, 36_500))
    return Bounds(shortest, longest)


@given(policies, policies, kept, bounds())
def test_a_hold_keeps_everything(
    own: Kept | None, tenant: Kept | None, default: Kept, limits: Bounds
) -> None:
    policy = choose(hold=True, conversation=own, tenant=tenant, default=default, bounds=limits)

    assert policy == Policy("hold", None)
    assert cutoff(policy, NOW) is None


@given(policies, policies, kept, bounds())
def test_the_closest_policy_counts(
    own: Kept | None, tenant: Kept | None, default: Kept, limits: Bounds
) -> None:
    policy = choose(hold=False, conversation=own, tenant=tenant, default=default, bounds=limits)

    closest = own or tenant or default
    source = "conversation" if own else "tenant" if tenant else "default"
    assert policy == Policy(source, clamp(closest.days, limits))  # type: ignore[arg-type]


@given(days, bounds())
def test_no_policy_leaves_the_legal_bounds(wanted: int | None, limits: Bounds) -> None:
    got = clamp(wanted, limits)

    if limits.days_max is None:
        assert got == (None if wanted is None else max(wanted, limits.days_min))
    else:
        assert got is not None
        assert limits.days_min <= got <= limits.days_max
        if wanted is not None and limits.days_min <= wanted <= limits.days_max:
            assert got == wanted


@given(days, days, bounds())
def test_who_keeps_longer_never_ends_up_with_less(
    one: int | None, other: int | None, limits: Bounds
) -> None:
    def length(value: int | None) -> float:
        return float("inf") if value is None else value

    shorter, longer = sorted((one, other), key=length)

    assert length(clamp(shorter, limits)) <= length(clamp(longer, limits))


@given(st.integers(1, 2**31 - 1))
def test_nothing_younger_than_the_policy_goes(kept_days: int) -> None:
    before = cutoff(Policy("default", kept_days), NOW)

    if before is not None:
        assert NOW - before == timedelta(days=kept_days)


def test_a_policy_for_ever_has_no_instant() -> None:
    assert cutoff(Policy("default", None), NOW) is None


@given(st.integers(1, 1_000))
def test_an_object_that_fails_is_tried_ever_more_seldom(attempts: int) -> None:
    delay = deletion_delay_s(attempts)

    assert 60 <= delay <= BACKOFF_CAP_S
    assert deletion_delay_s(attempts + 1) >= delay


def test_the_first_failures_double_the_delay() -> None:
    assert [deletion_delay_s(n) for n in (1, 2, 3)] == [60, 120, 240]


@pytest.mark.parametrize("now_ms", [0, 1_795_348_800_123])
def test_an_instant_is_that_of_its_milliseconds(now_ms: int) -> None:
    assert instant_of(now_ms).timestamp() * 1000 == pytest.approx(now_ms)

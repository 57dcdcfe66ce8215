"""One order of questions decides about every notification."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.rules.decision import Defer, Digest, Drop, Facts, Send, decide
from processors.rules.preferences import Choice

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
SOON = NOW + timedelta(hours=1)
LATER = NOW + timedelta(hours=9)
PLAIN = Facts(now=NOW, choice=Choice(enabled=True))

LADDER: list[tuple[dict[str, Any], Any]] = [
    ({"gone": "message-deleted"}, Drop("message-deleted")),
    ({"expires_at": NOW}, Drop("expired")),
    ({"suppressed": True}, Drop("suppressed")),
    ({"mandatory": True}, Send()),
    ({"muted_until": SOON}, Drop("muted")),
    ({"level": "mentions"}, Drop("not-mentioned")),
    ({"choice": Choice(enabled=False)}, Drop("preference")),
    ({"choice": Choice(enabled=True, digest=True), "digest_due": SOON}, Digest(SOON)),
    ({"quiet_until": LATER}, Defer(LATER)),
    ({"read": True}, Drop("already-read")),
    ({"active": True}, Drop("active")),
    ({"reached": True}, Drop("already-delivered")),
    ({"throttled_until": SOON}, Defer(SOON)),
]
"""From the question asked first to the last: what makes it count, and what comes of it."""


def test_nothing_speaks_against_it() -> None:
    assert decide(PLAIN) == Send()


@pytest.mark.parametrize(("change", "expected"), LADDER)
def test_each_question_alone(change: dict[str, Any], expected: Any) -> None:
    assert decide(replace(PLAIN, **change)) == expected


@pytest.mark.parametrize("first", range(len(LADDER)))
def test_an_earlier_question_counts_before_all_later_ones(first: int) -> None:
    """Goal: the order is binding. Method: all questions from one on speak, the first one wins."""
    changes: dict[str, Any] = {}
    for change, _ in reversed(LADDER[first:]):
        changes |= change
    if LADDER[first][0].keys() != {"choice", "digest_due"}:
        changes.setdefault("digest_due", None)

    assert decide(replace(PLAIN, **changes)) == LADDER[first][1]


def test_what_has_passed_does_not_count() -> None:
    assert decide(replace(PLAIN, muted_until=NOW, expires_at=SOON)) == Send()


def test_a_mention_comes_through_mentions_only_but_not_through_a_mute() -> None:
    assert decide(replace(PLAIN, level="mentions", mentioned=True)) == Send()
    assert decide(replace(PLAIN, level="none", mentioned=True)) == Drop("muted")
    assert decide(replace(PLAIN, muted_until=SOON, mentioned=True)) == Drop("muted")


def test_what_is_throttled_is_gathered_where_it_can_be() -> None:
    assert decide(replace(PLAIN, throttled_until=LATER, digest_due=SOON)) == Digest(LATER)


def test_nothing_waits_for_its_own_expiry() -> None:
    assert decide(replace(PLAIN, quiet_until=LATER, expires_at=LATER)) == Drop("expired")
    assert decide(replace(PLAIN, throttled_until=LATER, expires_at=SOON)) == Drop("expired")


MOMENTS = st.none() | st.sampled_from([NOW - timedelta(hours=1), NOW, SOON, LATER])
AHEAD = st.none() | st.sampled_from([SOON, LATER])
FACTS = st.builds(
    Facts,
    now=st.just(NOW),
    choice=st.builds(Choice, st.booleans(), st.booleans()),
    gone=st.sampled_from(["", "left"]),
    expires_at=MOMENTS,
    suppressed=st.booleans(),
    mandatory=st.booleans(),
    level=st.sampled_from(["all", "mentions", "none"]),
    muted_until=MOMENTS,
    mentioned=st.booleans(),
    digest_due=AHEAD,
    quiet_until=AHEAD,
    read=st.booleans(),
    reached=st.booleans(),
    active=st.booleans(),
    throttled_until=AHEAD,
)


@given(FACTS)
def test_what_holds_of_every_decision(facts: Facts) -> None:
    decision = decide(facts)
    unreachable = facts.gone or facts.suppressed

    if unreachable:
        assert isinstance(decision, Drop)
    elif facts.mandatory:
        assert decision in (Send(), Drop("expired"))
    elif decision == Send():
        assert facts.choice.enabled
        assert not any([facts.read, facts.active, facts.reached, facts.quiet_until])
    if isinstance(decision, Defer):
        assert decision.until > NOW
        assert facts.expires_at is None or decision.until < facts.expires_at
    if isinstance(decision, Digest):
        assert facts.choice.enabled
        assert facts.digest_due is not None


@given(FACTS)
def test_waking_after_a_deferral_asks_everything_again(facts: Facts) -> None:
    """A deferral ends: at its moment, with the quiet hours and the throttle over, none follows."""
    decision = decide(facts)
    if isinstance(decision, Defer):
        woken = replace(facts, now=decision.until, quiet_until=None, throttled_until=None)
        assert isinstance(decide(woken), Send | Drop)

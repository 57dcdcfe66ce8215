"""Reports come late, twice and out of order, and never bring a delivery back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.rules.statuses import advanced, suppression

STATES = ["pending", "sending", "sent", "unknown", "delivered", "failed", "dropped", "cancelled",
          "digested"]  # fmt: skip
REPORTS = ["delivered", "failed", "bounced", "complained", "stopped", "started"]


@pytest.mark.parametrize(
    ("state", "reported", "expected"),
    [
        ("sent", "delivered", "delivered"),
        ("sent", "failed", "failed"),
        ("sent", "bounced", "failed"),
        ("sending", "delivered", "delivered"),
        ("unknown", "delivered", "delivered"),
        ("unknown", "failed", "failed"),
        ("delivered", "failed", "delivered"),
        ("failed", "delivered", "failed"),
        ("cancelled", "delivered", "cancelled"),
        ("delivered", "complained", "delivered"),
        ("sent", "stopped", "sent"),
        ("sent", "started", "sent"),
    ],
)
def test_states(state: str, reported: Any, expected: str) -> None:
    assert advanced(state, reported) == expected


@given(st.sampled_from(STATES), st.lists(st.sampled_from(REPORTS), min_size=1))
def test_an_end_stays_and_a_repeated_report_changes_nothing(state: str, reports: Any) -> None:
    seen = [state]
    for each in reports:
        seen.append(advanced(seen[-1], each))
        assert advanced(seen[-1], each) == seen[-1]

    assert len(set(seen)) <= 2


@pytest.mark.parametrize(
    ("channel", "reported", "code", "expected"),
    [
        ("email", "bounced", "5.1.1", "bounce"),
        ("email", "bounced", "", "bounce"),
        ("email", "bounced", "5.2.2", ""),
        ("email", "bounced", "5.7.1", ""),
        ("email", "bounced", "4.4.1", ""),
        ("email", "failed", "5.1.1", ""),
        ("email", "complained", "", "complaint"),
        ("email", "stopped", "", "unsubscribe"),
        ("sms", "stopped", "", "stop"),
        ("sms", "started", "", ""),
        ("sms", "failed", "21610", "stop"),
        ("sms", "failed", "30003", ""),
        ("sms", "delivered", "", ""),
        ("sms", "started", "START", ""),
    ],
)
def test_suppressions(channel: Any, reported: Any, code: str, expected: str) -> None:
    assert suppression(channel, reported, code) == expected

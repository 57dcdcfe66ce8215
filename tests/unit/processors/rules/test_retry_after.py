"""Retry-After, as providers write it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.rules.retry_after import RETRY_AFTER_MS_MAX, retry_after_ms

NOW_MS = 1_763_769_600_000
"""Saturday, 22 November 2025, midnight UTC."""


@pytest.mark.parametrize(
    ("told", "wanted_ms"),
    [
        ("30", 30_000),
        (" 0 ", 0),
        ("999999999999999999999999", RETRY_AFTER_MS_MAX),
        ("Sat, 22 Nov 2025 00:01:30 GMT", 90_000),
        ("Saturday, 22-Nov-25 00:01:30 GMT", 90_000),
        ("Sat Nov 22 00:01:30 2025", 90_000),
        ("Fri, 21 Nov 2025 23:00:00 GMT", 0),
        ("Sat, 22 Nov 2036 00:00:00 GMT", RETRY_AFTER_MS_MAX),
        ("soon", 0),
        ("-5", 0),
        ("١٢", 0),
        ("", 0),
    ],
)
def test_a_wait_is_seconds_or_a_date(told: str, wanted_ms: int) -> None:
    assert retry_after_ms({"retry-after": told}, now_ms=NOW_MS) == wanted_ms


def test_the_header_may_be_written_in_any_case_or_be_missing() -> None:
    assert retry_after_ms({"Retry-After": "2"}, now_ms=NOW_MS) == 2_000
    assert retry_after_ms({"date": "2"}, now_ms=NOW_MS) == 0


@given(st.text(max_size=60))
def test_whatever_stands_there_is_a_bounded_wait(told: str) -> None:
    assert 0 <= retry_after_ms({"retry-after": told}, now_ms=NOW_MS) <= RETRY_AFTER_MS_MAX

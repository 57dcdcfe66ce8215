"""Names and numbers of batches and bulks."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.rules import batches as rules
from processors.rules.failures import bulk_id, is_permanent


@given(st.integers(0, 10_000), st.integers(1, 10_000))
def test_percent_is_whole_at_the_end_alone(ended: int, total: int) -> None:
    found = rules.percent(min(ended, total), total)

    assert 0 <= found <= 100
    assert (found == 100) == (ended >= total)


@given(st.integers(1, 100_000), st.integers(1, 2_000))
def test_chunks_and_their_spans_keep_the_rate(rate: int, chunk: int) -> None:
    size = rules.chunk_within(rate, chunk)
    span_us = rules.span_us(size, rate)

    assert 1 <= size <= chunk
    assert size * 1_000_000 // rate == span_us
    assert span_us <= 1_000_000
    assert rules.chunk_within(0, chunk) == chunk


@pytest.mark.parametrize(
    ("quiet_ms", "wait_ms"), [(0, 200), (799, 200), (4_000, 1_000), (60_000, 5_000), (-5, 200)]
)
def test_the_longer_nothing_ends_the_later_it_is_asked_again(quiet_ms: int, wait_ms: int) -> None:
    assert rules.poll_ms(quiet_ms) == wait_ms


@pytest.mark.parametrize(
    ("reason", "error", "code"),
    [
        ("cancelled", "not-a-member: user 7 is none", "not-a-member"),
        ("cancelled", "left: user 7", "left"),
        ("exhausted", "RuntimeError: no", "exhausted"),
        ("timeout", "", "timeout"),
        ("exhausted", "a" * 41 + ": too long a word", "exhausted"),
        ("exhausted", "two words: no code", "exhausted"),
        ("", "", "unknown"),
    ],
)
def test_code_of_a_failure_is_that_of_the_refusal_or_the_reason(
    reason: str, error: str, code: str
) -> None:
    assert rules.error_code(reason, error) == code


def test_names_follow_from_what_they_name() -> None:
    batch, other, user = UUID(int=1), UUID(int=2), UUID(int=3)

    assert rules.child_of(batch, user) == rules.child_of(batch, user)
    assert rules.child_of(batch, user) != rules.child_of(other, user)
    assert rules.batch_of_job("a") == rules.batch_of_job("a") != rules.batch_of_job("b")
    assert rules.fingerprint("a", "bc") != rules.fingerprint("ab", "c")
    assert rules.fingerprint("a\nb", "c") != rules.fingerprint("a", "b\nc")


def test_jobs_of_a_bulk_are_named_by_place_and_content() -> None:
    name = bulk_id("x", 0, "t", {"a": 1, "b": 2})

    assert name == bulk_id("x", 0, "t", {"b": 2, "a": 1})
    assert len({name, *(bulk_id(*part) for part in (  # type: ignore[arg-type]
        ("y", 0, "t", {"a": 1, "b": 2}),
        ("x", 1, "t", {"a": 1, "b": 2}),
        ("x", 0, "u", {"a": 1, "b": 2}),
        ("x", 0, "t", b'{"a":1}'),
        ("x", 0, "t", object()),
    ))}) == 6  # fmt: skip
    assert len(name) <= 128


@pytest.mark.parametrize("reason", ["cancelled", "malformed", "expired", "crash-loop", "news"])
def test_what_is_not_known_to_pass_is_permanent(reason: str) -> None:
    assert is_permanent(reason)
    assert not is_permanent("timeout")

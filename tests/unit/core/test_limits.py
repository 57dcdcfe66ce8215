"""Rules of limits: what operators may write, and which limits a job goes by."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.limits import LimitRule, checked_name, limits_of, make_rule, read_rule
from engine.errors import EngineError

NAMES = ("queue",)


@pytest.mark.parametrize(
    ("name", "said", "problem"),
    [
        ("no spaces", {}, "must match"),
        ("sms", {"rate": -1}, "0 or more"),
        ("sms", {"rate": 1, "per_s": 0}, "span"),
        ("sms", {"rate": 1, "burst": 0}, "burst"),
        ("sms", {"rate": 1, "burst": 10**20}, "below"),
        ("sms", {"concurrency": 10**20}, "below"),
        ("sms", {"rate": 1e9}, "below"),
        ("sms", {"rate": 1e-300}, "within 366 days"),
        ("sms", {"rate": 5, "per_s": 1e9}, "within 366 days"),
        ("tenant=*", {"concurrency": 1}, "by what"),
        ("sms", {"by": "header:tenant"}, "named <group>"),
        ("tenant=*", {"by": "cookie:tenant"}, "header:<name> or data:<path>"),
        ("queue", {"share": "header:t", "weights": {"a": 0}}, "weights"),
    ],
)
def test_a_rule_that_does_not_fit_is_refused_with_what_is_wrong(
    name: str, said: dict[str, Any], problem: str
) -> None:
    with pytest.raises(EngineError, match=problem):
        make_rule(name, **said)


@given(
    rate=st.floats(0.001, 1e6).map(lambda rate: float(f"{rate:g}")),
    per_s=st.sampled_from([0.5, 1, 60, 3_600]),
    burst=st.integers(1, 10_000),
    concurrency=st.integers(0, 10_000),
    weights=st.dictionaries(st.text("abc=% é", min_size=1, max_size=5), st.integers(1, 1_000)),
)
def test_a_rule_reads_as_it_was_written(
    rate: float, per_s: float, burst: int, concurrency: int, weights: dict[str, int]
) -> None:
    """Values of weights are written as jobs tell them, which the scripts compare."""
    rule = make_rule(
        "queue",
        rate=rate,
        per_s=per_s,
        burst=burst,
        concurrency=concurrency,
        share="header:tenant",
        weights=weights,
    )

    read = read_rule(rule.text())

    assert read is not None
    assert (read.rate, read.per_ms, read.burst, read.places) == (
        rate,
        round(per_s * 1000),
        burst,
        concurrency,
    )
    assert len(read.weights) == len(weights)
    assert sorted(read.weights.values()) == sorted(weights.values())


@given(st.text(max_size=40))
def test_whatever_stands_there_is_a_rule_or_none(text: str) -> None:
    rule = read_rule(text)

    assert rule is None or (rule.rate >= 0 and rule.per_ms >= 1)


@pytest.mark.parametrize("text", ["5 1000 9{} 0", "5 1000 1 9{}", "5 9{} 1 1", "1 1 1 1 a=9{}"])
def test_numbers_of_any_length_are_no_rule(text: str) -> None:
    assert read_rule(text.format("")) is not None
    assert read_rule(text.format("9" * 19)) is None


def test_a_rate_lets_one_through_at_least() -> None:
    rule = read_rule("50 1000 0 0")

    assert rule is not None
    assert rule.burst == 1


def test_a_job_goes_by_the_limits_of_its_type_and_of_its_groups() -> None:
    rules = {
        "queue": LimitRule(places=5, share="header:tenant"),
        "tenant=*": LimitRule(places=1, by="header:tenant"),
        "account=*": LimitRule(places=1, by="data:account.id"),
    }
    data = b'{"account": {"id": 7}}'

    found = limits_of(("queue", "sms"), rules, {"tenant": "acme corp"}, data)

    assert found == ("queue\x02acme%20corp", "sms", "tenant=acme%20corp", "account=7")


@pytest.mark.parametrize(
    "data", [b"{}", b"not json", b'{"account": true}', b'{"account": {"id": null}}']
)
def test_a_job_that_tells_no_group_goes_by_no_group_s_limit(data: bytes) -> None:
    rules = {"account=*": LimitRule(places=1, by="data:account.id")}

    assert limits_of((), rules, {}, data) == ()


def test_a_handler_may_name_a_group_by_any_text() -> None:
    assert checked_name("provider:sms") == "provider:sms"
    assert checked_name("tenant=acme corp\0") == "tenant=acme%20corp%00"
    for wrong in ("", "two words", "tenant=", "=x", "x\0y"):
        with pytest.raises(ValueError, match="must match"):
            checked_name(wrong)

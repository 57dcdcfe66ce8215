"""Figures are held against the right bounds, from the right side."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.suite.targets import Target, judge, of, ratio, to_best_peer, value, verdicts


def results(**systems: float) -> dict[str, dict[str, Any]]:
    return {"w1": {name: [{"jobs_per_s": rate}] for name, rate in systems.items()}}


@pytest.mark.parametrize(
    ("rate", "reached"), [(69.0, "missed"), (70.0, "met"), (99.0, "met"), (100.0, "stretch")]
)
def test_a_figure_that_should_be_high_is_judged_from_below(rate: float, reached: str) -> None:
    target = Target(
        tells="t", unit="of 100", target=0.7, stretch=1.0, figure=value("w1", "jobs_per_s", by=100)
    )

    assert judge(target, results(streamlane=rate)).reached == reached


@pytest.mark.parametrize(("ms", "reached"), [(1.1, "missed"), (1.0, "met"), (0.5, "stretch")])
def test_a_figure_that_should_be_low_is_judged_from_above(ms: float, reached: str) -> None:
    target = Target(
        tells="t", unit="ms", target=1, stretch=0.5, at_most=True, figure=value("w4", "p99_ms")
    )

    assert judge(target, {"w4": {"streamlane": [{"p99_ms": ms}]}}).reached == reached


def test_a_stretch_without_a_target_can_be_missed() -> None:
    target = Target(tells="t", unit="x", stretch=2, figure=value("w1", "jobs_per_s"))

    verdict = judge(target, results(streamlane=1.0))

    assert (verdict.target, verdict.stretch, verdict.reached) == ("–", "≥ 2 x", "missed")


def test_what_failed_or_was_not_measured_is_not_judged() -> None:
    target = Target(tells="t", unit="x", target=1, figure=ratio("w1", "jobs_per_s", to="raw_task"))
    failed: dict[str, dict[str, Any]] = {
        "w1": {"streamlane": [{"jobs_per_s": 5.0}], "raw_task": {"error": "no"}}
    }

    for found in ({}, results(streamlane=5.0), results(streamlane=5.0, raw_task=0.0), failed):
        assert judge(target, found).reached == "not measured"


def test_another_workload_may_be_the_measure() -> None:
    figure = ratio("w1-lanes", "jobs_per_s", to="raw_task", of_workload="w1")

    found = results(raw_task=200.0) | {"w1-lanes": {"streamlane": [{"jobs_per_s": 100.0}]}}

    assert figure(found) == 0.5


def test_the_best_peer_is_none_of_those_written_by_hand() -> None:
    figure = to_best_peer("w1", "jobs_per_s")

    found = results(streamlane=30.0, raw=1_000.0, raw_task=500.0, arq=5.0, saq=10.0)

    assert figure(found) == 3.0


def test_a_figure_is_the_median_of_its_runs() -> None:
    runs = {"w1": {"raw": [{"jobs_per_s": rate} for rate in (1.0, 2.0, 9.0)]}}

    assert of(runs, "w1", "raw", "jobs_per_s") == 2.0


def test_every_target_has_a_bound_and_stretches_lie_beyond() -> None:
    from benchmarks.suite.targets import TARGETS

    for target in TARGETS:
        assert target.target is not None or target.stretch is not None
        if target.target is not None and target.stretch is not None:
            assert (target.stretch < target.target) == target.at_most


def test_nothing_measured_judges_nothing() -> None:
    assert {verdict.reached for verdict in verdicts({})} == {"not measured"}

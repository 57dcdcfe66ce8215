"""The targets of speed, and how far each figure got. Pure: results in, verdicts out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import msgspec

from benchmarks.suite.catalog import ENTRIES
from benchmarks.suite.statistics import Spread, column

Results = Mapping[str, Mapping[str, object]]
"""Workload → system → runs, or what went wrong."""

Figure = Callable[[Results], float | None]


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """
    One line of the table of targets.

    Attributes:
        tells: What is looked at.
        unit: How the bounds and the figure are to be read.
        figure: Takes the figure from the results; None where it was not measured.
        target: The bound; None where there is only a stretch.
        stretch: The bound beyond.
        at_most: Whether less is better.
    """

    tells: str
    unit: str
    figure: Figure
    target: float | None = None
    stretch: float | None = None
    at_most: bool = False


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """
    How far one figure got.

    Attributes:
        tells: What was looked at.
        target: The bound, in words.
        stretch: The bound beyond, in words.
        figure: The figure; None where it was not measured.
        reached: ``met``, ``stretch``, ``missed`` or ``not measured``.
    """

    tells: str
    target: str
    stretch: str
    figure: float | None
    reached: str


def of(results: Results, workload: str, system: str, name: str) -> float | None:
    """Take the median of one figure."""
    found = summed(results, workload, system, name)
    return found.median if found else None


def summed(results: Results, workload: str, system: str, name: str) -> Spread | None:
    """Sum up one figure over the runs of one system."""
    runs = results.get(workload, {}).get(system)
    return column(runs, name) if isinstance(runs, list) else None


def value(workload: str, name: str, *, by: float = 1.0) -> Figure:
    """Look at a figure of ours, in parts of a number."""

    def figure(results: Results) -> float | None:
        ours = of(results, workload, "streamlane", name)
        return None if ours is None else ours / by

    return figure


def ratio(workload: str, name: str, *, to: str, of_workload: str = "") -> Figure:
    """Look at a figure of ours in parts of another system's."""

    def figure(results: Results) -> float | None:
        return _over(
            of(results, workload, "streamlane", name),
            of(results, of_workload or workload, to, name),
        )

    return figure


def to_best_peer(workload: str, name: str) -> Figure:
    """Look at a figure of ours in parts of the best that any other job system reached."""

    def figure(results: Results) -> float | None:
        peers = [system for system, entry in ENTRIES.items() if entry.is_peer]
        reached = [of(results, workload, system, name) for system in peers]
        best = max((each for each in reached if each is not None), default=None)
        return _over(of(results, workload, "streamlane", name), best)

    return figure


def _over(above: float | None, below: float | None) -> float | None:
    return above / below if above is not None and below else None


def _throughput() -> tuple[Target, ...]:
    rate = "jobs_per_s"
    task = "of raw_task"
    return (
        Target(tells="w1 no-op throughput", unit=task, target=0.7, stretch=1.0,
               figure=ratio("w1", rate, to="raw_task")),
        Target(tells="w1 no-op throughput", unit="× bullmq_node", target=9, stretch=13,
               figure=ratio("w1", rate, to="bullmq_node")),
        Target(tells="w1 with 4 lanes, 7 types, 200 B and 2 KB", unit=f"{task}'s w1", target=0.5,
               stretch=0.7, figure=ratio("w1-lanes", rate, to="raw_task", of_workload="w1")),
        Target(tells="w1 with every job keyed", unit=f"{task}'s w1", target=0.2, stretch=0.35,
               figure=ratio("w1-keyed", rate, to="raw_task", of_workload="w1")),
        Target(tells="w2 5 ms handlers, 100 at a time", unit="of 20,000/s", target=0.95,
               figure=value("w2", rate, by=20_000)),
        Target(tells="w2 with 1,000 at a time", unit="of 200,000/s", stretch=0.88,
               figure=value("w2-1000", rate, by=200_000)),
        Target(tells="w5 every job fails once", unit="of raw's w5", target=0.4, stretch=0.7,
               figure=ratio("w5", rate, to="raw")),
        Target(tells="w1 with AOF everysec", unit="of without", target=0.5, stretch=0.57,
               figure=_aof),
    )  # fmt: skip


def _aof(results: Results) -> float | None:
    return _over(
        of(results, "w1-aof", "streamlane", "jobs_per_s"),
        of(results, "w1", "streamlane", "jobs_per_s"),
    )


def _enqueuing() -> tuple[Target, ...]:
    return (
        Target(tells="w3 one awaited", unit="× the best peer", target=1.0,
               figure=to_best_peer("w3", "one_per_s")),
        Target(tells="w3 bulk", unit="× the best peer", target=2.0,
               figure=to_best_peer("w3", "bulk_per_s")),
        Target(tells="w3 one awaited", unit="of raw", stretch=0.8,
               figure=ratio("w3", "one_per_s", to="raw")),
        Target(tells="w3 bulk", unit="of raw", stretch=0.8,
               figure=ratio("w3", "bulk_per_s", to="raw")),
    )  # fmt: skip


def _latency() -> tuple[Target, ...]:
    return (
        Target(tells="w4 at 500/s, p50", unit="× raw", target=2.0, stretch=1.3, at_most=True,
               figure=ratio("w4", "p50_ms", to="raw")),
        Target(tells="w4 at 500/s, p99", unit="ms", target=1.0, at_most=True,
               figure=value("w4", "p99_ms")),
        Target(tells="w4 at 500/s, p99", unit="× raw", stretch=2.0, at_most=True,
               figure=ratio("w4", "p99_ms", to="raw")),
        Target(tells="w4 at half of capacity, p99", unit="ms", target=10, stretch=3, at_most=True,
               figure=value("w4-half", "p99_ms")),
    )  # fmt: skip


def _cost() -> tuple[Target, ...]:
    return (
        Target(tells="server CPU per no-op job", unit="µs", target=2.5, stretch=1.9, at_most=True,
               figure=value("w1", "server_us")),
        Target(tells="worker CPU per no-op job", unit="µs", target=2.0, stretch=1.2, at_most=True,
               figure=value("w1", "worker_us")),
        Target(tells="idle RSS", unit="MiB", target=60, at_most=True,
               figure=value("memory", "idle_rss_mib")),
        Target(tells="RSS gained at full load", unit="MiB", target=10, at_most=True,
               figure=value("memory", "grown_rss_mib")),
        Target(tells="queued bytes per job", unit="× the bare entry", target=1.3, at_most=True,
               figure=value("memory", "queued_to_bare")),
        Target(tells="two processes, handlers of 20 µs", unit="× one process", target=1.8,
               figure=value("processes", "speedup")),
    )  # fmt: skip


TARGETS = (*_throughput(), *_enqueuing(), *_latency(), *_cost())


def judge(target: Target, results: Results) -> Verdict:
    """Hold one figure against its bounds."""
    figure = target.figure(results)
    if figure is None or not math.isfinite(figure):
        figure, reached = None, "not measured"
    elif target.stretch is not None and _holds(target, figure, target.stretch):
        reached = "stretch"
    elif target.target is not None and _holds(target, figure, target.target):
        reached = "met"
    else:
        reached = "missed"
    return Verdict(
        tells=target.tells,
        target=_words(target, target.target),
        stretch=_words(target, target.stretch),
        figure=figure,
        reached=reached,
    )


def _holds(target: Target, figure: float, bound: float) -> bool:
    return figure <= bound if target.at_most else figure >= bound


def _words(target: Target, bound: float | None) -> str:
    if bound is None:
        return "–"
    return f"{'≤' if target.at_most else '≥'} {bound:g} {target.unit}"


def verdicts(results: Results) -> list[Verdict]:
    """Hold everything that was measured against the targets."""
    return [judge(target, results) for target in TARGETS]

"""The simulation is worth what it would catch: each rule taken out must turn it red."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from engine.testing.queue_model import QueueModel
from tests.simulation import mutants
from tests.simulation.engines import SimEngine
from tests.simulation.invariants import Violation
from tests.simulation.marked import MarkedWorld
from tests.simulation.world import World

SEEDS = range(60)
QUEUES: list[tuple[type[QueueModel], str]] = [
    (mutants.Unfenced, "settled .* held by"),
    (mutants.ForgetsWhatGoesOnAtOnce, "never ended"),
    (mutants.SettlesInPart, "counters say|ended as|after its end"),
    (mutants.AcknowledgesAtDelivery, "never ended"),
    (mutants.GroupStartsAtTheEnd, "never ended"),
    (mutants.PromotesCopies, "after its end|ended as|left behind|times,"),
    (mutants.CountsHandBacksAsLosses, "crash-loop after|settled .* held by"),
    (mutants.RenewalSteals, "settled .* held by|started by"),
    (mutants.DeletesWithoutAcknowledging, "nobody trims|still leased"),
]
ENGINES: list[tuple[type[SimEngine], str]] = [
    (mutants.BelievesIdleTimes, "ms of silence"),
    (mutants.NeverRenews, "crash-loop|never ended"),
    (mutants.GivesUpTooLate, "times,|gave up after|ended as"),
    (mutants.SpendsAttemptsOnSnoozes, "ended as exhausted"),
    (mutants.ForgetsLosses, "never ended|times,"),
]
MARKS: list[dict[str, Any]] = [
    {"queue_kind": mutants.ReclaimKeepsTheMark},
    {"queue_kind": mutants.NewGroupsKeepTheMark},
    {"queue_kind": mutants.OneMarkForEver},
    {"queue_kind": mutants.MarksVouchForAll},
    {"engine_kind": mutants.TrustsMarksOverReconnects},
]


def first_violation(
    seeds: range = SEEDS,
    *,
    orders_rate: float = 0,
    world: Callable[..., World] = World,
    **kinds: Any,
) -> str:
    """What the first seeds have against a mutant."""
    for seed in seeds:
        try:
            made = world(seed=seed, orders_rate=orders_rate, **kinds)
            made.run_until_idle(steps_max=8_000)
        except Violation as violation:
            return str(violation)
    return "nothing"


@pytest.mark.parametrize(("mutant", "complaint"), QUEUES)
def test_a_queue_without_this_rule_is_caught(mutant: type[QueueModel], complaint: str) -> None:
    assert re.search(complaint, first_violation(queue_kind=mutant))


@pytest.mark.parametrize(("mutant", "complaint"), ENGINES)
def test_an_engine_without_this_rule_is_caught(mutant: type[SimEngine], complaint: str) -> None:
    assert re.search(complaint, first_violation(engine_kind=mutant))


@pytest.mark.parametrize("mutant", MARKS, ids=lambda kinds: next(iter(kinds.values())).__name__)
def test_marks_that_say_too_much_are_caught(mutant: dict[str, Any]) -> None:
    found = first_violation(world=MarkedWorld, **mutant)

    assert re.search("settled .* held by", found)


def test_an_engine_that_ignores_orders_is_caught() -> None:
    told = first_violation(orders_rate=0.01, engine_kind=mutants.IgnoresOrders)

    assert "knew that it was cancelled" in told


def test_the_delivery_count_is_part_of_the_fence() -> None:
    """
    Goal: two leases of one engine are told apart.

    Method: an engine that keeps its old lease beside the one it took over from itself is safe
    with the full fence, and not with one that looks at the owner alone.
    """
    careless: dict[str, Any] = {"engine_kind": mutants.KeepsBothLeases}

    assert first_violation(range(15), **careless) == "nothing"
    found = first_violation(**careless, queue_kind=mutants.FencedByOwnerAlone)
    assert re.search("settled .* held by", found)

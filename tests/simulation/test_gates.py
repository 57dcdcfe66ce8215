"""Seeded runs with gated jobs: order, limits and uniqueness hold whatever dies."""

from __future__ import annotations

import os
import re
from collections import Counter
from typing import Any

import pytest

from engine.testing.queue_model import QueueModel
from tests.simulation import gate_mutants as mutants
from tests.simulation.gated import GatedWorld
from tests.simulation.invariants import Violation

RUNS = int(os.environ.get("SIM_RUNS", "16"))
SEEDS = [int(os.environ["SIM_SEED"])] if "SIM_SEED" in os.environ else list(range(RUNS))
STEPS_MAX = 20_000
MUST_BE_SEEN = {
    "crashed",
    "done",
    "duplicate",
    "entered",
    "groups lost",
    "handed",
    "limited",
    "paced",
    "parked",
    "reclaimed",
    "recovered",
    "released",
    "settlement repeated",
    "started by key",
    "told lost",
    "told parked",
    "told run",
}
seen: Counter[str] = Counter()


@pytest.mark.parametrize("seed", SEEDS)
def test_gates_hold_whatever_dies(seed: int) -> None:
    """
    Goal: jobs of one key start one at a time in the order of their lane; limits are not exceeded;
    of jobs with one unique value one is begun; every job ends once, and gates keep nothing.

    Method: see :mod:`tests.simulation.test_simulation`; jobs draw what they ask for. Replay a run
    with SIM_SEED=<seed>.
    """
    world = GatedWorld(seed, workers=3, jobs=30)

    world.run_until_idle(steps_max=STEPS_MAX)
    seen.update(world.seen)

    assert world.endings() == dict.fromkeys(world.job_ids, 1)


@pytest.mark.skipif(len(SEEDS) < 16, reason="too few runs to have seen everything")
def test_the_runs_have_seen_everything_that_they_are_for() -> None:
    assert MUST_BE_SEEN - set(seen) == set()


def first_violation(**kinds: Any) -> str:
    """What the first seeds have against a mutant."""
    for seed in range(5, 65):
        try:
            GatedWorld(seed, workers=3, jobs=30, **kinds).run_until_idle(steps_max=8_000)
        except Violation as violation:
            return str(violation)
    return "nothing"


@pytest.mark.parametrize(
    ("mutant", "complaint"),
    [
        (mutants.StartsWithoutATurn, "for one key|before .* of its key"),
        (mutants.FirstAskedFirstServed, "before .* of its key"),
        (mutants.PassesOnAtRetry, "for one key|before .* of its key"),
        (mutants.KeepsTheTurn, "never ended|left behind"),
        (mutants.LastOfTheLineFirst, "before .* of its key"),
        (mutants.KeepsPlaces, "never ended|left behind"),
        (mutants.GivesPlacesBackTwice, "for one tenant|inside a limit"),
        (mutants.TakesNoPlaces, "for one tenant"),
        (mutants.TakesNoTokens, "a rate was exceeded"),
        (mutants.FreesValuesAtRetry, "not unique"),
        (mutants.ForgetsThoseWhoWaitForPlaces, "never ended"),
    ],
)
def test_a_queue_without_this_rule_is_caught(mutant: type[QueueModel], complaint: str) -> None:
    assert re.search(complaint, first_violation(queue_kind=mutant))


def test_an_engine_that_asks_nobody_is_caught() -> None:
    told = first_violation(engine_kind=mutants.AsksNobody)

    assert re.search("for one key|before .* of its key|for one tenant|not unique", told)

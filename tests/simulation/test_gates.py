"""Seeded runs with gated jobs: order, limits and uniqueness hold whatever dies."""

from __future__ import annotations

import os
from collections import Counter

import pytest

from tests.simulation.gated import GatedWorld

RUNS = int(os.environ.get("SIM_RUNS", "30"))
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


@pytest.mark.skipif(len(SEEDS) < 30, reason="too few runs to have seen everything")
def test_the_runs_have_seen_everything_that_they_are_for() -> None:
    assert MUST_BE_SEEN - set(seen) == set()

"""Seeded runs of flows: whatever dies, every parent finishes once, with the right counts."""

from __future__ import annotations

import os
from collections import Counter

import pytest

from engine.runtime import flow_sweep
from tests.simulation.flow_world import World

RUNS = int(os.environ.get("SIM_RUNS", "20"))
SEEDS = [int(os.environ["SIM_SEED"])] if "SIM_SEED" in os.environ else list(range(RUNS))
MUST_BE_SEEN = {
    "call failed",
    "cancelled",
    "cancelled by ann",
    "child-failed",
    "deleted",
    "deleted while leased",
    "done",
    "exhausted",
    "killed",
    "opened",
    "told of a deleted one",
    "went on",
    "went on early",
}
seen: Counter[str] = Counter()


@pytest.mark.parametrize("seed", SEEDS)
def test_parents_finish(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Goal: each flow ends exactly once, after its children, with the right counts and results, and
    leaves nothing behind.

    Method: trees over two queues; engines die, stall, and lose calls before or after they are
    applied, between any two calls of the store; somebody deletes entries of children, and engines
    look for these all the time. Replay a run with SIM_SEED=<seed>.
    """
    monkeypatch.setattr(flow_sweep, "PASS_MS", 500)
    world = World(seed)

    world.run()
    seen.update(world.ledger.seen)

    assert set(world.roots) <= world.ledger.ends.keys()
    assert len(world.roots) == 5


@pytest.mark.skipif(len(SEEDS) < 20, reason="too few runs to have seen everything")
def test_the_runs_have_seen_everything_that_they_are_for() -> None:
    assert MUST_BE_SEEN - set(seen) == set()

"""
The same world, driven by hypothesis, which shrinks what it finds to the shortest story.

Goal: between any two steps each accepted job is in exactly one place, and after all troubles it
ends exactly once.
"""

from __future__ import annotations

from collections import Counter

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from engine.testing.queue_model import QueueModel
from engine.wire.packing import unpack
from tests.simulation import mutants
from tests.simulation.engines import Crash, SimEngine
from tests.simulation.invariants import Violation
from tests.simulation.world import World

ENGINES = 3
STEPS = ("fetch", "start", "finish", "settle", "renew", "reclaim", "promote", "recover", "poll")
WHERE = ("fetch", "reclaim", "request", "reply", "started", "finished")
workers = st.integers(0, ENGINES - 1)


class Machine(RuleBasedStateMachine):
    """Engines, jobs and troubles as rules."""

    queue_kind: type[QueueModel] = QueueModel

    @initialize(seed=st.integers(0, 10_000))
    def begin(self, seed: int) -> None:
        self.world = World(seed, workers=ENGINES, jobs=0, queue_kind=self.queue_kind)
        self.trouble = ""
        self.world._trouble = lambda where: where == self.trouble
        for engine in self.world.engines:
            engine.trouble = self.world._trouble

    @rule(count=st.integers(1, 4))
    def add(self, count: int) -> None:
        for _ in range(count):
            self.world.add_job()

    @rule(milliseconds=st.sampled_from([1, 500, 11_000, 31_000]))
    def pass_time(self, milliseconds: int) -> None:
        """Time passes for all; whoever is awake renews in time, as its renewing thread does."""
        while milliseconds > 0:
            part = min(milliseconds, 5_000)
            milliseconds -= part
            self.world.steady_ms += part
            self.world.model.advance(part)
            for number in range(ENGINES):
                self._act(number, "renew")

    @rule(number=workers, steps=st.lists(st.sampled_from(STEPS), min_size=1, max_size=12))
    def act(self, number: int, steps: list[str]) -> None:
        for step in steps:
            self._act(number, step)

    @rule(number=workers, step=st.sampled_from(STEPS), where=st.sampled_from(WHERE))
    def act_in_trouble(self, number: int, step: str, where: str) -> None:
        for trouble in (f"{where} lost", f"crash at {where}"):
            self.trouble = trouble
            self._act(number, step)
            self.trouble = ""

    @rule(number=workers, milliseconds=st.sampled_from([5_000, 35_000, 70_000]))
    def stall(self, number: int, milliseconds: int) -> None:
        self.world.engines[number].stalled_until_ms = self.world.steady_ms + milliseconds

    @rule(number=workers)
    def wake_and_settle(self, number: int) -> None:
        """An engine comes back, and its loop is faster than its renewing thread."""
        self.world.engines[number].stalled_until_ms = 0.0
        for step in ("finish", "finish", "settle", "settle"):
            self._act(number, step)

    @rule(number=workers)
    def crash(self, number: int) -> None:
        self.world.engines[number] = self.world.boot()

    @rule(number=workers)
    def drain(self, number: int) -> None:
        self.world.engines[number].drain()

    @rule(order=st.sampled_from(("cancel", "move_waiting", "move_delayed")))
    def order(self, order: str) -> None:
        getattr(self.world, order)()

    @rule()
    def lose_groups(self) -> None:
        self.world.lose_groups()

    @rule()
    def restart_server(self) -> None:
        self.world.restart_server()

    @rule()
    def step_clock(self) -> None:
        self.world.step_clock()

    @invariant()
    def each_job_is_in_one_place(self) -> None:
        present = Counter(
            _id_of(fields)
            for stream in self.world.queue.lanes.values()
            for fields in stream.entries.values()
        )
        present.update(_id_of(unpack(packed)[1:]) for packed in self.world.queue.delayed)
        present.update({job_id: len(ends) for job_id, ends in self.world.ledger.ends.items()})
        wrong = {job_id for job_id in self.world.job_ids if present[job_id] != 1}
        if wrong:
            raise Violation(f"not in exactly one place: {wrong}")

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        self.world.trouble_steps = 0
        for engine in self.world.engines:
            engine.stalled_until_ms = 0.0
        self.world.run_until_idle(steps_max=8_000)

    def _act(self, number: int, step: str) -> None:
        engine: SimEngine = self.world.engines[number]
        if engine.stalled_until_ms > self.world.steady_ms:
            return
        if engine.draining and step in {"fetch", "reclaim", "start"}:
            return
        try:
            engine._guarded(getattr(engine, step))
        except Crash:
            self.world.engines[number] = self.world.boot()


def _id_of(fields: list[bytes]) -> str:
    return fields[fields.index(b"id") + 1].decode()


QUICK = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


def test_each_job_is_in_one_place_at_each_step() -> None:
    run_state_machine_as_test(Machine, settings=QUICK)


@pytest.mark.full
def test_each_job_is_in_one_place_at_each_step_of_many_stories() -> None:
    run_state_machine_as_test(Machine, settings=settings(QUICK, max_examples=500))


@pytest.mark.parametrize(
    "mutant",
    [pytest.param(mutants.Unfenced, marks=pytest.mark.full), mutants.AcknowledgesAtDelivery],
)
def test_the_machine_finds_what_the_seeds_find(mutant: type[QueueModel]) -> None:
    class Mutated(Machine):
        queue_kind = mutant

    thorough = settings(
        QUICK, max_examples=300, database=None, derandomize=True, phases=(Phase.generate,)
    )
    with pytest.raises(Violation):
        run_state_machine_as_test(Mutated, settings=thorough)

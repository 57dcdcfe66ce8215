"""A seeded world: engines over one model, jobs, time, and everything that can go wrong."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from itertools import chain

from engine.errors import GroupMissing
from engine.testing.model import ServerModel
from engine.testing.queue_model import QueueModel
from schemas.rules import LANES
from tests.simulation.engines import LEASE_MS, Crash, SimEngine
from tests.simulation.invariants import Ledger, Violation
from tests.simulation.jobs import Plan, draw_plan, fields_of

QUEUE = "simulated"
HOUR_MS = 3_600_000


class World:
    """
    One simulated run.

    Args:
        seed: Draws everything: jobs, order, times, troubles.
        workers: Engines.
        jobs: Jobs that producers add over time.
        queue_kind: The queue's rules; a mutant to test the test.
        engine_kind: The engine's; likewise.
        orders_rate: How often operators cancel and move jobs.
    """

    def __init__(
        self,
        seed: int,
        *,
        workers: int = 3,
        jobs: int = 20,
        queue_kind: type[QueueModel] = QueueModel,
        engine_kind: type[SimEngine] = SimEngine,
        orders_rate: float = 0.01,
    ) -> None:
        self.seed = seed
        self.chance = random.Random(seed)
        self.steady_ms = 0.0
        self.model = ServerModel(queue_kind=queue_kind)
        self.queue = self.model.queue(QUEUE)
        self.engine_kind = engine_kind
        self.orders_rate = orders_rate
        self.ledger = self.make_ledger()
        self.model.observers.append(self.ledger.note)
        self.healed = False
        self.stepped_ms = -float("inf")
        self.trouble_rate = self.chance.choice([0.0, 0.01, 0.05, 0.1])
        self.trouble_steps = self.chance.randint(500, 3_000)
        self.jobs_left = jobs
        self.boots = 0
        self.queue.open()
        self.prepare()
        self.engines = [self.boot() for _ in range(workers)]

    def prepare(self) -> None:
        """Set the queue up before its first engine."""

    @property
    def job_ids(self) -> list[str]:
        """All accepted jobs."""
        return list(self.ledger.plans)

    def endings(self) -> dict[str, int]:
        """How often each accepted job ended."""
        return {job_id: len(self.ledger.ends[job_id]) for job_id in self.ledger.plans}

    @property
    def seen(self) -> Counter[str]:
        """What happened in this run."""
        return self.ledger.seen

    def boot(self) -> SimEngine:
        """Start an engine under a fresh name."""
        self.boots += 1
        consumer = f"engine-{self.boots}"
        if self.steady_ms - self.stepped_ms < LEASE_MS:
            self.ledger.excuse(consumer)
        return self.engine_kind(
            consumer,
            model=self.model,
            queue=self.queue,
            ledger=self.ledger,
            chance=self.chance,
            steady_ms=lambda: self.steady_ms,
            trouble=self._trouble,
        )

    def run_until_idle(self, steps_max: int) -> None:
        """
        Run with troubles for a while, then without, until every job has ended.

        Raises:
            Violation: An invariant broke, or jobs are left.
        """
        try:
            for step in range(steps_max):
                self.healed = step > self.trouble_steps
                self.step()
                if self.healed and self._is_idle():
                    break
            self._check_rest()
        except Violation as violation:
            raise Violation(f"{violation} (replay with SIM_SEED={self.seed})") from None

    def step(self) -> None:
        """Let time pass, renew, and let one engine do one thing."""
        self._pass_time()
        if self.jobs_left and self.chance.random() < 0.2:
            self.add_job()
            self.jobs_left -= 1
        if not self.healed and self.chance.random() < self.trouble_rate:
            self.chance.choice(self.disasters())()
        if not self.healed and self.chance.random() < self.orders_rate:
            self.chance.choice([self.cancel, self.move_waiting, self.move_delayed])()
        at = self.chance.randrange(len(self.engines))
        for number, engine in enumerate(self.engines):
            if engine.stalled_until_ms <= self.steady_ms:
                self._act(number, engine, with_step=number == at)

    def _act(self, number: int, engine: SimEngine, *, with_step: bool) -> None:
        try:
            engine.tick()
            if with_step:
                engine.step()
        except Crash:
            self.ledger.seen["crashed"] += 1
            self.engines[number] = self.boot()
        else:
            if engine.draining and engine.idle:
                self.ledger.seen["drained"] += 1
                self.engines[number] = self.boot()

    def make_ledger(self) -> Ledger:
        """The observer."""
        return Ledger(lambda: self.steady_ms, lease_ms=LEASE_MS)

    def draw_plan(self) -> Plan:
        """Draw one job's fate."""
        return draw_plan(self.chance)

    def add_job(self) -> None:
        """A producer's XADD, whose reply arrived."""
        plan = self.draw_plan()
        job_id = f"j{len(self.ledger.plans)}"
        fields = fields_of(job_id, plan, self.chance)
        entry = self.queue.add(plan.lane, fields)
        if plan.kind == "malformed":
            # Its id cannot be trusted to be read, but here it can.
            job_id = fields[fields.index(b"id") + 1].decode()
        self.ledger.accepted(job_id, plan, (plan.lane, entry))

    # What operators do.

    def cancel(self) -> None:
        """Cancel any job that has not ended."""
        left = self.ledger.unfinished()
        if left:
            job_id = self.chance.choice(left)
            self.ledger.ordered.add(job_id)
            self.queue.cancel(job_id)
            self.ledger.seen["ordered to cancel"] += 1

    def move_waiting(self) -> None:
        """Reschedule a job, or move it to another lane, while engines may have it."""
        lane = self.chance.choice(LANES)
        entries = list(self.queue.lanes[lane].entries)
        if entries:
            entry, to, due_ms = (
                self.chance.choice(entries),
                self.chance.choice(LANES),
                self._due_ms(),
            )
            moved = self.queue.move_waiting(lane, entry, to=to, due_ms=due_ms)
            if moved:
                self.ledger.moved((lane, entry))
            self.ledger.seen["moved" if moved else "not moved, since active"] += 1

    def move_delayed(self) -> None:
        """Let a delayed job run now, or at another time."""
        members = sorted(self.queue.delayed)
        if members:
            to, due_ms = self.chance.choice(LANES), self._due_ms()
            self.queue.move_delayed(self.chance.choice(members), to=to, due_ms=due_ms)
            self.ledger.seen["run now"] += due_ms is None

    def _due_ms(self) -> int | None:
        ahead_ms = self.chance.choice([None, -5, 1_000, 30_000])
        return None if ahead_ms is None else int(self.model.now_ms()) + ahead_ms

    # Disasters.

    def disasters(self) -> list[Callable[[], None]]:
        """Everything that may go wrong around the engines."""
        return [
            self.stall,
            self.stall,
            self.crash,
            self.stop,
            self.step_clock,
            self.restart_server,
            self.lose_groups,
        ]

    def stall(self) -> None:
        """Freeze an engine for up to two leases; it wakes up believing what it believed."""
        engine = self.chance.choice(self.engines)
        engine.stalled_until_ms = self.steady_ms + self.chance.randint(1_000, 2 * LEASE_MS)
        self.ledger.seen["stalled"] += 1

    def crash(self) -> None:
        """Kill an engine between two steps."""
        self.engines[self.chance.randrange(len(self.engines))] = self.boot()
        self.ledger.seen["crashed"] += 1

    def stop(self) -> None:
        """Ask an engine to stop."""
        self.chance.choice(self.engines).drain()

    def step_clock(self) -> None:
        """Set the server's clock."""
        if self.steady_ms - self.stepped_ms < 4 * LEASE_MS:
            # Two opposite steps between two looks of a stalled engine cannot be seen by it.
            return
        self.model.step(self.chance.choice([-HOUR_MS, -5_000, 5_000, HOUR_MS]))
        self.stepped_ms = self.steady_ms
        self.ledger.seen["clock stepped"] += 1

    def restart_server(self) -> None:
        """Let the server be away for up to two leases."""
        down_ms = self.chance.randint(0, 2 * LEASE_MS)
        self.steady_ms += down_ms
        self.model.restart(down_ms=down_ms)
        self.ledger.seen["server restarted"] += 1

    def lose_groups(self) -> None:
        """XGROUP DESTROY, or a failover to a replica that never had them."""
        self.ledger.group_lost()
        self.queue.drop_groups()
        self.ledger.seen["groups lost"] += 1

    def _trouble(self, where: str) -> bool:
        if self.healed or self.chance.random() >= self.trouble_rate:
            return False
        self.ledger.seen[where] += 1
        return True

    # Time and its end.

    def _pass_time(self) -> None:
        passed_ms = self.chance.choice([0, 1, 10, 100, 1_000, 3_000])
        if self.healed and all(engine.idle for engine in self.engines):
            passed_ms = self._until_something_is_due()
        self.steady_ms += passed_ms
        self.model.advance(passed_ms)

    def _until_something_is_due(self) -> float:
        """When nobody has anything to do, go to the next due time, in steps that keep leases."""
        due_ms = min(self.queue.delayed.values(), default=0) - self.model.now_ms()
        return max(1_000.0, min(due_ms, HOUR_MS))

    def _is_idle(self) -> bool:
        return (
            not self.jobs_left
            and not self.ledger.unfinished()
            and all(engine.idle for engine in self.engines)
        )

    def _check_rest(self) -> None:
        if self.jobs_left or self.ledger.unfinished():
            raise Violation(f"never ended: {self.ledger.unfinished()}")
        left = {lane: list(stream.entries) for lane, stream in self.queue.streams.items()}
        if any(left.values()) or self.queue.delayed:
            raise Violation(f"left behind: {left}, {len(self.queue.delayed)} delayed")
        try:
            active = self.queue.gauges([]).active
        except GroupMissing:
            active = {}
        if any(active.values()):
            raise Violation(f"still leased: {active}")
        folded = {"done": "done", "duplicate": "duplicate"}
        ends = Counter(folded.get(end, "dead") for end in chain(*self.ledger.ends.values()))
        counted = {word: self.queue.stats[f"{word}:work"] for word in ("done", "dead", "duplicate")}
        # What somebody cancelled is dead too, and counted by itself.
        counted["dead"] += self.queue.stats["cancelled:work"]
        if counted != {word: ends[word] for word in counted}:
            raise Violation(f"counters say {counted}, the ledger {ends}")

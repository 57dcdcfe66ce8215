"""
A seeded world of flows: engines over two queues that stop, stall and die between any two steps.

Admission, settlements and the keeper of flows are the real ones. Each engine's work is a coroutine
that is moved on by one call of the store at a time, so what engines do interleaves, and an engine
that dies drops what it was in the middle of.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Coroutine
from typing import Any

from engine.core import decision as to
from engine.core import outcome as was
from engine.core.decide import decide
from engine.core.policy import RetryPolicy, TypePolicy
from engine.errors import StoreUnavailable
from engine.registry import JobType
from engine.runtime.attempt import Admission
from engine.runtime.endings import Ending, settlement_of
from engine.runtime.flow_records import read_marker
from engine.runtime.flows import FlowKeeper
from engine.runtime.jobs import BoundType, LiveJob
from engine.runtime.outage import Outage
from engine.runtime.results import columns_of
from engine.store.base import Lease
from engine.telemetry import Meters, QueueMeter, TypeMeter
from engine.testing import ManualClock, MemoryStore, ServerModel
from engine.wire.codec import Limits
from engine.wire.flows import PARENT, job_of
from schemas.job import ErrorRecord
from schemas.rules import LANES
from tests.simulation.flow_ledger import Ledger, Plan
from tests.simulation.invariants import Violation
from tests.simulation.jobs import Silent

QUEUES = ("left", "right")
LEASE_MS = 30_000
POLICY = TypePolicy(
    retry=RetryPolicy(attempts_max=2, base_ms=500, cap_ms=5_000), deliveries_lost_max=10_000
)
ERROR = ErrorRecord(kind="Simulated")
POLICIES = ("fail", "ignore", "ignore", "continue")
FATES = ("good", "good", "good", "good", "flaky", "hopeless", "cancels")


class Engine:
    """One engine process: a worker and a keeper for each queue, moved on call by call."""

    def __init__(self, name: str, world: World) -> None:
        self.world = world
        self.store = MemoryStore(world.model, world.clock, consumer=name, faults=world.trouble)
        self.sequence: Counter[str] = Counter()
        outage = Outage(world.clock, Meters([]), wait_ms_max=1, on_change=lambda *_: None)
        meters = {queue: QueueMeter([], LANES) for queue in QUEUES}
        self.keepers = {
            queue: FlowKeeper(
                self.store,
                queue,
                world.clock,
                outage=outage,
                meters=meters,
                lease_ms=LEASE_MS,
            )
            for queue in QUEUES
        }
        self.admissions = {queue: _admission(queue, world) for queue in QUEUES}
        self.doing: dict[str, Coroutine[Any, Any, object]] = {}

    def step(self) -> None:
        """Move one of its tasks on by one call of the store."""
        chance = self.world.chance
        queue = chance.choice(QUEUES)
        work = chance.choice(("run", "keep", "keep", "promote"))
        name = f"{work} {queue}"
        if name not in self.doing:
            begin = {"run": self._run, "keep": self._keep, "promote": self._promote}
            self.doing[name] = begin[work](queue)
        try:
            self.doing[name].send(None)
        except StopIteration:
            del self.doing[name]
        except StoreUnavailable:
            self.world.ledger.seen["call failed"] += 1
            del self.doing[name]
            if work == "run":
                # The real one repeats its settlement; here the engine ends, and its leases too.
                raise

    async def _keep(self, queue: str) -> None:
        await self.keepers[queue].step()

    async def _promote(self, queue: str) -> None:
        control = await self.store.control(queue)
        self.keepers[queue].follow(control)
        self.admissions[queue].follow(held=(), cancelled=control.cancelled)
        if control.cancelled:
            await self.store.summon(queue, ["work"], count=10)
        await self.store.promote(queue, count=5)
        await self.store.reclaim(queue, idle_ms_min=LEASE_MS, count=0)

    async def _run(self, queue: str) -> None:
        lane = self.world.chance.choice(LANES)
        found = await self.store.reclaim(queue, idle_ms_min=LEASE_MS, count=1)
        leases = found.leases or (await self.store.fetch(queue, {lane: 1})).leases
        for lease in leases[:1]:
            job, _, outcome = self.admissions[queue].admit(lease)
            if outcome is None or isinstance(outcome, was.Vanished):
                self.world.ledger.started(job)
                outcome = _outcome(self.world.ledger.plans[job.id], job)
            await self._settle(queue, lease, job, outcome)

    async def _settle(self, queue: str, lease: Lease, job: LiveJob, outcome: was.Outcome) -> None:
        now_ms = self.world.clock.now_ms()
        draw = self.world.chance.random()
        decision = decide(job, outcome, POLICY, now_ms=now_ms, draw=draw)
        success = isinstance(decision, to.Acknowledge)
        self.sequence[queue] += 1
        job.result = _result(self.world.ledger.plans[job.id])
        successes = [job] * success
        settlement = settlement_of(
            lane=lease.batch.lane,
            engine=self.store.consumer,
            sequence=self.sequence[queue],
            held=10,
            successes=successes,
            columns=columns_of(successes),
            endings=[] if success else [Ending(job, outcome, decision, now_ms, 1)],
            lost={},
            at_ms=now_ms,
            kept_bytes_max=100_000,
        )
        if not isinstance(decision, to.OpenFlow | to.RetryAt):
            settlement.tombstones = [job.id] if self.admissions[queue].cancels.of(job) else []
        await self.store.settle(queue, settlement)


class World:
    """
    One simulated run.

    Args:
        seed: Draws trees, order, times and troubles.
        trees: Flows that producers add over time.
    """

    def __init__(self, seed: int, *, trees: int = 5) -> None:
        self.seed = seed
        self.chance = random.Random(seed)
        self.clock = ManualClock()
        self.model = ServerModel(self.clock.now_ms)
        self.ledger = Ledger()
        self.model.observers.append(self.ledger.note)
        self.trees_left = trees
        self.roots: list[str] = []
        self.healed = False
        self.rate = self.chance.choice([0.0, 0.02, 0.1])
        self.boots = 0
        for queue in QUEUES:
            self.model.queue(queue).open()
        self.engines = [self.boot() for _ in range(3)]

    def boot(self) -> Engine:
        """Start an engine under a fresh name."""
        self.boots += 1
        return Engine(f"engine-{self.boots}", self)

    def trouble(self, verb: str, _moment: str) -> None:
        """Let a call fail before or after it was applied."""
        if verb != "control" and not self.healed and self.chance.random() < self.rate:
            raise StoreUnavailable("connection", verb)

    def run(self, *, steps_max: int = 40_000) -> None:
        """
        Run with troubles for a while, then without, until nothing is left.

        Raises:
            Violation: An invariant broke, or jobs are left.
        """
        try:
            for step in range(steps_max):
                self.healed = step > 1_500
                self._step()
                if self.healed and step % 50 == 0 and not self.left():
                    break
            self._check()
        except Violation as violation:
            raise Violation(f"{violation} (seed {self.seed})") from None

    def _step(self) -> None:
        self.clock.move(self.chance.choice([0, 0, 0.001, 0.01, 0.1, 2 if self.healed else 0.5]))
        if self.trees_left and self.chance.random() < 0.02:
            self.trees_left -= 1
            self.add_tree()
        if not self.healed and self.roots and self.chance.random() < 0.002:
            self._cancel(self.chance.choice(self.roots))
        if not self.healed and self.chance.random() < 0.004:
            self._delete()
        if not self.healed and self.chance.random() < 0.001:
            self.clock.move(self.chance.choice([11.0, 31.0]))
        at = self.chance.randrange(len(self.engines))
        if not self.healed and self.chance.random() < 0.004:
            self._kill(at)
        try:
            self.engines[at].step()
        except StoreUnavailable:
            self._kill(at)

    def _kill(self, at: int) -> None:
        for task in self.engines[at].doing.values():
            task.close()
        self.engines[at] = self.boot()
        self.ledger.seen["killed"] += 1

    def _cancel(self, job_id: str) -> None:
        if job_id not in self.ledger.ends:
            self.model.queue(QUEUES[0]).cancel(job_id, who="ann")
            self.ledger.seen["cancelled by ann"] += 1

    def _delete(self) -> None:
        """Delete a child's entry, as a stranger who trims a lane does."""
        entries = [
            (lane, entry)
            for name in QUEUES
            for lane in self.model.queue(name).lanes.values()
            for entry, fields in lane.entries.items()
            if PARENT in fields
        ]
        if entries:
            lane, entry = self.chance.choice(entries)
            assert lane.group is not None
            leased = entry in lane.group.pending
            self.ledger.deleted(lane.entries.pop(entry), leased=leased)

    def add_tree(self) -> None:
        """A producer's XADD."""
        root = f"j{len(self.roots)}"
        self.roots.append(root)
        children = self._children(root, depth=1)
        fields = [b"type", b"work", b"data", b"{}", b"id", root.encode(), b"results", b"1"]
        raw = json.dumps(children).encode()
        self.model.queue(QUEUES[0]).add("normal", [*fields, b"children", raw])
        self._plan(root, "fail", "", len(children))

    def _children(self, parent: str, *, depth: int) -> list[dict[str, Any]]:
        count = self.chance.choice([1, 2, 3, 5]) if depth < 4 else 0
        if depth > 1 and self.chance.random() < 0.5:
            count = 0
        specs = []
        for number in range(count):
            name = f"{parent}.{number}"
            inner = self._children(name, depth=depth + 1)
            policy = self.chance.choice(POLICIES)
            self._plan(name, policy, parent, len(inner))
            spec = {"type": "work", "queue": self.chance.choice(QUEUES), "onFailure": policy}
            spec["lane"] = self.chance.choice(LANES)
            if self.chance.random() < 0.2:
                spec["delay"] = str(self.chance.randint(1, 20_000))
            specs.append(spec | ({"children": inner, "results": True} if inner else {}))
        return specs

    def _plan(self, name: str, policy: str, parent: str, count: int) -> None:
        children = tuple(f"{name}.{number}" for number in range(count))
        self.ledger.plans[name] = Plan(self.chance.choice(FATES), policy, parent, children)

    def left(self) -> dict[str, Any]:
        """Whatever has not ended, and whatever flows left behind."""
        found: dict[str, Any] = {"trees": self.trees_left}
        for name in QUEUES:
            queue = self.model.queue(name)
            kept = (queue.delayed, queue.flows, queue.flow_states, queue.flows_todo)
            found |= {f"{name} {at}": each for at, each in enumerate(kept)}
            # An operator's order may come too late; engines forget it after an hour. So is one that
            # a flow gave for a child that was deleted, of which nobody is told once it is over.
            stones = [
                job_id
                for job_id, raw in queue.cancelled.items()
                if b"ann" not in raw and not self.ledger.was_deleted(job_id)
            ]
            sent = [marker for marker in queue.flow_sent if not self._is_forgotten(marker)]
            found |= {f"{name} sent": sent, f"{name} cancelled": stones}
            found |= {f"{name} ends": queue.flow_messages.entries}
            found |= {f"{name} {lane}": each.entries for lane, each in queue.lanes.items()}
        return {name: each for name, each in found.items() if each}

    def _is_forgotten(self, marker: str) -> bool:
        queue, flow, number = read_marker(marker)
        child = f"{job_of(flow)}.{number}"
        return flow not in self.model.queue(queue).flow_states and self.ledger.was_deleted(child)

    def _check(self) -> None:
        left = self.left()
        if left:
            raise Violation(f"left behind: {left}")
        open_ends = (self.ledger.sent | set(self.roots)) - self.ledger.ends.keys()
        open_ends -= self.ledger.robbed
        if open_ends:
            raise Violation(f"never ended: {open_ends}")


def _outcome(plan: Plan, job: LiveJob) -> was.Outcome:
    match plan.fate:
        case "flaky" if job.attempt == 1:
            return was.Failed(ERROR)
        case "hopeless":
            return was.Failed(ERROR)
        case "cancels":
            return was.Cancelled(ERROR)
    return was.Completed()


def _result(plan: Plan) -> bytes:
    return json.dumps(plan.fate).encode()


async def _never(_job: LiveJob, _payload: object) -> None:
    raise AssertionError("simulated handlers are not called")


def _admission(queue: str, world: World) -> Admission:
    job_type = JobType(
        name="work",
        queue=queue,
        function=_never,
        payload=dict,
        arguments=2,
        timeout_s=20.0,
        policy=POLICY,
        version=1,
        pool="loop",
        events=False,
    )
    bound = BoundType(job_type, _never, TypeMeter())
    return Admission(
        {"work": bound}, bound, limits=Limits(), reporter=Silent(), now_ms=world.clock.now_ms
    )

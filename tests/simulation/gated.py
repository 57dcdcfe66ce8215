"""Gated jobs in the simulation: engines that ask, and what must hold of order and limits."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import msgspec

from engine.core import outcome as was
from engine.core.limits import make_rule
from engine.runtime.attempt import Ask
from engine.runtime.gatekeeper import outcome_of_answer
from engine.runtime.jobs import LiveJob
from engine.store.base import Lease, Settlement
from engine.store.gates import Question
from engine.testing.events import Admitted, Event, Leased, Parked, Settled
from engine.testing.streams import Delivery, EntryId, parse_id
from engine.wire.codec import META
from engine.wire.keys import READY
from engine.wire.packing import unpack
from schemas.job import Meta
from schemas.rules import LANES
from tests.simulation.engines import BUFFER, CONCURRENCY, LEASE_MS, SimEngine
from tests.simulation.invariants import Holder, Ledger, Place, Violation
from tests.simulation.jobs import ERROR, Plan
from tests.simulation.world import World

RULES = {
    "tenant=*": make_rule("tenant=*", concurrency=1, by="header:tenant"),
    "pace=*": make_rule("pace=*", rate=1, per_s=20, burst=2, by="header:pace"),
    "sms": make_rule("sms", concurrency=2),
}
PACE_SLACK = 0.2
"""What rounding to whole ms and thousandths of tokens may add up to."""


class GatedEngine(SimEngine):
    """Asks before gated jobs start, as the gatekeeper does."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.asking: dict[Place, tuple[LiveJob, Question]] = {}
        self.poll()

    def poll(self) -> None:
        """Learn of limits and of gates, too."""
        super().poll()
        control = self.queue.control()
        self.admission.follow(held=(), limits=control.limits)
        self.gates = self.gates or control.gates

    def step(self) -> None:
        """Do one thing that an engine may do now."""
        if not self.shaken and self.chance.random() < 0.3:
            steps = [self.release] if self.draining else [self.release, self.ask, self.ask]
            self._guarded(self.chance.choice(steps))
        else:
            super().step()

    def fetch(self) -> None:
        """Lease what there is room for; what was let through goes before its lane."""
        lanes = {lane: self.waiting.get(lane, 0) + self._ready(lane) for lane in LANES}
        counts: dict[str, int] = {}
        for lane, share in self.plan.split(lanes, self.room()).items():
            counts[READY[lane]] = min(share, self._ready(lane))
            counts[lane] = share - counts[READY[lane]]
        if not self.gates:
            counts = {lane: counts.get(lane, 0) for lane in LANES}
        taken, self.waiting = self.queue.fetch(self.consumer, counts)
        self.waiting = {stream: max(1, count) for stream, count in self.waiting.items()}
        if taken:
            self._may_break("fetch")
        self._take(taken)

    def _ready(self, lane: str) -> int:
        return self.waiting.get(READY[lane], 0) if self.gates else 0

    def room(self) -> int:
        """Jobs that it would take."""
        busy = len(self.buffered) + len(self.running) + len(self.asking)
        return 0 if self.draining else max(0, CONCURRENCY + BUFFER - busy)

    def handed(self, settlement: Settlement) -> None:
        """Take what a settlement let through for this engine."""
        for lease in settlement.handed:
            self._take([Delivery(*_parts(lease))])
            self.ledger.seen["handed"] += 1

    def in_hand(self) -> list[Lease]:
        """Those that wait for an answer, too."""
        return [*super().in_hand(), *(job.lease for job, _ in self.asking.values())]

    def ask_for(self, job: LiveJob, ask: Ask) -> None:
        """Keep a question for the next call."""
        self.asking[job.stream, job.lease.entry] = (job, ask.question)

    def ask(self) -> None:
        """Ask for jobs of one stream, and follow the answers."""
        if not self.asking:
            return
        stream = next(iter(self.asking))[0]
        batch = {place: asked for place, asked in self.asking.items() if place[0] == stream}
        self._may_break("request")
        questions = [question for _, question in batch.values()]
        answers = self.queue.admit(self.consumer, stream, questions, id_window_ms=0, line_max=1_000)
        self._may_break("reply")
        self.gates = True
        for (place, (job, _)), answer in zip(batch.items(), answers, strict=True):
            del self.asking[place]
            self.ledger.seen[f"told {answer.word}"] += 1
            if answer.word in {"run", "again"}:
                job.lease.admitted = answer.word == "run"
                self.buffered = {place: job.lease, **self.buffered}
            elif answer.word not in {"parked", "lost"}:
                self.end(job, outcome_of_answer(answer))

    def release(self) -> None:
        """Let through what limits may let through by now."""
        every = self.chance.random() < 0.2
        self.queue.release(count=self.chance.randint(1, 5), every=every)

    def run(self, place: Place, job: LiveJob) -> None:
        """Start a handler, which may ask a named limit first."""
        super().run(place, job)
        if not self.ledger.plans[job.id].named:
            return
        job.lease.gated = self.gates = True
        envelope = job.envelope
        assert envelope is not None
        question = Question(
            entry=job.lease.entry,
            deliveries=job.lease.deliveries,
            ticket=job.ticket,
            key=envelope.key,
            job_id=job.id,
            unique=envelope.unique,
        )
        word = self.queue.limit(self.consumer, job.stream, question, "sms", shut_ms=0)
        if word == "open":
            self.ledger.entered(place)
        else:
            del self.running[place]
            self.end(job, was.Limited(limit="sms", error=ERROR))

    def _renewed(self, lane: str, leases: list[Lease], lost: set[bytes]) -> None:
        for entry in lost:
            self.asking.pop((lane, entry), None)
        super()._renewed(lane, leases, lost)

    def _take(self, taken: list[Delivery]) -> None:
        for delivery in taken:
            self.asking.pop((delivery.lane, delivery.entry), None)
        super()._take(taken)

    def drain(self) -> None:
        """Hand back what was not answered, too."""
        jobs = [job for job, _ in self.asking.values()]
        self.asking.clear()
        super().drain()
        for job in jobs:
            self.end(job, was.Interrupted())

    @property
    def idle(self) -> bool:
        """Whether it holds nothing that it knows of."""
        return not self.asking and super().idle


def _parts(lease: Lease) -> tuple[str, bytes, list[bytes], int]:
    return lease.batch.lane, lease.entry, lease.fields, lease.deliveries


class GatedLedger(Ledger):
    """
    Checks order, limits and uniqueness as well.

    Attributes:
        active: Jobs whose handlers were started under the lease that is still the present one.
        inside: Those of them that hold a place of the named limit.
        ranks: Where each job with a key stands in its lane; none while it is put off.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.active: dict[Place, str] = {}
        self.inside: set[Place] = set()
        self.ranks: dict[str, EntryId] = {}
        self.mates: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
        self.tokens = 2.0
        self.counted_ms = 0.0

    def accepted(self, job_id: str, plan: Plan, place: Place) -> None:
        """Note a job's place in the order."""
        super().accepted(job_id, plan, place)
        self.ranks[job_id] = parse_id(place[1])
        self.mates[plan.lane, plan.key].append(job_id)

    def started(self, job_id: str, place: Place, holder: Holder) -> None:
        """Check whose turn it is, and who runs beside it."""
        super().started(job_id, place, holder)
        if (place, holder) in self.orphaned or self.holders.get(place) != holder:
            # It does not know yet that its lease was lost; nobody could stop it.
            return
        plan = self.plans[job_id]
        self.active[place] = job_id
        if plan.key:
            self.check_order(job_id, plan)
        if plan.tenant:
            beside = [
                each for each in self.active.values() if self.plans[each].tenant == plan.tenant
            ]
            if len(beside) > 1:
                raise Violation(f"{beside} run at a time for one tenant")
        if plan.unique:
            others = [other for other in self.plans if self.plans[other].unique == plan.unique]
            begun = [other for other in others if self.starts[other] and not self.ends[other]]
            if len(begun) > 1:
                raise Violation(f"{begun} are not unique")

    def check_order(self, job_id: str, plan: Plan) -> None:
        """One at a time, and none before the one before it has ended."""
        self.seen["started by key"] += 1
        mates = self.mates[plan.lane, plan.key]
        beside = [mate for mate in mates if mate in self.active.values()]
        if len(beside) > 1:
            raise Violation(f"{beside} run at a time for one key")
        before = [
            mate
            for mate in mates
            if not self.ends[mate]
            and mate in self.ranks
            and job_id in self.ranks
            and self.ranks[mate] < self.ranks[job_id]
        ]
        if before:
            raise Violation(f"{job_id} started before {before} of its key")

    def entered(self, place: Place) -> None:
        """Check the named limit."""
        if place not in self.active:
            return
        self.inside.add(place)
        self.seen["entered"] += 1
        if len(self.inside) > 2:
            raise Violation(
                f"{[self.active[each] for each in self.inside]} are inside a limit of 2"
            )

    def stepped(self) -> None:
        """A clock that was set forward fills all buckets."""
        self.tokens = 2.0

    def group_lost(self) -> None:
        """Nobody knows who runs what."""
        super().group_lost()
        self.active.clear()
        self.inside.clear()

    def note(self, event: Event) -> None:
        """Take one event of the model."""
        match event:
            case Parked(lane=lane, entry=entry):
                self._parked((lane, entry))
            case Admitted(job_id=job_id):
                self._admitted(self.plans[job_id])
            case Leased(delivery=delivery):
                place = (delivery.lane, delivery.entry)
                if self.holders.get(place, ("", 0))[1] != delivery.deliveries:
                    self._left(place)
        super().note(event)
        match event:
            case Leased(delivery=delivery):
                self._ranked(delivery)
            case Settled(settlement=settlement):
                for entry in (*settlement.ended, *settlement.released):
                    self._left((settlement.lane, entry))
                for each in settlement.behind:
                    self._behind(unpack(each.member.split(b"\0", 2)[2]))

    def _left(self, place: Place) -> None:
        self.active.pop(place, None)
        self.inside.discard(place)

    def _parked(self, place: Place) -> None:
        self.seen["parked"] += 1
        if place in self.active:
            raise Violation(f"{self.active[place]} was parked while it ran")
        self.holders.pop(place, None)
        self.proofs.pop(place, None)

    def _behind(self, items: list[bytes]) -> None:
        fields = dict(zip(items[1::2], items[2::2], strict=True))
        self.seen["limited"] += 1
        self.allowed[msgspec.json.decode(fields[META], type=Meta).id] += 1

    def _admitted(self, plan: Plan) -> None:
        if not plan.paced:
            return
        now_ms = self._steady_ms()
        self.tokens = min(2.0, self.tokens + (now_ms - self.counted_ms) / 2e4) - 1
        self.counted_ms = now_ms
        self.seen["paced"] += 1
        if self.tokens < -PACE_SLACK:
            raise Violation(f"a rate was exceeded by {-self.tokens:.2f}")

    def _ranked(self, delivery: Delivery) -> None:
        """A job that was put off takes its place anew where it comes back."""
        job_id = self.entries[delivery.lane, delivery.entry]
        if job_id not in self.ranks and ":" not in delivery.lane:
            self.ranks[job_id] = parse_id(delivery.entry)

    def _put_off(self, items: list[bytes]) -> None:
        super()._put_off(items)
        fields = dict(zip(items[1::2], items[2::2], strict=True))
        meta = msgspec.json.decode(fields[META], type=Meta)
        if meta.why in {"delay", "debounce"}:
            self.ranks.pop(meta.id, None)


class GatedWorld(World):
    """A world whose jobs ask for gates."""

    ledger: GatedLedger

    def __init__(self, seed: int, **more: Any) -> None:
        # What moving an entry does to the gates is tried elsewhere.
        super().__init__(seed, **({"engine_kind": GatedEngine, "orders_rate": 0.0} | more))

    def make_ledger(self) -> Ledger:
        return GatedLedger(lambda: self.steady_ms, lease_ms=LEASE_MS)

    def prepare(self) -> None:
        for name, rule in RULES.items():
            self.queue.control_hash[f"limit:{name}"] = rule.text()

    def draw_plan(self) -> Plan:
        plan, draw = super().draw_plan(), self.chance.random
        asks = {
            "key": self.chance.choice("kl") if draw() < 0.6 else "",
            "unique": self.chance.choice("uv") if draw() < 0.15 else "",
            "tenant": self.chance.choice("st") if draw() < 0.3 else "",
            "paced": draw() < 0.2,
            "named": draw() < 0.3,
            # Order shows where jobs of a key share their lanes.
            "lane": self.chance.choice(["normal", "normal", plan.lane]),
        }
        ends = plan.ends | {"duplicate"} if asks["unique"] else plan.ends
        return msgspec.structs.replace(plan, **asks, ends=ends)

    def step_clock(self) -> None:
        super().step_clock()
        self.ledger.stepped()

    def _until_something_is_due(self) -> float:
        return 1_000.0 if self.queue.due else super()._until_something_is_due()

    def _check_rest(self) -> None:
        super()._check_rest()
        queue = self.queue
        left = [queue.parked, queue.busy, queue.admitted, queue.places]
        if any(any(each.values()) for each in left):
            raise Violation(f"gates left behind: {left}")

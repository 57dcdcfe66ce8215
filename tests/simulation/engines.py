"""
A simulated engine: one step at a time, over the model, with the engine's own pure parts.

Admission, decision, lane plan, lease rules and settlements are the real ones. What is simulated is
the loop around them: when things happen, and what gets lost between them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from engine.core import decision as to
from engine.core import outcome as was
from engine.core.decide import decide
from engine.core.lanes import LanePlan
from engine.core.leases import LeaseTimes, ReclaimGate
from engine.errors import GroupMissing
from engine.runtime.attempt import Admission, Ask
from engine.runtime.endings import Ending, settlement_of
from engine.runtime.jobs import LiveJob
from engine.runtime.results import columns_of
from engine.store.base import Batch, Lease, Settlement
from engine.store.marks import Links, Mark, Marks
from engine.testing.model import ServerModel
from engine.testing.queue_model import QueueModel
from engine.testing.streams import Delivery
from engine.wire.codec import Limits
from engine.wire.keys import STREAMS
from schemas.rules import LANES
from tests.simulation.invariants import Ledger, Place, Violation
from tests.simulation.jobs import POLICY, Run, Silent, bound_type, outcome_of

LEASE_MS = 30_000
TIMES = LeaseTimes(lease_ms=LEASE_MS, renew_ms=10_000)
CONCURRENCY = 4
BUFFER = 4


class Crash(Exception):
    """The engine's process is gone."""


class ReplyLost(Exception):
    """The connection broke; whether the call was applied is not known."""


class LaneOut:
    """What has ended in one lane and is not confirmed."""

    def __init__(self) -> None:
        self.successes: list[LiveJob] = []
        self.endings: list[Ending] = []
        self.sending: tuple[Settlement, list[LiveJob], list[Ending]] | None = None
        self.sequence = 0

    def leases(self) -> list[Lease]:
        sent = self.sending
        jobs = [*self.successes, *(each.job for each in self.endings)]
        jobs += [*sent[1], *(each.job for each in sent[2])] if sent else []
        return [job.lease for job in jobs]


class SimEngine:
    """
    One engine process from its start to its end.

    Args:
        consumer: Its name, fresh for each start.
        model: The server.
        ledger: Checks what it does.
        chance: The seed's source of chance.
        steady_ms: Time that never steps.
        trouble: Draws whether something goes wrong at a point that has a name.
    """

    def __init__(
        self,
        consumer: str,
        *,
        model: ServerModel,
        queue: QueueModel,
        ledger: Ledger,
        chance: random.Random,
        steady_ms: Callable[[], float],
        trouble: Callable[[str], bool],
    ) -> None:
        self.consumer = consumer
        self.model = model
        self.queue = queue
        self.ledger = ledger
        self.chance = chance
        self.steady_ms = steady_ms
        self.trouble = trouble
        self.skew_ms = chance.randint(-2_000, 2_000)
        self.bound = bound_type()
        self.admission = Admission(
            {"work": self.bound},
            self.bound,
            limits=Limits(),
            reporter=Silent(),
            now_ms=self.now_ms,
        )
        self.plan = LanePlan({"high": 16, "normal": 4, "low": 1})
        self.gate = self.make_gate()
        self.waiting = dict.fromkeys(LANES, 1)
        self.buffered: dict[Place, Lease] = {}
        self.running: dict[Place, Run] = {}
        self.out = {stream: LaneOut() for stream in STREAMS}
        self.stalled_until_ms = 0.0
        self.draining = False
        self.shaken = False
        self.gates = False
        self.marks = Marks()
        self.breaks = 0
        self.look_at_server()

    def make_gate(self) -> ReclaimGate:
        """The rule that says when idle times can be believed; mutants replace it."""
        return ReclaimGate(LEASE_MS)

    def now_ms(self) -> int:
        """Its own idea of Unix time, which is a little off and does not follow the server's."""
        return round(1_763_769_600_000 + self.steady_ms() + self.skew_ms)

    # Steps.

    def step(self) -> None:
        """Do one thing that an engine may do now."""
        steps = [self.settle, self.settle, self.finish, self.promote, self.poll]
        if not self.draining:
            steps += [self.fetch, self.reclaim, self.start, self.start]
        step = self.recover if self.shaken else self.chance.choice(steps)
        self._guarded(step)

    def tick(self) -> None:
        """What runs beside everything else: renewal."""
        self._guarded(self.renew)

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except GroupMissing:
            self.queue.open()
        except ReplyLost:
            self.cut_off()

    def cut_off(self) -> None:
        """Notice that the connection broke."""
        self.breaks += 1
        self.gate.close(self.steady_ms())
        self.shaken = True

    def links(self) -> Links:
        """What changes with each new connection; mutants replace it."""
        return (self.breaks, self.model.starts)

    def mark(self, lane: str) -> Mark | None:
        """The lane's mark, if it may be gone by."""
        return self.marks.of(self.queue.name, lane, self.links())

    def fetch(self) -> None:
        """Lease what there is room for."""
        room = CONCURRENCY + BUFFER - len(self.buffered) - len(self.running)
        counts = self.plan.split(self.waiting, max(0, room))
        marks = {lane: self.mark(lane) for lane in counts}
        taken, self.waiting = self.queue.fetch(self.consumer, counts)
        # A lane that looks empty is asked for one, as a blocking read would.
        self.waiting = {lane: max(1, count) for lane, count in self.waiting.items()}
        if taken:
            self._may_break("fetch")
        self._take(taken, marks)

    def recover(self) -> None:
        """Take up what a lost reply brought."""
        known: dict[str, set[bytes]] = {stream: set() for stream in STREAMS}
        for lease in self.in_hand():
            known[lease.batch.lane].add(lease.entry)
        self._take(self.queue.recover(self.consumer, known))
        self.shaken = False
        if self.draining:
            self.drain()

    def in_hand(self) -> list[Lease]:
        """Everything that it knows to hold."""
        leases = [*self.buffered.values(), *(run.job.lease for run in self.running.values())]
        return leases + [lease for out in self.out.values() for lease in out.leases()]

    def reclaim(self) -> None:
        """Take over from engines that are gone."""
        self.look_at_server()
        idle_ms_min = self.gate.idle_ms_min(self.steady_ms())
        count = self.chance.randint(1, 5)
        taken, trimmed = self.queue.reclaim(self.consumer, idle_ms_min=idle_ms_min, count=count)
        if trimmed:
            raise Violation(f"{trimmed} left the lane while leased, and nobody trims here")
        if taken:
            self._may_break("reclaim")
        self._take(taken)

    def look_at_server(self) -> None:
        """Learn whether idle times can be believed."""
        state = self.model.state()
        self.gate.observe(
            run_id=state.run_id,
            server_ms=state.time_ms,
            uptime_ms=state.uptime_ms,
            monotonic_ms=self.steady_ms(),
        )

    def promote(self) -> None:
        """Move what is due."""
        if self.queue.promote(count=self.chance.randint(1, 5)).moved:
            self.ledger.seen["promoted"] += 1

    def poll(self) -> None:
        """Learn what operators ordered, and follow."""
        cancelled = self.queue.control().cancelled
        self.admission.follow(held=(), cancelled=cancelled)
        self.ledger.heard(self.consumer, cancelled)
        for place, run in list(self.running.items()):
            outcome = self.admission.cancels.outcome(run.job, started=True)
            if outcome is not None:
                del self.running[place]
                self.end(run.job, outcome)
                self._may_crash("cancelled")
        if cancelled:
            self.queue.summon([], count=5)

    def start(self) -> None:
        """Begin with the oldest job in the buffer."""
        if not self.buffered or len(self.running) >= CONCURRENCY:
            return
        place = next(iter(self.buffered))
        lease = self.buffered[place]
        if not TIMES.may_start(self.steady_ms() - lease.batch.since):
            # The next renewal tells whether it is still ours.
            return
        del self.buffered[place]
        job, _, outcome = self.admission.admit(lease)
        if isinstance(outcome, Ask):
            self.ask_for(job, outcome)
            return
        if outcome is not None and not isinstance(self.end(job, outcome), to.RunAgain):
            return
        self.run(place, job)

    def ask_for(self, job: LiveJob, ask: Ask) -> None:
        """A gated job; see :mod:`tests.simulation.gated`."""
        raise AssertionError(f"{job.id} asks for {ask.question}")

    def run(self, place: Place, job: LiveJob) -> None:
        """Start a handler."""
        self.ledger.started(job.id, place, (self.consumer, job.lease.deliveries))
        plan = self.ledger.plans[job.id]
        if plan.kind == "poison":
            raise Crash("the job kills whoever runs it")
        self.running[place] = Run(job, self.steady_ms() + plan.run_ms)
        self._may_crash("started")

    def finish(self) -> None:
        """End a job whose handler has returned."""
        for place, run in list(self.running.items()):
            if run.ends_ms <= self.steady_ms():
                del self.running[place]
                outcome = outcome_of(self.ledger.plans[run.job.id], run.job)
                if isinstance(outcome, was.Completed):
                    self.out[run.job.stream].successes.append(run.job)
                else:
                    self.end(run.job, outcome)
                self._may_crash("finished")
                return

    def end(self, job: LiveJob, outcome: was.Outcome) -> to.Decision:
        """Decide about any other end than success."""
        draw = self.chance.random()
        decision = decide(job, outcome, POLICY, now_ms=self.now_ms(), draw=draw)
        if not isinstance(decision, to.RunAgain):
            self.out[job.stream].endings.append(Ending(job, outcome, decision, self.now_ms(), 1))
        return decision

    def settle(self) -> None:
        """Send what ended in one lane, or send again what was not answered."""
        ready = [
            lane for lane, out in self.out.items() if out.sending or out.successes or out.endings
        ]
        if ready:
            self._send(self.chance.choice(ready))

    def _send(self, lane: str) -> None:
        out = self.out[lane]
        if out.sending is None:
            out.sequence += 1
            settlement = settlement_of(
                lane=lane,
                engine=self.consumer,
                sequence=out.sequence,
                held=100,
                successes=out.successes,
                columns=columns_of(out.successes),
                endings=out.endings,
                lost={},
                at_ms=self.now_ms(),
                kept_bytes_max=1_000,
                gates=self.gates,
                mark=self.mark(lane),
            )
            settlement.room = self.room()
            settlement.tombstones = self.admission.cancels.ended(out.successes, out.endings)
            out.sending = (settlement, out.successes, out.endings)
            out.successes, out.endings = [], []
        else:
            self.ledger.seen["settlement repeated"] += 1
        settlement, successes, endings = out.sending
        self._may_break("request")
        if settlement.mark is not None and settlement.mark.links != self.links():
            settlement.mark = None
        gone = set(self.queue.settle(self.consumer, settlement))
        self._may_break("reply")
        self.marks.learn(self.queue.name, lane, settlement.found, self.links())
        out.sending = None
        self.handed(settlement)
        if gone:
            # Without the lost ones, the rest goes out again under a new number.
            out.successes += [job for job in successes if job.lease.entry not in gone]
            out.endings += [each for each in endings if each.job.lease.entry not in gone]

    def room(self) -> int:
        """Jobs that it would take of those that a settlement lets through."""
        return 0

    def handed(self, settlement: Settlement) -> None:
        """Take those."""

    def renew(self) -> None:
        """Show that everything in hand is being worked on."""
        now_ms = self.steady_ms()
        due = [lease for lease in self.in_hand() if TIMES.needs_renewal(now_ms - lease.batch.since)]
        for lane in STREAMS:
            ours = [lease for lease in due if lease.batch.lane == lane]
            if ours:
                counts = {lease.entry: lease.deliveries for lease in ours}
                lost = set(self.queue.renew(self.consumer, lane, counts))
                self._renewed(lane, ours, lost)

    def _renewed(self, lane: str, leases: list[Lease], lost: set[bytes]) -> None:
        for lease in leases:
            if lease.entry in lost:
                self.buffered.pop((lane, lease.entry), None)
                self.running.pop((lane, lease.entry), None)
                self.ledger.seen["lease found lost"] += 1
            else:
                lease.batch = Batch(lane=lane, since=self.steady_ms(), mark=lease.batch.mark)
                self.ledger.renewed((lane, lease.entry))

    def drain(self) -> None:
        """Begin to stop: hand back what has not ended."""
        self.draining = True
        jobs = [run.job for run in self.running.values()]
        jobs += [self.admission.admit(lease)[0] for lease in self.buffered.values()]
        self.running.clear()
        self.buffered.clear()
        for job in jobs:
            self.end(job, was.Interrupted())

    @property
    def idle(self) -> bool:
        """Whether it holds nothing that it knows of."""
        busy = self.buffered or self.running or self.shaken
        return not busy and not any(out.leases() for out in self.out.values())

    # Trouble.

    def _may_break(self, where: str) -> None:
        self._may_crash(where)
        if self.trouble(f"{where} lost"):
            raise ReplyLost(where)

    def _may_crash(self, where: str) -> None:
        if self.trouble(f"crash at {where}"):
            raise Crash(where)

    def _take(self, taken: list[Delivery], marks: Mapping[str, Mark | None] | None = None) -> None:
        known = marks or {}
        for lane, entry, fields, deliveries in taken:
            # It may hold the entry already, by a lease that ran out or whose group is gone. What
            # has become of that one must not be settled beside the new one.
            self.running.pop((lane, entry), None)
            out = self.out[lane]
            out.successes = [job for job in out.successes if job.lease.entry != entry]
            out.endings = [each for each in out.endings if each.job.lease.entry != entry]
            batch = Batch(lane=lane, since=self.steady_ms(), mark=known.get(lane))
            self.buffered[lane, entry] = Lease(batch, entry, fields, deliveries)

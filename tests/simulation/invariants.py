"""What must hold at each step of a simulated run, kept by an observer that trusts nobody."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import NamedTuple

import msgspec

from engine.store.base import Settlement
from engine.testing.events import Event, Leased, Lost, PutBack, Settled
from engine.wire.codec import META
from engine.wire.done import decode_done
from engine.wire.packing import unpack
from schemas.job import DeadRecord, Meta
from tests.simulation.jobs import Plan

Place = tuple[str, bytes]
Holder = tuple[str, int]


class Copy(NamedTuple):
    """What a ledger held: accepted jobs, their ends, holders, starts so far, what was put back."""

    accepted: set[str]
    ends: dict[str, list[str]]
    holders: dict[Place, Holder]
    starts: Counter[str]
    back: set[Place]


class Violation(AssertionError):
    """An invariant is broken; the message tells the seed that replays it."""


class Ledger:
    """
    Follows every job from its XADD to its end.

    Args:
        steady_ms: Time that neither steps nor stops.
        lease_ms: The lease.

    Attributes:
        plans: Accepted jobs, by id.
        ends: How each ended, in order; exactly one is right.
        starts: How often each was started.
        allowed: Starts beyond the attempts: losses, snoozes and hand-backs.
        losses: Deliveries of each that were lost with their engines or their group.
        holders: Who holds each leased entry, by the ledger's own account.
        proofs: Steady ms of the last sign of life for each leased entry.
        ordered: Jobs that an operator cancelled.
        aware: Engines and cancelled jobs that they have heard of.
        seen: What happened, for "sometimes" coverage.
        gone: Accepted jobs of which the server has lost all trace, which nobody promised to keep.
    """

    def __init__(self, steady_ms: Callable[[], float], *, lease_ms: int) -> None:
        self._steady_ms = steady_ms
        self._lease_ms = lease_ms
        self.plans: dict[str, Plan] = {}
        self.entries: dict[Place, str] = {}
        self.ends: defaultdict[str, list[str]] = defaultdict(list)
        self.starts: Counter[str] = Counter()
        self.allowed: Counter[str] = Counter()
        self.losses: Counter[str] = Counter()
        self.holders: dict[Place, Holder] = {}
        self.proofs: dict[Place, float] = {}
        self.orphaned: set[tuple[Place, Holder]] = set()
        self.excused: set[str] = set()
        self.ordered: set[str] = set()
        self.aware: set[tuple[str, str]] = set()
        self.seen: Counter[str] = Counter()
        self.gone: set[str] = set()

    # What the world tells.

    def accepted(self, job_id: str, plan: Plan, place: Place) -> None:
        """Note a job whose XADD replied."""
        self.plans[job_id] = plan
        self.entries[place] = job_id

    def started(self, job_id: str, place: Place, holder: Holder) -> None:
        """Check that a job may start now."""
        unaware = (place, holder) in self.orphaned
        if self.ends[job_id] and not unaware:
            raise Violation(f"{job_id} started after it ended as {self.ends[job_id]}")
        if self.holders.get(place) != holder and not unaware:
            raise Violation(f"{job_id} started by {holder}, held by {self.holders.get(place)}")
        if (holder[0], job_id) in self.aware:
            raise Violation(f"{job_id} started by {holder}, who knew that it was cancelled")
        self.starts[job_id] += 1
        most = self.plans[job_id].attempts_max + self.allowed[job_id] + self.losses[job_id]
        if self.starts[job_id] > most:
            raise Violation(f"{job_id} started {self.starts[job_id]} times, {most} allowed")

    def heard(self, consumer: str, ids: Iterable[str]) -> None:
        """Note that an engine knows of cancelled jobs; from then on it must not start them."""
        self.aware |= {(consumer, job_id) for job_id in ids}

    def renewed(self, place: Place) -> None:
        """Note a sign of life."""
        self.proofs[place] = self._steady_ms()

    def moved(self, place: Place) -> None:
        """Note that an operator moved an entry; what was put back had been lost with its engine."""
        if self.holders.pop(place, None) is not None:
            self.losses[self.entries[place]] += 1

    def group_lost(self) -> None:
        """Forget all leases: their entries will be delivered again, from the first on."""
        for place, holder in self.holders.items():
            self.losses[self.entries[place]] += 1
            # Its engine cannot know yet.
            self.orphaned.add((place, holder))
        self.holders.clear()
        self.proofs.clear()

    def copy(self) -> Copy:
        """Return what a replica knows by now."""
        ends = {job_id: list(ends) for job_id, ends in self.ends.items()}
        back = {place for place, at_ms in self.proofs.items() if at_ms == float("-inf")}
        return Copy(set(self.plans), ends, dict(self.holders), Counter(self.starts), back)

    def failed_over(self, copied: Copy) -> None:
        """Go back to what a replica knew; no engine can know of it yet."""
        for place, holder in self.holders.items():
            if copied.holders.get(place) != holder:
                # Its engine may start it yet.
                self.orphaned.add((place, holder))
                self.allowed[self.entries[place]] += 1
        for place in copied.holders:
            # One that its holder has ended since comes back to it, or runs out.
            self.allowed[self.entries[place]] += 1
            back = place in copied.back
            self.proofs[place] = float("-inf") if back else self._steady_ms()
        self.holders = dict(copied.holders)
        self.ends = defaultdict(list, copied.ends)
        self.gone |= self.plans.keys() - copied.accepted
        for job_id in self.plans:
            # What ran since runs again.
            self.allowed[job_id] += self.starts[job_id] - copied.starts[job_id]

    def excuse(self, consumer: str) -> None:
        """Allow an engine that knows of no step of the clock to take leases over too early."""
        self.excused.add(consumer)

    # What the model tells.

    def note(self, event: Event) -> None:
        """Take one event of the model."""
        match event:
            case Leased(consumer=consumer, delivery=delivery):
                self._leased(consumer, (delivery.lane, delivery.entry), delivery.deliveries)
                self._follow((delivery.lane, delivery.entry), delivery.fields)
            case PutBack(consumer=consumer, lane=lane, entry=entry):
                self._put_back(consumer, (lane, entry))
            case Settled(consumer=consumer, settlement=settlement):
                self._settled(consumer, settlement)
            case Lost(entries=entries):
                self.seen["zombie settled"] += len(entries)

    def _follow(self, place: Place, fields: list[bytes]) -> None:
        """Know a job again after it went through the delayed set."""
        if place not in self.entries:
            raw = dict(zip(fields[::2], fields[1::2], strict=True))[META]
            self.entries[place] = msgspec.json.decode(raw, type=Meta).id
        if self.ends[self.entries[place]]:
            raise Violation(f"{self.entries[place]} was delivered after its end")

    def _leased(self, consumer: str, place: Place, deliveries: int) -> None:
        before = self.holders.get(place)
        self.holders[place] = (consumer, deliveries)
        if before is not None and before[1] != deliveries:
            self.seen["reclaimed"] += 1
            self.losses[self.entries[place]] += 1
            self._check_silence(consumer, place, before)
        elif before is not None:
            self.seen["recovered"] += 1
        self.proofs[place] = self._steady_ms()

    def _put_back(self, consumer: str, place: Place) -> None:
        """Check what was judged silent; from now on anybody may take it over at once."""
        before = self.holders.get(place)
        if before is not None:
            self.seen["put back"] += 1
            self._check_silence(consumer, place, before)
            self.proofs[place] = float("-inf")

    def _check_silence(self, consumer: str, place: Place, before: Holder) -> None:
        idle_ms = self._steady_ms() - self.proofs[place]
        if idle_ms < self._lease_ms and consumer in self.excused:
            self.orphaned.add((place, before))
        elif idle_ms < self._lease_ms:
            raise Violation(f"{place} was taken over after {idle_ms:.0f} ms of silence")

    def _settled(self, consumer: str, settlement: Settlement) -> None:
        self.seen["settled by a mark"] += settlement.mark is not None
        for entry in (*settlement.ended, *settlement.released):
            place = (settlement.lane, entry)
            holder = (consumer, settlement.deliveries.get(entry, 1))
            if self.holders.get(place) != holder:
                raise Violation(f"{holder} settled {place}, held by {self.holders.get(place)}")
            del self.holders[place]
            if entry in settlement.released:
                self.seen["released"] += 1
                self.allowed[self.entries[place]] += 1
        done = [job for row in settlement.done for job in decode_done(b"0-0", row)]
        dead = [msgspec.json.decode(row.fields[1], type=DeadRecord) for row in settlement.dead]
        for job in done:
            self._end(job.id, "duplicate" if b"duplicateOf" in job.result else "done")
        for record in dead:
            self._end(record.id, record.reason)
            self._check_death(record)
        for _, packed in settlement.retries:
            self._put_off(unpack(packed))
        for fields in settlement.again:
            self._put_off([settlement.lane.encode(), *fields])
            self.seen["again"] += 1
        written = len(done) + len(dead) + len(settlement.retries) + len(settlement.aside)
        written += len(settlement.behind) + len(settlement.again)
        if written != len(settlement.ended):
            raise Violation(f"{len(settlement.ended)} entries ended with {written} records")

    def _put_off(self, items: list[bytes]) -> None:
        fields = dict(zip(items[1::2], items[2::2], strict=True))
        meta = msgspec.json.decode(fields[META], type=Meta)
        self.seen[meta.why] += 1
        if self.ends[meta.id]:
            raise Violation(f"{meta.id} was put off after its end")
        if meta.why == "snooze":
            self.allowed[meta.id] += 1

    def _end(self, job_id: str, how: str) -> None:
        self.ends[job_id].append(how)
        self.seen[how] += 1
        if len(self.ends[job_id]) > 1:
            raise Violation(f"{job_id} ended as {self.ends[job_id]}")
        if how not in self.plans[job_id].ends and not (
            how == "cancelled" and job_id in self.ordered
        ):
            raise Violation(f"{job_id} ({self.plans[job_id].kind}) ended as {how}")

    def _check_death(self, record: DeadRecord) -> None:
        plan = self.plans[record.id]
        if record.error.kind == "Cancelled":
            self.seen["cancelled by order"] += 1
        if record.reason in {"exhausted", "timeout"} and record.attempts != plan.attempts_max:
            raise Violation(f"{record.id} gave up after {record.attempts} attempts")
        if record.reason == "crash-loop" and self.losses[record.id] < plan.losses_max:
            raise Violation(f"{record.id}: crash-loop after {self.losses[record.id]} losses")

    def unfinished(self) -> list[str]:
        """Accepted jobs that have not ended."""
        return [
            job_id for job_id in self.plans if not self.ends[job_id] and job_id not in self.gone
        ]

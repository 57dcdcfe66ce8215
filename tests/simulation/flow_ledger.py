"""What became of every job of a simulated flow, by an observer that trusts nobody."""

from __future__ import annotations

from collections import Counter

import msgspec

from engine.runtime.jobs import LiveJob
from engine.testing.events import Event, Leased, Settled
from engine.wire.done import decode_done
from schemas.job import DeadRecord
from tests.simulation.invariants import Violation


class Plan(msgspec.Struct, frozen=True):
    """One job of a tree: what it does, and what its parent is to do if it dies."""

    fate: str
    policy: str
    parent: str
    children: tuple[str, ...]


class Ledger:
    """What became of every job, by an observer that trusts nobody."""

    def __init__(self) -> None:
        self.plans: dict[str, Plan] = {}
        self.ends: dict[str, str] = {}
        # Children whose entries were deleted while an engine had them: they may end all the same.
        self.robbed: set[str] = set()
        self.sent: set[str] = set()
        self.seen: Counter[str] = Counter()

    def note(self, event: Event) -> None:
        """Take one event of the model."""
        if isinstance(event, Leased):
            fields = event.delivery.fields
            self.sent.add(fields[fields.index(b"id") + 1].decode())
        if not isinstance(event, Settled):
            return
        for row in event.settlement.done:
            for job in decode_done(b"0-0", row):
                self._end(job.id, "done")
        for dead in event.settlement.dead:
            record = msgspec.json.decode(dead.fields[1], type=DeadRecord)
            self._end(record.id, record.reason)
            if record.reason == "child-failed":
                self._check_cause(record.id)
        self.seen["opened"] += len(event.settlement.opened)

    def deleted(self, fields: list[bytes], *, leased: bool) -> None:
        """Take note that a stranger deleted a child's entry."""
        job_id = fields[fields.index(b"id") + 1].decode()
        self.seen["deleted while leased" if leased else "deleted"] += 1
        if leased:
            self.robbed.add(job_id)
        else:
            self.ends[job_id] = "trimmed"

    def was_deleted(self, job_id: str) -> bool:
        """Tell whether a stranger deleted a job's entry."""
        return job_id in self.robbed or self.ends.get(job_id) == "trimmed"

    def _told(self, child: str) -> str:
        """How a child ended; a robbed one ended when its parent is told so, and not later."""
        if child in self.robbed and child not in self.ends:
            self._end(child, "trimmed")
        self.seen["told of a deleted one"] += self.was_deleted(child)
        return self.ends.get(child, "")

    def _end(self, job_id: str, how: str) -> None:
        if job_id in self.ends:
            raise Violation(f"{job_id} ended as {self.ends[job_id]} and as {how}")
        self.ends[job_id] = how
        self.seen[how] += 1

    def _check_cause(self, job_id: str) -> None:
        failing = [child for child in self.plans[job_id].children if self._may_fail(child)]
        if not any(self.ends.get(child, "done") != "done" for child in failing) and not any(
            child in self.robbed for child in failing
        ):
            raise Violation(f"{job_id} failed, and none of its children did")

    def _may_fail(self, child: str) -> bool:
        return self.plans[child].policy == "fail"

    def started(self, job: LiveJob) -> None:
        """Check what a handler is told of its children when it starts."""
        plan, told = self.plans[job.id], job.children
        if told.total != len(plan.children):
            raise Violation(f"{job.id} was told of {told.total} children")
        assert job.envelope is not None
        letters = job.envelope.family.states if job.envelope.family else ""
        ends = [
            self._told(child) if letter in "ifc" else self.ends.get(child, "")
            for child, letter in zip(plan.children, letters, strict=False)
        ]
        policies = {self.plans[child].policy for child in plan.children}
        for child, end, letter in zip(plan.children, ends, letters, strict=True):
            policy = self.plans[child].policy
            right = {
                "d": end == "done",
                "i": end not in {"", "done"} and policy == "ignore",
                "c": end == "cancelled",
                # The first of those that do not let it wait decides; then others may fail too.
                "f": end not in {"", "done"} and policy != "ignore" and "continue" in policies,
                "p": told.failed + told.cancelled > 0,
                "s": told.failed + told.cancelled > 0,
            }
            if not right[letter]:
                raise Violation(f"{job.id} was told {letter} of {child}, which ended as {end!r}")
        results = [
            self.plans[child].fate if end == "done" else None
            for child, end in zip(plan.children, ends, strict=True)
        ]
        if told.unfinished == 0 and list(told.results) != results:
            raise Violation(f"{job.id} was given {told.results}, not {results}")
        self.seen["went on early" if told.unfinished else "went on"] += bool(letters)

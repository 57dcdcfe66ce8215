"""
Drives the bulk operations of one queue: moves, waits for the canary, takes back, comes to an end.

Every engine that serves the queue may do so; a short lease lets one of them do it at a time. Each
step is one script that is fenced by that lease and by the operation's record, and notes how far it
came, so an engine that dies is succeeded by another, which goes on from there. Without an operation
nothing is asked of the server: the control hash, which is read anyway, names those that live.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import msgspec

from engine.clock import Clock
from engine.core import operations as rules
from engine.errors import StoreError
from engine.failpoint import failpoint
from engine.logs import get_logger
from engine.runtime.outage import Outage
from engine.store.operator import Found, OperatorStore
from engine.store.operator.dead import Matched
from engine.store.operator.operations import Progress, Seen, Step, counts_of
from schemas.operations import OperationRecord, OperationState

log = get_logger("engine")

LEASE_MS = 4_000
STEP_S = rules.STEP_MS / 1e3
"""How often a paced operation moves what is due next."""

IDLE_S = 1.0
"""How often one is looked at that waits for its jobs, or that another engine drives."""

LOST_MS = 30_000
"""How often jobs are sought that have not ended: an entry that somebody deletes never does."""

BATCH_JOBS = 100
BATCH_BYTES = 2 * 1_048_576
"""Most that one script moves, so that no call keeps the server from others for long."""

CHUNKS_AT_ONCE = 20
"""Chunks without a job that fits that one step looks through."""

STEPS_AT_ONCE = 20
"""Steps of one operation before others are looked at."""


class OperationDriver:
    """
    Drives the operations of one queue.

    Args:
        store: The operator's side of the server.
        queue: The queue.
        token: Unlike that of any other engine.
        clock: Time.
        outage: Told of failures.
        stopping: Tells that nothing more is to be taken on.
    """

    def __init__(
        self,
        store: OperatorStore,
        queue: str,
        token: str,
        clock: Clock,
        *,
        outage: Outage,
        stopping: Callable[[], bool],
    ) -> None:
        self._store = store
        self._queue = queue
        self._token = token
        self._clock = clock
        self._outage = outage
        self._stopping = stopping
        self._live: tuple[str, ...] = ()
        self._wake = asyncio.Event()
        self._scans: dict[str, Scan] = {}
        self._looked_ms: dict[str, int] = {}

    def follow(self, live: tuple[str, ...]) -> None:
        """Learn which operations live."""
        self._live = live
        if live:
            self._wake.set()

    async def run(self) -> None:
        """Drive whatever lives, for ever."""
        where = f"{self._queue} operations"
        tries = 0
        while True:
            while not self._live or self._stopping():
                self._scans.clear()
                self._wake.clear()
                await self._wake.wait()
            try:
                pause_s = await self.turn()
            except StoreError as error:
                tries += 1
                self._scans.clear()
                await self._outage.wait(error, tries, where)
                continue
            self._outage.over(where)
            tries = 0
            await self._clock.sleep(pause_s)

    async def turn(self) -> float:
        """Do what is to be done now, and return for how many seconds nothing will be."""
        if not await self._store.operations.lease(self._queue, self._token, ms=LEASE_MS):
            self._scans.clear()
            return IDLE_S
        failpoint("O1")
        pause_s = IDLE_S
        for name in self._live:
            pause_s = min(pause_s, await self._drive(name))
        for gone in self._scans.keys() - {*self._live}:
            del self._scans[gone]
        for gone in self._looked_ms.keys() - {*self._live}:
            del self._looked_ms[gone]
        return pause_s

    async def _drive(self, name: str) -> float:
        for _ in range(STEPS_AT_ONCE):
            seen = await self._store.operations.look(self._queue, name)
            if seen is None:
                return IDLE_S
            pause_s = await self._step(seen)
            if pause_s:
                return pause_s
            if not await self._store.operations.lease(self._queue, self._token, ms=LEASE_MS):
                return IDLE_S
        return 0.0

    async def _step(self, seen: Seen) -> float:
        """Take one step of one operation; returns how long to wait before the next one."""
        record = seen.record
        match record.state:
            case "waiting":
                left_ms = record.commit_ms - seen.now_ms
                if left_ms > 0:
                    return min(IDLE_S, left_ms / 1e3)
                return await self._enter(seen, "discarding")
            case "discarding" | "releasing" | "canary":
                return await self._advance(seen)
            case "watching":
                return await self._watch(seen)
            case "following":
                return await self._follow(seen)
            case "finished" | "stopped" | "undone":
                return await self._tell(seen)
            case "undoing":
                if await self._store.operations.take_back(seen, self._token, lease_ms=LEASE_MS):
                    failpoint("O4")
                    return await self._enter_undone(seen)
                return STEP_S
        return IDLE_S

    async def _watch(self, seen: Seen) -> float:
        """Let the others go once the first jobs have ended well."""
        record, far = seen.record, seen.progress
        verdict = rules.judge_canary(
            moved=far.moved - far.undone,
            done=far.done,
            dead=far.dead,
            dead_max=record.canary_dead_max,
        )
        if verdict == "wait":
            lost = await self._lost(seen)
            if lost:
                return await self._enter(seen, "stopped", why=rules.lost_canary(lost, far.moved))
            return STEP_S
        if verdict == "good":
            return await self._enter(seen, "following" if far.complete else "releasing")
        why = f"the canary failed: {far.dead} of {far.moved} died again"
        return await self._enter(seen, "stopped", why=why)

    async def _follow(self, seen: Seen) -> float:
        """Come to an end once all jobs have ended, or those that have not are nowhere any more."""
        far = seen.progress
        if far.done + far.dead + far.undone >= far.moved:
            return await self._enter(seen, "finished")
        if seen.now_ms - seen.record.since_ms > rules.FOLLOW_MS_MAX:
            return await self._enter(seen, "finished", why="not all of its jobs ended")
        lost = await self._lost(seen)
        if lost and far.done + far.dead + far.undone + lost >= far.moved:
            return await self._enter(seen, "finished", why=rules.lost_jobs(lost))
        return IDLE_S

    async def _lost(self, seen: Seen) -> int | None:
        """Look now and then for jobs whose entries somebody deleted."""
        record = seen.record
        if seen.now_ms < self._looked_ms.get(record.id, record.since_ms) + LOST_MS:
            return None
        self._looked_ms[record.id] = seen.now_ms
        return await self._store.operations.lost(seen)

    async def _advance(self, seen: Seen) -> float:
        """Move, or drop, the next jobs."""
        record, far = seen.record, seen.progress
        canary = record.state == "canary"
        if far.complete or (canary and far.moved >= record.canary):
            return await self._enter(seen, _after(record))
        pace = rules.Pace(record.rate, far.due_ms)
        ahead_ms = rules.ahead_ms(record.action)
        room = record.canary - far.moved if canary else pace.room(seen.now_ms, ahead_ms=ahead_ms)
        if room <= 0:
            return STEP_S
        scan = self._scan(record, far)
        step = await scan.next(min(room, BATCH_JOBS))
        if canary:
            step.dues = [seen.now_ms] * len(step.jobs)
        else:
            step.dues = pace.take(seen.now_ms, len(step.jobs))
        step.due_ms = pace.next_ms
        failpoint("O2")
        apply = self._store.operations
        move = apply.drop if record.action == "discard" else apply.put_off
        ours, _ = await move(seen, self._token, step)
        failpoint("O3")
        if not ours:
            del self._scans[record.id]
            return STEP_S
        # A slow one moves what is due next four times a second, a fast one as fast as it goes.
        paced = not canary and len(step.jobs) == room
        return STEP_S if paced and not step.complete else 0.0

    def _scan(self, record: OperationRecord, far: Progress) -> Scan:
        """Return where reading goes on, anew where somebody else was at it since."""
        scan = self._scans.get(record.id)
        if scan is None or scan.cursor != far.cursor:
            scan = self._scans[record.id] = Scan(self._store, record, far.cursor)
        return scan

    async def _enter(self, seen: Seen, state: OperationState, *, why: str = "") -> float:
        """Change an operation's state; where somebody else just did, that counts."""
        record = msgspec.structs.replace(
            seen.record,
            state=state,
            since_ms=seen.now_ms,
            why=why,
            counts=counts_of(seen.progress),
            audited=state in rules.LIVE,
        )
        await self._store.operations.change(self._queue, record.id, seen.raw, record)
        return 0.0

    async def _enter_undone(self, seen: Seen) -> float:
        """Come to the end of an undo, with the counts as they are now."""
        again = await self._store.operations.look(self._queue, seen.record.id)
        if again is None or again.raw != seen.raw:
            return STEP_S
        keyed, others = await self._store.operations.kept(again)
        return await self._enter(again, "undone", why=rules.kept_jobs(keyed, others))

    async def _tell(self, seen: Seen) -> float:
        """
        Record an end where people look for what happened.

        The audit stream is of another slot, so an engine may die between the end and its record.
        Until that is there the operation stays among those that live, and whoever drives it next
        records it.
        """
        record = seen.record
        if not record.audited:
            failpoint("O5")
            if await self._store.control.record_once(record.since_ms, **rules.told_of(record)):
                log.info(
                    "operation_ended",
                    queue=self._queue,
                    operation=record.id,
                    action=record.action,
                    state=record.state,
                    jobs=rules.moved_by(record),
                    why=record.why,
                )
            failpoint("O6")
            told = msgspec.structs.replace(record, audited=True)
            await self._store.operations.change(self._queue, record.id, seen.raw, told)
        return IDLE_S


class Scan:
    """
    The dead letters of one operation, in order, a few at a time.

    Args:
        store: Where they are.
        record: Which are meant.
        cursor: The last entry that has been dealt with; empty for none.

    Attributes:
        cursor: The last entry that was given out.
    """

    def __init__(self, store: OperatorStore, record: OperationRecord, cursor: str) -> None:
        self._record = record
        self._parts: AsyncIterator[Matched] = store.dead.search(
            record.queue, record.filter, after=cursor, until=record.until
        )
        self._jobs: list[Found] = []
        self._last = cursor
        self._ended = not record.until
        self.cursor = cursor

    async def next(self, most: int) -> Step:
        """
        Give out the next jobs.

        Args:
            most: How many at most; fewer where they are large, or a chunk holds no more.
        """
        for _ in range(CHUNKS_AT_ONCE):
            if self._jobs or self._ended:
                break
            await self._read()
        step = Step()
        size = taken = 0
        for found in self._jobs:
            why = found.unable() if self._record.action == "retry" else ""
            size += 0 if why else found.size_bytes()
            if not why and (len(step.jobs) == most or (step.jobs and size > BATCH_BYTES)):
                break
            taken += 1
            if why:
                step.unable[why] = step.unable.get(why, 0) + 1
            else:
                step.jobs.append(found)
        self.cursor = self._last if taken == len(self._jobs) else self._jobs[taken - 1].entry
        del self._jobs[:taken]
        step.cursor = self.cursor
        step.complete = self._ended and not self._jobs
        return step

    async def _read(self) -> None:
        part = await anext(self._parts, None)
        if part is not None:
            self._jobs = list(part.jobs)
            self._last = part.last
        self._ended = part is None or part.last == self._record.until


def _after(record: OperationRecord) -> OperationState:
    if record.action == "discard":
        return "finished"
    return "watching" if record.state == "canary" else "following"

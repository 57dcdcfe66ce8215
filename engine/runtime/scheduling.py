"""
The schedules of one queue: declared ones put in place, due ticks fired.

Every engine does it for every queue that it serves. The store lets one change of a record through
and refuses the others, so each tick makes its jobs once, whoever is alive to fire it.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from engine.clock import Clock
from engine.core import schedule as rules
from engine.errors import ScheduleError, StoreError, StoreRefused
from engine.failpoint import failpoint
from engine.logs import get_logger
from engine.runtime.outage import Outage
from engine.store.base import (
    Store,
)
from engine.store.schedule_base import ScheduleChange
from engine.store.schedules import encode_schedule, job_fields, read_schedule
from engine.telemetry import QueueMeter
from schemas.schedule import Schedule

log = get_logger("engine")

LOOK_S = 1.0
LOOK_S_MAX = 30.0
LOOK_BYTES_PER_S = 200_000
"""Records are read again so often that they cost no more than this."""

READ_AT_ONCE = 20


class _Known(msgspec.Struct):
    """A record as it was seen last; ``due_ms`` is 0 where nothing will be due."""

    raw: bytes
    name: str
    spec: Schedule | None
    due_ms: int = 0


class Scheduling:
    """
    Looks after the schedules of one queue.

    Args:
        store: The store.
        queue: The queue.
        declared: What the app's code declares, by name.
        app: The app's name, which owns these.
        clock: Time by the server.
        meter: Kept current.
        outage: Told of failures.
    """

    def __init__(
        self,
        store: Store,
        queue: str,
        declared: Mapping[str, Schedule],
        *,
        app: str,
        clock: Clock,
        meter: QueueMeter,
        outage: Outage,
    ) -> None:
        self._store = store
        self._queue = queue
        self._declared = {
            name.encode(): msgspec.structs.replace(spec, source="code", app=app)
            for name, spec in declared.items()
        }
        self._app = app
        self._clock = clock
        self._meter = meter
        self._outage = outage
        self._known: dict[bytes, _Known] = {}
        self._to_declare = True
        self._look_at_s = 0.0

    async def run(self) -> None:
        """Fire ticks for ever."""
        where = f"schedules of {self._queue}"
        tries = 0
        while True:
            try:
                pause_s = await self.step()
            except StoreError as error:
                tries += 1
                await self._outage.wait(error, tries, where)
                continue
            self._outage.over(where)
            tries = 0
            await self._clock.sleep(pause_s)

    async def step(self) -> float:
        """Do what is to be done now, and return for how many seconds nothing will be."""
        if self._clock.monotonic() >= self._look_at_s:
            await self._look()
        now_ms = self._clock.now_ms()
        due = [key for key, known in self._known.items() if 0 < known.due_ms <= now_ms]
        # Each engine in an order of its own, so that many ticks of one moment are shared out.
        for key in sorted(due, key=lambda _: self._clock.draw()) if len(due) > 1 else due:
            known = self._known.get(key)
            if known is not None:
                await self._fire(key, known)
        now_ms = self._clock.now_ms()
        ahead_ms = min(
            (each.due_ms - now_ms for each in self._known.values() if each.due_ms), default=1e9
        )
        return max(0.001, min(ahead_ms / 1e3, self._look_at_s - self._clock.monotonic()))

    async def _look(self) -> None:
        """Read all records, and put in place what the code declares."""
        self._look_at_s = self._clock.monotonic() + LOOK_S
        try:
            found = await self._store.schedules(self._queue)
        except StoreRefused as error:
            if error.kind != "wrongtype":
                raise
            # Whatever somebody put in the place of the schedules, the queue goes on.
            self._misplaced(str(error))
            return
        if self._to_declare or (self._declared and not found):
            self._to_declare = not await self._declare(found)
            found = await self._store.schedules(self._queue)
        for gone in self._known.keys() - found.keys():
            del self._known[gone]
        fresh = 0
        for key, raw in found.items():
            known = self._known.get(key)
            if known is None or known.raw != raw:
                known = self._note(key, raw)
                fresh += 1
                if fresh % READ_AT_ONCE == 0:
                    # Reading one takes some hundred µs; others want the loop too.
                    await self._clock.sleep(0)
            if known.spec is not None and not (known.spec.next_ms or known.spec.ended):
                # A person wrote it, who need not know when it comes next.
                after = rules.planned(known.spec, self._clock.now_ms())
                await self._change(key, known, after)
        self._meter.schedules = len(self._known)
        broken = sum(known.spec is None for known in self._known.values())
        self._meter.schedules_broken = broken
        size = sum(map(len, found.values()))
        pause_s = min(LOOK_S_MAX, max(LOOK_S, size / LOOK_BYTES_PER_S))
        self._look_at_s = self._clock.monotonic() + pause_s

    def _misplaced(self, error: str) -> None:
        if not self._meter.schedules_broken or self._known:
            log.error("schedules_broken", queue=self._queue, error=error[:300])
        self._known.clear()
        self._meter.schedules, self._meter.schedules_broken = 0, 1

    def _note(self, key: bytes, raw: bytes) -> _Known:
        try:
            name, spec = read_schedule(key, raw)
        except ScheduleError as error:
            name = key.decode("utf-8", "backslashreplace")
            log.error(
                "schedule_broken", queue=self._queue, schedule=name[:120], error=str(error)[:300]
            )
            known = _Known(raw, name, None)
        else:
            known = _Known(raw, name, spec, rules.due_ms(name, spec))
        self._known[key] = known
        return known

    async def _declare(self, found: Mapping[bytes, bytes]) -> bool:
        """Put the declared ones in place; returns False where somebody else did so just now."""
        complete = True
        for key, spec in self._declared.items():
            raw = found.get(key)
            old = None if raw is None else _readable(key, raw)
            if raw is not None and (old is None or old.source == "operator"):
                why = "it cannot be read" if old is None else "an operator made it"
                log.error("schedule_name_taken", queue=self._queue, schedule=key.decode(), why=why)
                continue
            after = encode_schedule(rules.declared(old, spec, self._clock.now_ms()))
            if after != raw:
                complete &= await self._put(key, raw, after)
        for key, raw in found.items():
            old = _readable(key, raw) if key not in self._declared else None
            if old is not None and (old.source, old.app) == ("code", self._app):
                log.info("schedule_removed", queue=self._queue, schedule=key.decode())
                complete &= await self._put(key, raw, None)
        return complete

    async def _put(self, key: bytes, before: bytes | None, after: bytes | None) -> bool:
        change = ScheduleChange(name=key, before=before, after=after)
        return (await self._store.schedule(self._queue, change)).outcome == "done"

    async def _fire(self, key: bytes, known: _Known) -> None:
        assert known.spec is not None
        firing = rules.firing(known.name, known.spec, self._clock.now_ms())
        if firing is None:
            # The server's clock has gone back since.
            known.due_ms = rules.due_ms(known.name, known.spec)
            return
        jobs = [job_fields(known.name, known.spec, tick) for tick in firing.ticks]
        failpoint("K12a")
        if await self._change(key, known, firing.after, jobs=jobs, due_ms=firing.due_ms):
            failpoint("K12b")
            self._meter.schedule_ticks += len(firing.ticks)
            if firing.dropped:
                log.warning(
                    "schedule_ticks_dropped",
                    queue=self._queue,
                    schedule=known.name,
                    ticks=firing.dropped,
                    catch_up=known.spec.catch_up,
                )

    async def _change(
        self,
        key: bytes,
        known: _Known,
        after: Schedule | None,
        *,
        jobs: list[list[bytes]] | None = None,
        due_ms: int = 0,
    ) -> bool:
        assert known.spec is not None
        raw = None if after is None else encode_schedule(after)
        change = ScheduleChange(
            name=key,
            before=known.raw,
            after=raw,
            lane=known.spec.lane,
            jobs=jobs or [],
            due_ms=due_ms,
        )
        answer = await self._store.schedule(self._queue, change)
        if answer.outcome == "early":
            known.due_ms = self._clock.now_ms() + answer.left_ms
            return False
        if answer.outcome == "changed" and answer.record is not None:
            self._note(key, answer.record)
        elif after is None or raw is None or answer.outcome == "changed":
            self._known.pop(key, None)
        else:
            due_ms = rules.due_ms(known.name, after)
            self._known[key] = _Known(raw, known.name, after, due_ms)
        return answer.outcome == "done"


def _readable(key: bytes, raw: bytes) -> Schedule | None:
    try:
        return read_schedule(key, raw)[1]
    except ScheduleError:
        return None

"""What operators do with schedules: look, add, change, pause, run now, delete."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any, Literal

import msgspec

from engine.admin.base import AdminBase, checked_queue
from engine.admin.explain import span
from engine.core import schedule as rules
from engine.errors import EngineError, NotFound, ScheduleError
from engine.store.operator.entry import as_json
from engine.store.schedule_base import ScheduleChange
from engine.store.schedules import (
    check_schedule,
    encode_schedule,
    job_fields,
    read_schedule,
)
from schemas.schedule import Preview, Schedule, ScheduleChanged, ScheduleView
from schemas.stats import EngineStats, QueueStats

UPCOMING = 5
TRIES = 20
OVERDUE_MS = 60_000
AT_ONCE = 20
"""Records that are judged before others have the loop again."""
PROBLEMS_MAX = 20
"""Of one queue; who has more sees them on their own page."""
CHANGEABLE = frozenset(
    ("type", "data", "lane", "fields", "cron", "tz", "every_ms", "at", "catch_up", "jitter_ms")
)

Edit = Callable[[Schedule | None, int], Schedule | None]


class ScheduleVerbs(AdminBase):
    """The verbs of :class:`engine.admin.Admin` that are about schedules."""

    async def schedules(self, names: Sequence[str] = ()) -> list[ScheduleView]:
        """
        List the schedules of queues by queue and name, those that cannot be read included.

        Args:
            names: Which queues; empty for all known ones.
        """
        stats = [each for each in await self.queues(names) if each.schedules]
        engines = await self.engines()
        now_ms = await self._store.now_ms()
        found = []
        for each in stats:
            records = await self._store.schedules.read(each.queue)
            found += views(each.queue, records, engines, now_ms)
        return found

    async def schedule_problems(
        self, queues: Sequence[QueueStats], engines: Sequence[EngineStats], now_ms: int
    ) -> list[ScheduleView]:
        """
        List the schedules that cannot fire or are late; cheap where many are well.

        Args:
            queues: The queues that were just looked at.
            engines: The engines heard of lately.
            now_ms: The server's clock, Unix ms.
        """
        found = []
        for each in queues:
            if each.schedules:
                records = await self._store.schedules.read(each.queue)
                types = _types(each.queue, engines)
                wrong: dict[bytes, bytes] = {}
                for at, (key, raw) in enumerate(sorted(records.items())):
                    if at % AT_ONCE == 0:
                        await asyncio.sleep(0)
                    if len(wrong) < PROBLEMS_MAX and _is_suspect(key, raw, types, now_ms):
                        wrong[key] = raw
                found += views(each.queue, wrong, engines, now_ms)
        return [view for view in found if view.problem]

    async def schedule(self, name: str, *, queue: str = "") -> ScheduleView:
        """
        Tell all about one schedule.

        Args:
            name: Its name.
            queue: Its queue; empty to look in all known ones.

        Raises:
            NotFound: There is none.
            EngineError: Several queues have one of that name.
        """
        found = [view for view in await self.schedules([queue] if queue else ())
                 if view.name == name]  # fmt: skip
        if not found:
            where = f"queue {queue}" if queue else "any known queue; name it with --queue"
            raise NotFound(f"no schedule {name} in {where}")
        if len(found) > 1:
            queues = ", ".join(view.queue for view in found)
            raise EngineError(f"schedule {name} is in {queues}; name one with --queue")
        return found[0]

    async def schedule_add(
        self, queue: str, name: str, spec: Schedule, *, reason: str = ""
    ) -> ScheduleChanged:
        """
        Make a schedule; it begins now.

        Raises:
            ScheduleError: Something about it is wrong, or the name is taken.
        """

        def edit(old: Schedule | None, now_ms: int) -> Schedule:
            if old is not None:
                raise ScheduleError(f"schedule {name} is there already; `schedule change` it")
            if spec.at and spec.at <= now_ms:
                raise ScheduleError(f"the moment is {span(now_ms - spec.at)} ago")
            return rules.planned(spec, now_ms)

        return await self._edit(queue, name, "schedule-add", edit, reason)

    async def schedule_change(
        self, queue: str, name: str, changes: Mapping[str, Any], *, reason: str = ""
    ) -> ScheduleChanged:
        """
        Change a schedule; changed times begin anew, now.

        Args:
            queue: Its queue.
            name: Its name.
            changes: New values for attributes of :class:`schemas.schedule.Schedule`. One of
                ``cron``, ``every_ms`` and ``at`` takes the place of the others.
        """

        def edit(old: Schedule | None, now_ms: int) -> Schedule:
            old = _there(old, queue, name)
            if old.source == "code":
                raise ScheduleError(
                    f"schedule {name} is declared by {old.app}: change it in the code; "
                    "pause, resume and run work"
                )
            given: dict[str, Any] = dict(changes)
            if strange := given.keys() - CHANGEABLE:
                raise ScheduleError(f"{', '.join(sorted(strange))} cannot be changed")
            if given.keys() & {"cron", "every_ms", "at"}:
                given = {"cron": "", "every_ms": 0, "at": 0, **given}
            return rules.declared(old, msgspec.structs.replace(old, **given), now_ms)

        return await self._edit(queue, name, "schedule-change", edit, reason)

    async def schedule_pause(self, queue: str, name: str, *, reason: str = "") -> ScheduleChanged:
        """Fire no ticks of a schedule until it is resumed; a restart does not undo it."""

        def edit(old: Schedule | None, now_ms: int) -> Schedule:
            del now_ms
            return msgspec.structs.replace(_there(old, queue, name), paused=True)

        return await self._edit(queue, name, "schedule-pause", edit, reason)

    async def schedule_resume(self, queue: str, name: str, *, reason: str = "") -> ScheduleChanged:
        """Let a schedule go on from now; ticks of the pause are left out."""

        def edit(old: Schedule | None, now_ms: int) -> Schedule:
            old = _there(old, queue, name)
            return rules.resumed(old, now_ms) if old.paused else old

        return await self._edit(queue, name, "schedule-resume", edit, reason)

    async def schedule_delete(
        self, queue: str, name: str, *, force: bool = False, reason: str = ""
    ) -> ScheduleChanged:
        """
        Take a schedule away, also one that cannot be read.

        Args:
            queue: Its queue.
            name: Its name.
            force: Also if code declares it, which brings it back when an engine starts.
            reason: Why, for the audit stream.
        """
        for _ in range(TRIES):
            raw = await self._store.schedules.one(checked_queue(queue), name)
            if raw is None:
                raise NotFound(f"no schedule {name} in queue {queue}")
            spec = _readable(name, raw)
            if spec is not None and spec.source == "code" and not force:
                raise ScheduleError(
                    f"schedule {name} is declared by {spec.app} and would come back: take it out "
                    "of the code, pause it, or use --force if that app is gone"
                )
            change = ScheduleChange(name=name.encode(), before=raw, after=None)
            if (await self._store.schedules.change(queue, change)).outcome == "done":
                detail = {"schedule": name, "before": _shown(raw)}
                await self._record(queue, "schedule-delete", detail, reason)
                return ScheduleChanged(queue=queue, name=name, what="schedule-delete", changed=True)
        raise EngineError(f"schedule {name} changes too fast; try again")

    async def schedule_run(self, queue: str, name: str, *, reason: str = "") -> ScheduleChanged:
        """Enqueue one job of a schedule now, beside its ticks; also of a paused one."""
        raw = await self._store.schedules.one(checked_queue(queue), name)
        if raw is None:
            raise NotFound(f"no schedule {name} in queue {queue}")
        _, spec = read_schedule(name.encode(), raw)
        now_ms = await self._store.now_ms()
        job = f"{name}:now-{now_ms}"
        fields = job_fields(name, spec, now_ms, own_id=job)
        for _ in range(TRIES):
            change = ScheduleChange(
                name=name.encode(), before=raw, after=raw, lane=spec.lane, jobs=[fields]
            )
            answer = await self._store.schedules.change(queue, change)
            if answer.outcome == "done":
                await self._record(queue, "schedule-run", {"schedule": name, "job": job}, reason)
                view = await self._view(queue, name, raw)
                return ScheduleChanged(
                    queue=queue, name=name, what="schedule-run", changed=True, job=job, now=view
                )
            if answer.record is None:
                raise NotFound(f"no schedule {name} in queue {queue}")
            raw = answer.record
        raise EngineError(f"schedule {name} changes too fast; try again")

    async def schedule_preview(self, spec: Schedule, count: int) -> Preview:
        """Say when times would tick from now on; nothing is written."""
        return preview(spec, await self._store.now_ms(), count)

    async def _edit(
        self, queue: str, name: str, what: str, edit: Edit, reason: str
    ) -> ScheduleChanged:
        checked_queue(queue)
        for _ in range(TRIES):
            raw = await self._store.schedules.one(queue, name)
            old = None if raw is None else read_schedule(name.encode(), raw)[1]
            new = edit(old, await self._store.now_ms())
            if new is not None:
                check_schedule(name, new)
            after = None if new is None else encode_schedule(new)
            if new == old:
                view = await self._view(queue, name, raw)
                return ScheduleChanged(queue=queue, name=name, what=what, changed=False, now=view)
            change = ScheduleChange(name=name.encode(), before=raw, after=after)
            if (await self._store.schedules.change(queue, change)).outcome == "done":
                detail = {"schedule": name, "before": _shown(raw), "after": _shown(after)}
                await self._record(queue, what, detail, reason)
                view = await self._view(queue, name, after)
                return ScheduleChanged(queue=queue, name=name, what=what, changed=True, now=view)
        raise EngineError(f"schedule {name} changes too fast; try again")

    async def _view(self, queue: str, name: str, raw: bytes | None) -> ScheduleView | None:
        if raw is None:
            return None
        now_ms = await self._store.now_ms()
        return views(queue, {name.encode(): raw}, await self.engines(), now_ms)[0]


def preview(spec: Schedule, now_ms: int, count: int) -> Preview:
    """Say when times would tick from a moment on."""
    rules.check(spec)
    found = list(islice(rules.ticks(spec, now_ms), count))
    return Preview(
        when=rules.words(spec),
        ticks=found,
        words=[
            f"in {span(tick - now_ms)}, {rules.moment_words(tick, spec.tz, now_ms=now_ms)}"
            for tick in found
        ],
    )


def views(
    queue: str, records: Mapping[bytes, bytes], engines: Sequence[EngineStats], now_ms: int
) -> list[ScheduleView]:
    """Judge the records of one queue, by name."""
    types = _types(queue, engines)
    found = []
    for key, raw in sorted(records.items()):
        try:
            name, spec = read_schedule(key, raw)
        except ScheduleError as error:
            found.append(
                ScheduleView(
                    queue=queue,
                    name=key.decode("utf-8", "backslashreplace"),
                    when="",
                    state="broken",
                    problem=str(error),
                )
            )
            continue
        problem = ""
        if types is None:
            problem = f"no engine serves queue {queue}, so nobody fires it"
        elif spec.type not in types:
            problem = f"no engine of queue {queue} takes type {spec.type}"
        found.append(_view(queue, name, spec, problem, now_ms))
    return found


def _types(queue: str, engines: Iterable[EngineStats]) -> set[str] | None:
    """Collect the types that live engines of a queue take; None where no engine serves it."""
    loads = [each.beat.queues[queue] for each in engines if each.live and queue in each.beat.queues]
    return {name for load in loads for name in load.types} if loads else None


@lru_cache(maxsize=4_096)
def _plan(key: bytes, raw: bytes) -> tuple[str, int]:
    """Return the type and when it is due; an empty type where it is to fire no more."""
    name, spec = read_schedule(key, raw)
    return "" if spec.paused or spec.ended else spec.type, rules.due_ms(name, spec)


def _is_suspect(key: bytes, raw: bytes, types: set[str] | None, now_ms: int) -> bool:
    try:
        name, due_ms = _plan(key, raw)
    except ScheduleError:
        return True
    if not name:
        return False
    return types is None or name not in types or 0 < due_ms < now_ms - OVERDUE_MS


def _view(queue: str, name: str, spec: Schedule, problem: str, now_ms: int) -> ScheduleView:
    next_ms = rules.due_ms(name, spec)
    late_ms = now_ms - next_ms if next_ms else 0
    told = ""
    if next_ms:
        when = f"in {span(-late_ms)}" if late_ms < 0 else f"due for {span(late_ms)}"
        told = f"{when}, {rules.moment_words(next_ms, spec.tz, now_ms=now_ms)}"
    if late_ms > OVERDUE_MS and not problem:
        problem = f"it is late by {span(late_ms)}"
    upcoming = islice(rules.ticks(spec, spec.next_ms), UPCOMING - 1) if next_ms else ()
    state: Literal["on", "paused", "ended"] = "on"
    if spec.paused or spec.ended:
        state = "ended" if spec.ended else "paused"
    rest = {
        field: getattr(spec, field)
        for field in (
            *("type", "lane", "fields", "cron", "tz", "every_ms", "at", "catch_up"),
            *("jitter_ms", "source", "app", "last_ms", "ticks"),
        )
    }
    return ScheduleView(
        queue=queue,
        name=name,
        when=rules.words(spec),
        state=state,
        next=told,
        next_ms=next_ms,
        upcoming=[spec.next_ms, *upcoming] if next_ms else [],
        problem=problem if state == "on" else "",
        data=as_json(bytes(spec.data)),
        **rest,
    )


def _there(old: Schedule | None, queue: str, name: str) -> Schedule:
    if old is None:
        raise NotFound(f"no schedule {name} in queue {queue}")
    return old


def _readable(name: str, raw: bytes) -> Schedule | None:
    try:
        return read_schedule(name.encode(), raw)[1]
    except ScheduleError:
        return None


def _shown(raw: bytes | None) -> object:
    return "" if raw is None else as_json(raw)

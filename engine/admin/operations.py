"""
Bulk operations on dead letters: planned, started, watched, stopped, taken back.

A plan is bound to a filter and to the newest dead letter there was, so that what it counts is what
the operation does, if nothing else changes. Engines do the work; see
:mod:`engine.runtime.operations`. What is changed here is the operation's record.
"""

from __future__ import annotations

import secrets
from collections import Counter

import msgspec

from engine.admin.base import AdminBase, checked_queue
from engine.admin.words import many
from engine.core import operations as rules
from engine.errors import EngineError, NotFound, WrongState
from engine.store.operator.operations import Progress, Seen
from schemas.operations import Operation, OperationRecord, Operations, OperationState, Plan, Verb
from schemas.stats import DeadFilter

PLAN_TTL_S = 300
PLAN_MS = 200
"""How long one call of :meth:`OperationVerbs.plan_operation` looks at dead letters."""

SAMPLES_MAX = 5
TYPED_OVER = 100
"""A discard of more jobs than this must be confirmed by the queue's name."""

LIVE_MAX = 16
KEPT_MAX = 200
KEPT_MS = 30 * 86_400_000
TRIES_MAX = 20


class Drafted(msgspec.Struct, frozen=True, kw_only=True):
    """A plan as it is kept, with where its count goes on."""

    plan: Plan
    cursor: str


class OperationVerbs(AdminBase):
    """The verbs of bulk operations."""

    async def plan_operation(
        self,
        queue: str,
        action: Verb,
        wanted: DeadFilter,
        *,
        rate: float = 20.0,
        canary: int = 0,
    ) -> Plan:
        """
        Count what an operation would do; nothing is changed.

        Where there is more to look at than a moment allows, the plan is not complete, and
        :meth:`continue_plan` goes on.

        Args:
            queue: The queue.
            action: ``retry`` or ``discard``.
            wanted: Which dead letters; what dies from now on is left out.
            rate: Jobs per second.
            canary: Jobs of a retry that go first, and must not die again, before the others go.

        Raises:
            EngineError: The rate or the canary is out of range.
        """
        checked_queue(queue)
        _check_pace(rate, canary)
        now_ms = await self._store.now_ms()
        draft = Plan(
            id=f"{queue}/{now_ms:x}-{secrets.token_hex(4)}",
            queue=queue,
            action=action,
            filter=wanted,
            until=await self._store.dead.last(queue),
            rate=rate,
            canary=canary if action == "retry" else 0,
            total=await self._store.dead.count(queue),
            expires_ms=now_ms + PLAN_TTL_S * 1000,
        )
        return await self._count(Drafted(plan=draft, cursor=""))

    async def continue_plan(
        self, plan_id: str, *, rate: float | None = None, canary: int | None = None
    ) -> Plan:
        """
        Look at further dead letters for a plan that is not complete, or change its pace.

        Args:
            plan_id: The plan.
            rate: Jobs per second from now on; None to leave it.
            canary: Jobs that go first from now on; None to leave it.

        Raises:
            NotFound: There is no such plan, or it is too old.
        """
        drafted = await self._drafted(plan_id)
        plan = drafted.plan
        rate = plan.rate if rate is None else rate
        canary = plan.canary if canary is None or plan.action == "discard" else canary
        _check_pace(rate, canary)
        plan = msgspec.structs.replace(plan, rate=rate, canary=canary)
        if plan.complete:
            return await self._keep(await self._estimated(plan), drafted.cursor)
        return await self._count(Drafted(plan=plan, cursor=drafted.cursor))

    async def start_operation(
        self, plan_id: str, *, reason: str = "", confirm: str = ""
    ) -> Operation:
        """
        Let the engines do what a plan says; doing so twice starts it once.

        Args:
            plan_id: The plan.
            reason: Why, for the audit stream and the list of operations.
            confirm: The queue's name, to discard many jobs.

        Raises:
            NotFound: There is no such plan, or it is too old.
            WrongState: It finds no job, or it is not confirmed, or too many operations live.
        """
        queue, name = _place(plan_id)
        if (seen := await self._store.operations.look(queue, name)) is not None:
            return _shown(seen)
        plan = (await self._drafted(plan_id)).plan
        if plan.complete and not plan.count:
            raise WrongState(f"the plan finds nothing to {plan.action} in {queue}")
        if plan.confirm and confirm != queue:
            raise WrongState(f"to discard over {TYPED_OVER} jobs, confirm with {queue!r}")
        await self._make_room(queue)
        now_ms = await self._store.now_ms()
        record = OperationRecord(
            id=name,
            queue=queue,
            action=plan.action,
            filter=plan.filter,
            until=plan.until,
            rate=plan.rate,
            canary=plan.canary,
            planned=plan.estimate,
            exact=plan.complete,
            who=self._who,
            reason=reason,
            started_ms=now_ms,
            commit_ms=now_ms + rules.COMMIT_MS if plan.action == "discard" else 0,
            state=rules.first_state(plan.action, plan.canary),
            since_ms=now_ms,
        )
        if await self._store.operations.change(queue, name, None, record):
            detail = {"operation": name, "jobs": plan.estimate, "rate": plan.rate}
            detail |= {"filter": msgspec.to_builtins(plan.filter)}
            await self._record(queue, f"{plan.action}-start", detail, reason)
        return await self.operation(queue, name)

    async def operations(self, queue: str = "", *, limit: int = 50) -> Operations:
        """List operations of one queue or of all, the latest first."""
        known = [checked_queue(queue)] if queue else await self.queue_names()
        records = await self._store.operations.records(known)
        now_ms = await self._store.now_ms()
        listed = records[:limit]
        progress = await self._store.operations.progress(listed, now_ms)
        shown = [_view(record, far, now_ms) for record, far in zip(listed, progress, strict=True)]
        return Operations(operations=shown, more=len(records) - len(listed))

    async def operation(self, queue: str, name: str) -> Operation:
        """
        Show one operation.

        Raises:
            NotFound: There is none.
        """
        return _shown(await self._seen(queue, name))

    async def stop_operation(self, queue: str, name: str, *, reason: str = "") -> Operation:
        """
        Move no further jobs; those that were moved go on.

        Raises:
            NotFound: There is no such operation.
            WrongState: It moves none any more.
        """
        return await self._turn(queue, name, "stop", "stopped", reason)

    async def resume_operation(self, queue: str, name: str, *, reason: str = "") -> Operation:
        """Let a stopped operation go on, also where its canary had failed."""
        return await self._turn(queue, name, "resume", None, reason)

    async def undo_operation(self, queue: str, name: str, *, reason: str = "") -> Operation:
        """
        Make the jobs of a retry that have not started dead letters again, as they were.

        A discard can be taken back until it commits.
        """
        return await self._turn(queue, name, "undo", "undoing", reason)

    async def queue_names(self) -> list[str]:
        """Name the queues of the app and of all running engines."""
        engines = await self.engines()
        return sorted({*self._types, *(name for each in engines for name in each.beat.queues)})

    async def _turn(
        self, queue: str, name: str, verb: str, state: OperationState | None, reason: str
    ) -> Operation:
        for _ in range(TRIES_MAX):
            seen = await self._seen(queue, name)
            shown = _shown(seen)
            if not seen.record.audited:
                # Its engine may have died before it did so.
                told = rules.told_of(seen.record)
                await self._store.control.record_once(seen.record.since_ms, **told)
            if verb not in shown.can:
                raise WrongState(_cannot(verb, shown))
            after = state or rules.resumed(seen.record)
            if verb == "undo" and seen.record.action == "discard":
                after = "undone"
            record = msgspec.structs.replace(
                seen.record,
                state=after,
                since_ms=seen.now_ms,
                why=f"{self._who} stopped it" if after == "stopped" else "",
                canary=0 if verb == "resume" else seen.record.canary,
                audited=True,
            )
            if await self._store.operations.change(queue, name, seen.raw, record):
                detail = {"operation": name, "jobs": shown.moved}
                await self._record(queue, f"{record.action}-{verb}", detail, reason)
                return await self.operation(queue, name)
        raise WrongState(f"operation {name} changes faster than it can be asked to {verb}")

    async def _seen(self, queue: str, name: str) -> Seen:
        seen = await self._store.operations.look(checked_queue(queue), name)
        if seen is None:
            raise NotFound(f"no operation {name} in queue {queue}")
        return seen

    async def _drafted(self, plan_id: str) -> Drafted:
        raw = await self._store.operations.plan(*_place(plan_id))
        if raw is None:
            raise NotFound(f"no plan {plan_id}: plans are kept for {PLAN_TTL_S // 60} minutes")
        return msgspec.json.decode(raw, type=Drafted)

    async def _count(self, drafted: Drafted) -> Plan:
        """Look at dead letters for a moment, and keep how far that came."""
        plan, cursor = drafted.plan, drafted.cursor
        began = self._clock.monotonic()
        unable, samples = Counter(plan.unable), list(plan.samples)
        count, searched, complete = plan.count, plan.searched, True
        if plan.until:
            found = self._store.dead.search(plan.queue, plan.filter, after=cursor, until=plan.until)
            async for part in found:
                searched += part.searched
                cursor = part.last
                for job in part.jobs:
                    why = job.unable() if plan.action == "retry" else ""
                    if why:
                        unable[why] += 1
                        continue
                    count += 1
                    if len(samples) < SAMPLES_MAX:
                        samples.append(job.row())
                if (self._clock.monotonic() - began) * 1e3 >= PLAN_MS and cursor != plan.until:
                    complete = False
                    break
        plan = msgspec.structs.replace(
            plan,
            unable=dict(unable),
            samples=samples,
            count=count,
            searched=searched,
            complete=complete,
        )
        return await self._keep(await self._estimated(plan), cursor)

    async def _estimated(self, plan: Plan) -> Plan:
        """Say how many jobs there will be in all, as well as that is known."""
        estimate = plan.count
        if not plan.complete:
            share = plan.count / plan.searched if plan.searched else 0.0
            estimate = max(plan.count, round(share * max(plan.total, plan.searched)))
            if _is_group(plan.filter):
                groups = await self._store.dead.groups(plan.queue)
                known = {group.fingerprint: group.jobs for group in groups}
                in_all = known.get(plan.filter.fingerprint, 0) - sum(plan.unable.values())
                estimate = max(plan.count, in_all)
        return msgspec.structs.replace(
            plan,
            estimate=estimate,
            duration_ms=rules.duration_ms(estimate, plan.rate, plan.canary),
            confirm=plan.action == "discard" and estimate > TYPED_OVER,
        )

    async def _keep(self, plan: Plan, cursor: str) -> Plan:
        now_ms = await self._store.now_ms()
        plan = msgspec.structs.replace(plan, expires_ms=now_ms + PLAN_TTL_S * 1000)
        raw = msgspec.json.encode(Drafted(plan=plan, cursor=cursor))
        await self._store.operations.keep_plan(*_place(plan.id), raw, ttl_s=PLAN_TTL_S)
        return plan

    async def _make_room(self, queue: str) -> None:
        """Forget the oldest operations that are over, and refuse too many that are not."""
        records = await self._store.operations.records([queue])
        if sum(record.state in rules.LIVE for record in records) >= LIVE_MAX:
            raise WrongState(f"{LIVE_MAX} operations of {queue} are under way; stop one first")
        now_ms = await self._store.now_ms()
        over = [record for record in records if record.state not in rules.LIVE]
        keep = KEPT_MAX - 1 - (len(records) - len(over))
        for at, record in enumerate(over):
            if at >= keep or record.since_ms < now_ms - KEPT_MS:
                seen = await self._store.operations.look(queue, record.id)
                if seen is not None:
                    await self._store.operations.change(queue, record.id, seen.raw, None)


def _place(plan_id: str) -> tuple[str, str]:
    """Return the queue and the name of a plan, which its operation will have too."""
    queue, _, name = plan_id.rpartition("/")
    return checked_queue(queue), name


def _check_pace(rate: float, canary: int) -> None:
    if not rules.RATE_MIN <= rate <= rules.RATE_MAX:
        bounds = f"{rules.RATE_MIN:g} to {rules.RATE_MAX:g} jobs per second"
        raise EngineError(f"rate must be {bounds}, not {rate:g}")
    if not 0 <= canary <= rules.CANARY_MAX:
        raise EngineError(f"canary must be 0 to {rules.CANARY_MAX}, not {canary}")


def _is_group(wanted: DeadFilter) -> bool:
    return bool(wanted.fingerprint) and wanted == DeadFilter(fingerprint=wanted.fingerprint)


def _shown(seen: Seen) -> Operation:
    return _view(seen.record, seen.progress, seen.now_ms)


def _view(record: OperationRecord, far: Progress, now_ms: int) -> Operation:
    under_way = far.moved - far.undone - far.done - far.dead
    undoable = max(0, under_way) if record.action == "retry" else 0
    over = far.complete or record.state == "finished"
    unable = sum(far.unable.values())
    return Operation(
        record=record,
        moved=far.moved,
        waiting=far.waiting,
        released=far.moved - far.waiting - far.undone if record.action == "retry" else 0,
        done=far.done,
        died_again=far.dead,
        undone=far.undone,
        gone=far.gone,
        unable=far.unable,
        left=0 if over else max(0, record.planned - far.moved - far.gone - unable),
        undoable=undoable,
        can=rules.can(record, undoable=undoable),
        now_ms=now_ms,
    )


def _cannot(verb: str, shown: Operation) -> str:
    able = f"; it can be asked to {' or '.join(shown.can)}" if shown.can else ""
    moved = many(shown.moved, "job")
    state = shown.record.state
    return f"operation {shown.record.id} is {state} after {moved}: it cannot {verb}{able}"

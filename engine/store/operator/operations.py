"""
Bulk operations on dead letters: their plans, records and counts, and the steps that drive them.

Several engines may try to drive one at the same time. A lease lets one of them do so; each step is
one script, which does nothing for whoever lost the lease or does not know of the operation's last
change of state. So a step is done once or not at all, and whoever comes next reads how far it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

from engine.core.operations import LIVE
from engine.store.link import Argument
from engine.store.operator.dead import DeadLetters, fresh_meta, has_expired, lane_of_dead
from engine.store.operator.entry import UNABLE, Found
from engine.store.operator.link import OperatorLink, pairs, time_ms
from engine.store.operator.lost_jobs import kept_jobs, lost_jobs, mark_of
from engine.wire.codec import META, encode_meta
from engine.wire.keys import GROUP, READY, QueueKeys
from engine.wire.packing import pack
from schemas.operations import OperationRecord
from schemas.rules import LANES

KEPT_S = 30 * 86_400
"""What an operation took is kept for so long after its last step, unless it ends before."""

DRIVEN = "redrive"
"""Why a job waits that an operation brought back."""

TAKE_BACK_MAX = 100

_OVER = frozenset(("finished",))
_record = msgspec.json.Decoder(OperationRecord)


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """
    How far an operation is.

    Attributes:
        moved: Jobs that left the dead letters.
        gone: Jobs that somebody else had taken.
        done: Moved ones that are done.
        dead: Moved ones that died again.
        undone: Moved ones that are dead letters again, as they were.
        unable: Jobs that cannot be brought back, by why.
        waiting: Moved ones whose time has not come.
        cursor: The last dead entry that was dealt with; empty for none.
        due_ms: Unix ms at which the next job is due.
        complete: No job is left.
    """

    moved: int = 0
    gone: int = 0
    done: int = 0
    dead: int = 0
    undone: int = 0
    unable: dict[str, int] = {}
    waiting: int = 0
    cursor: str = ""
    due_ms: float = 0.0
    complete: bool = False


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """
    One operation as it was read.

    Attributes:
        record: What is to be done, and the state.
        raw: The record as it stands in the server, by which changes are fenced.
        progress: How far it is.
        now_ms: Unix ms by the server's clock.
    """

    record: OperationRecord
    raw: bytes
    progress: Progress
    now_ms: int


class Step(msgspec.Struct, kw_only=True):
    """
    What one step of an operation deals with.

    Attributes:
        jobs: The jobs to move, or to drop.
        dues: For jobs that are moved: when each is due, Unix ms.
        cursor: The last dead entry that is dealt with by then; empty where it stays.
        due_ms: Unix ms at which the next job is due.
        complete: No job is left then.
        unable: Jobs that were passed over because they cannot be brought back, by why.
    """

    jobs: list[Found] = []
    dues: list[int] = []
    cursor: str = ""
    due_ms: float = 0.0
    complete: bool = False
    unable: dict[str, int] = {}


class Operations:
    """The bulk operations of queues."""

    def __init__(self, link: OperatorLink) -> None:
        self._link = link
        self.dead = DeadLetters(link)

    async def now_ms(self) -> int:
        """Return the server's clock, Unix ms."""
        return await self._link.now_ms()

    async def keep_plan(self, queue: str, name: str, plan: bytes, *, ttl_s: int) -> None:
        """Keep a plan for a while."""
        await self._link.script("keep", [QueueKeys(queue).plan(name)], plan, ttl_s * 1_000)

    async def plan(self, queue: str, name: str) -> bytes | None:
        """Return a plan; None once it is too old."""
        found: bytes | None = await self._link.one(b"GET", QueueKeys(queue).plan(name))
        return found

    async def records(self, queues: Sequence[str]) -> list[OperationRecord]:
        """List the operations of queues, the latest first; what cannot be read is left out."""
        commands = [(b"HGETALL", QueueKeys(queue).operations) for queue in queues]
        found = []
        for flat in await self._link.many(commands, broken=set()):
            found += [record for raw in pairs(flat).values() if (record := read_record(raw))]
        return sorted(found, key=lambda record: record.started_ms, reverse=True)

    async def look(self, queue: str, name: str) -> Seen | None:
        """Read one operation and how far it is; None if there is no such one."""
        keys = QueueKeys(queue)
        raw, clock = await self._link.many([(b"HGET", keys.operations, name), (b"TIME",)])
        record = read_record(raw) if raw is not None else None
        if record is None:
            return None
        now_ms = time_ms(clock)
        (progress,) = await self.progress([record], now_ms)
        return Seen(record=record, raw=raw, progress=progress, now_ms=now_ms)

    async def progress(self, records: Sequence[OperationRecord], now_ms: int) -> list[Progress]:
        """Tell how far operations are."""
        commands: list[tuple[Argument, ...]] = []
        for record in records:
            keys = QueueKeys(record.queue)
            counts, due = keys.operation(record.id), keys.operation_due(record.id)
            commands.append((b"HMGET", counts, *_FIELDS))
            commands.append((b"ZCOUNT", due, f"({now_ms}", b"+inf"))
        replies = await self._link.many(commands)
        return [
            _progress(record, replies[2 * at], replies[2 * at + 1])
            for at, record in enumerate(records)
        ]

    async def change(
        self, queue: str, name: str, before: bytes | None, after: OperationRecord | None
    ) -> bool:
        """Change the record of an operation; returns False if it was changed since it was read."""
        keys = QueueKeys(queue)
        names = [
            *(keys.operations, keys.control),
            *(keys.operation(name), keys.operation_due(name)),
        ]
        changed, *_ = await self._link.script(
            "operation_set",
            names,
            name,
            _sha(before) if before is not None else "",
            msgspec.json.encode(after) if after is not None else b"",
            "1" if after is not None and (after.state in LIVE or not after.audited) else "",
            "1" if after is None or after.state in _OVER else "",
        )
        return bool(changed)

    async def lease(self, queue: str, token: str, *, ms: int) -> bool:
        """Take or keep the right to drive a queue's operations."""
        return bool(await self._link.script("lease", [QueueKeys(queue).operation_lease], token, ms))

    async def live(self, queue: str) -> list[str]:
        """Name the operations of a queue that live."""
        raw = await self._link.one(b"HGET", QueueKeys(queue).control, b"operations")
        return (raw or b"").decode("utf-8", "replace").split()

    async def put_off(self, seen: Seen, token: str, step: Step) -> tuple[bool, int]:
        """
        Move dead jobs into the delayed set.

        Returns:
            Whether the operation is still the caller's, without which nothing was changed; and how
            many jobs were moved, which are those that were there.
        """
        name, keys = seen.record.id, QueueKeys(seen.record.queue)
        arguments: list[Argument] = []
        for found, due_ms in zip(step.jobs, step.dues, strict=True):
            assert found.record is not None
            lane = lane_of_dead(found)
            meta = msgspec.structs.replace(
                fresh_meta(found, seen.now_ms), why=DRIVEN, operation=f"{name}/{found.entry}"
            )
            arguments += [
                found.entry,
                READY[lane] if found.record.ticket else lane,
                found.record.fingerprint,
                encode_meta(meta),
                1 if has_expired(found, due_ms) else 0,
                due_ms,
            ]
        ours, moved, _ = await self._link.script(
            "put_off",
            [*_driven_keys(keys, name), keys.delayed],
            *_fence(seen, token),
            *_noted(step),
            KEPT_S,
            *arguments,
        )
        return bool(ours), moved

    async def drop(self, seen: Seen, token: str, step: Step) -> tuple[bool, int]:
        """Drop dead jobs for good; returns the same as :meth:`put_off`."""
        name, keys = seen.record.id, QueueKeys(seen.record.queue)
        ours, dropped, _ = await self._link.script(
            "drop",
            [*_driven_keys(keys, name), *keys.gates()],
            *_fence(seen, token),
            *_noted(step),
            *await self.dead.discarded(step.jobs),
        )
        return bool(ours), dropped

    async def lost(self, seen: Seen) -> int | None:
        """Count jobs that have not ended and are nowhere any more; None if that cannot be told."""
        return await lost_jobs(self._link, seen.record)

    async def kept(self, seen: Seen) -> tuple[int, int]:
        """Count jobs that have not ended: those with an ordering key, and others."""
        return await kept_jobs(self._link, seen.record)

    async def take_back(self, seen: Seen, token: str, *, lease_ms: int) -> bool:
        """
        Make all jobs of an operation that have not started dead letters again.

        That may take long where lanes are, so the lease is kept meanwhile.

        Returns:
            Whether the operation was the caller's until all had been looked at.
        """
        keys = QueueKeys(seen.record.queue)
        due = keys.operation_due(seen.record.id)
        passed = 0
        while True:
            ids = await self._link.one(b"ZRANGE", due, passed, passed + TAKE_BACK_MAX - 1)
            if not ids:
                break
            if not await self.lease(keys.queue, token, ms=lease_ms):
                return False
            ours, taken = await self._take_back(seen, token, keys.delayed, "", ids)
            if not ours:
                return False
            passed += len(ids) - taken
        # Looked through last, since jobs go on from the delayed set to their lanes meanwhile.
        for lane in LANES:
            if not await self._take_back_of(seen, token, keys.lane(lane), lease_ms):
                return False
        return True

    async def _take_back_of(self, seen: Seen, token: str, lane: str, lease_ms: int) -> bool:
        (groups,) = await self._link.many([(b"XINFO", b"GROUPS", lane)])
        ours = (row for row in map(pairs, groups or ()) if row[b"name"] == GROUP.encode())
        group = next(ours, None)
        if group is None:
            return True
        delivered = group[b"last-delivered-id"].decode()
        began = f"{seen.record.started_ms}-0"
        low = f"({delivered}" if _id(delivered) >= _id(began) else began
        mark = mark_of(seen.record.id)
        async for entries in self._link.stream(lane, low=low):
            if not await self.lease(seen.record.queue, token, ms=lease_ms):
                return False
            found = [pair for entry, fields in entries if (pair := _ours(entry, fields, mark))]
            for begin in range(0, len(found), TAKE_BACK_MAX):
                part = [each for pair in found[begin : begin + TAKE_BACK_MAX] for each in pair]
                driven, _ = await self._take_back(seen, token, lane, GROUP, part)
                if not driven:
                    return False
        return True

    async def _take_back(
        self, seen: Seen, token: str, place: str, group: str, ids: Sequence[bytes]
    ) -> tuple[bool, int]:
        name, keys = seen.record.id, QueueKeys(seen.record.queue)
        ours, taken = await self._link.script(
            "take_back",
            [*_driven_keys(keys, name), place],
            *_fence(seen, token),
            group,
            *ids,
        )
        return bool(ours), taken


_FIELDS = (
    *(":moved", ":gone", ":done", ":dead", ":undone", ":cursor", ":due", ":complete"),
    *(f":unable:{why}" for why in UNABLE),
)


def _progress(record: OperationRecord, values: Sequence[bytes | None], waiting: int) -> Progress:
    if values[0] is None:
        # It is over, or so old that its counts were forgotten: the record has the last ones.
        return _last_counts(record)
    moved, gone, done, dead, undone = (int(value or 0) for value in values[:5])
    counts = zip(UNABLE, values[8:], strict=True)
    return Progress(
        moved=moved,
        gone=gone,
        done=done,
        dead=dead,
        undone=undone,
        unable={why: int(count) for why, count in counts if count},
        waiting=waiting,
        cursor=(values[5] or b"").decode(),
        due_ms=float(values[6] or 0),
        complete=values[7] == b"1",
    )


def _last_counts(record: OperationRecord) -> Progress:
    counts = record.counts
    return Progress(
        moved=counts.get("moved", 0),
        gone=counts.get("gone", 0),
        done=counts.get("done", 0),
        dead=counts.get("dead", 0),
        undone=counts.get("undone", 0),
        unable={why: counts[why] for why in UNABLE if counts.get(why)},
        complete=record.state == "finished",
    )


def counts_of(progress: Progress) -> dict[str, int]:
    """Return what a record keeps of how far an operation was when it ended."""
    counts = {name: getattr(progress, name) for name in ("moved", "gone", "done", "dead", "undone")}
    return counts | progress.unable


def _driven_keys(keys: QueueKeys, name: str) -> list[str]:
    return [
        *(keys.dead, keys.dead_groups, keys.operations, keys.operation_lease),
        *(keys.operation(name), keys.operation_due(name)),
    ]


def _fence(seen: Seen, token: str) -> tuple[Argument, ...]:
    return seen.record.id, _sha(seen.raw), token


def _noted(step: Step) -> tuple[Argument, ...]:
    unable = [part for why, n in step.unable.items() for part in (why.encode(), b"%d" % n)]
    return step.cursor, f"{step.due_ms:.3f}", "1" if step.complete else "", pack(unable)


def _ours(entry: bytes, fields: Sequence[bytes], mark: bytes) -> tuple[bytes, bytes] | None:
    """Return what an entry of a lane was as a dead letter, and its id, if a mark stands in it."""
    # What has a place in an order may have been noted there by now.
    if len(fields) < 2 or fields[-2] != META or mark not in fields[-1] or b"key" in fields[::2]:
        return None
    was, _, _ = fields[-1].partition(mark)[2].partition(b'"')
    return was, entry


def _id(entry: str) -> tuple[int, int]:
    ms, _, number = entry.partition("-")
    return int(ms), int(number or 0)


def _sha(raw: bytes) -> str:
    return hashlib.sha1(raw, usedforsecurity=False).hexdigest()


def read_record(raw: bytes) -> OperationRecord | None:
    """Read a record; None for what no engine wrote."""
    try:
        return _record.decode(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None

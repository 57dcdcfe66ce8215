"""Values ⇄ what scripts and commands take and return. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from engine.core.leases import RELEASED_IDLE_MS
from engine.core.limits import LimitRule, read_rule
from engine.store.base import (
    Control,
    ServerState,
    Settlement,
)
from engine.store.gates import LANE_NUMBERS, Behind, Leave
from engine.store.link import Argument
from engine.store.marks import Mark
from engine.store.numbers import MINUTES_TTL_S
from engine.store.schedule_base import ScheduleAnswer, ScheduleChange
from engine.wire.keys import GROUP, RELEASED, QueueKeys
from engine.wire.packing import pack
from schemas.job import Tombstone
from schemas.stats import Beat

ENGINE_FORGOTTEN_MS = 60_000
"""An engine that has not shown itself for so long is taken off the list."""

RANGE_FACTOR = 4
"""Of the pending list between a batch's first and last entry, so many times the batch is read at
most: reading an entry of a range costs a quarter of asking for one alone."""


class Bounds(Protocol):
    """The settings that a settlement needs."""

    @property
    def done_jobs_max(self) -> int: ...
    @property
    def events_max(self) -> int: ...
    @property
    def dead_groups_max(self) -> int: ...


def settle_arguments(
    keys: QueueKeys,
    consumer: str,
    settlement: Settlement,
    bounds: Bounds,
    mark: Mark | None = None,
) -> tuple[list[str], list[Argument]]:
    """Build keys and arguments of the script ``settle``; without a mark, each entry is checked."""
    sure, unsure = _by_certainty(settlement, mark)
    checked = unsure + settlement.released
    streams: list[str] = []
    rest = _rest(keys, settlement, bounds, streams)
    names = [
        keys.lane(settlement.lane),
        keys.delayed,
        keys.dead,
        keys.dead_groups,
        keys.done,
        keys.stats,
        keys.minutes(settlement.at_ms),
        keys.settled,
        keys.events,
        keys.progress,
        *streams,
        *(keys.gates() if settlement.leaves else ()),
    ]
    stats = [part for name, n in settlement.stats.items() for part in (name.encode(), b"%d" % n)]
    arguments: list[Argument] = [
        GROUP,
        consumer,
        f"{consumer}:{settlement.lane}",
        settlement.sequence,
        min(settlement.held, RANGE_FACTOR * len(checked)),
        # Ids of one ms do not sort as bytes, so the range is one of whole ms.
        min(checked, default=b"-").partition(b"-")[0] or b"-",
        max(checked, default=b"+").partition(b"-")[0] or b"+",
        rest,
        f"{settlement.at_ms // 60_000}:{MINUTES_TTL_S}",
        # Each entry tells of one job at least; the exact bound is kept by `trim`.
        4 * bounds.done_jobs_max,
        pack(stats) if stats else b"",
        pack([pack(fields) for fields in settlement.done]) if settlement.done else b"",
        len(settlement.ended),
        mark.value if mark is not None else b"",
        len(sure),
        *sure,
        *checked,
    ]
    return names, arguments


def _by_certainty(settlement: Settlement, mark: Mark | None) -> tuple[Sequence[bytes], list[bytes]]:
    """Part ended entries into those that go by the mark and those that are checked."""
    ended = settlement.ended
    if mark is None:
        return (), ended
    unsure = {*settlement.unsure, *settlement.deliveries}
    if not unsure:
        return ended, []
    return [e for e in ended if e not in unsure], [e for e in ended if e in unsure]


def _rest(keys: QueueKeys, settlement: Settlement, bounds: Bounds, streams: list[str]) -> bytes:
    """Pack what is not plain success, and collect the further streams that it writes to."""
    if not (
        settlement.released
        or settlement.deliveries
        or settlement.retries
        or settlement.again
        or settlement.dead
        or settlement.aside
        or settlement.events
        or settlement.replies
        or settlement.finished
        or settlement.tombstones
        or settlement.leaves
        or settlement.ends
        or settlement.opened
        or settlement.brought_back
    ):
        return b""

    def stream(name: str) -> bytes:
        if name not in streams:
            streams.append(name)
        return b"%d" % (streams.index(name) + 1)

    buried = [job_id.encode() for job_id in settlement.tombstones]
    return pack_of_lists(
        _flat([(entry, b"%d" % count) for entry, count in settlement.deliveries.items()]),
        _flat([(b"%d" % due_ms, member) for due_ms, member in settlement.retries]),
        _flat([(d.fingerprint.encode(), d.sample, pack(d.fields)) for d in settlement.dead]),
        _flat([(stream(keys.held(name)), member) for name, member in settlement.aside])
        + _flat([(stream(keys.flow_ends), message) for message in settlement.ends]),
        settlement.events,
        _flat([(stream(name), pack(fields)) for name, fields in settlement.replies]),
        [job_id.encode() for job_id in settlement.finished],
        [
            b"%d" % bounds.events_max,
            b"%d" % bounds.dead_groups_max,
            b"%d" % RELEASED_IDLE_MS,
            RELEASED.encode(),
            settlement.lane.encode(),
            b"%d" % settlement.room,
        ],
        [stream(keys.cancelled), *buried] if buried else [],
        _flows(keys, settlement, stream),
        _flat([_left(leave) for leave in settlement.leaves]),
        _flat([_put_behind(each) for each in settlement.behind]),
        [part for fields in settlement.again for part in (b"%d" % len(fields), *fields)],
        *_brought_back(keys, settlement, stream),
    )


def _brought_back(
    keys: QueueKeys, settlement: Settlement, index: Callable[[str], bytes]
) -> list[list[bytes]]:
    """Lay out what is counted for bulk operations; nothing where no job came by one."""
    parts = []
    for word, whole in settlement.brought_back:
        operation, _, entry = whole.partition("/")
        parts += [index(keys.operation(operation)), word.encode(), entry.encode()]
    return [parts] if parts else []


def _put_behind(each: Behind) -> tuple[bytes, ...]:
    return (b"%d" % LANE_NUMBERS[each.lane], each.limit.encode(), each.member)


def _left(leave: Leave) -> tuple[bytes, ...]:
    parts = (leave.how, leave.key, leave.ticket, leave.unique, leave.job_id)
    return (leave.entry, *(part.encode() for part in parts))


def _flows(keys: QueueKeys, settlement: Settlement, index: Callable[[str], bytes]) -> list[bytes]:
    """Lay out the flows that a settlement opens."""
    if not settlement.opened:
        return []
    parts = [index(keys.flows), index(keys.flows_todo), index(keys.control)]
    for each in settlement.opened:
        parts += (index(keys.flow(each.flow)), each.flow.encode(), pack(each.fields))
    return parts


def _flat(pairs: Sequence[tuple[bytes, ...]]) -> list[bytes]:
    return [part for pair in pairs for part in pair]


def pack_of_lists(*lists: Sequence[bytes]) -> bytes:
    """Pack lists so that each is unpacked by a call of its own."""
    return pack([pack(items) for items in lists])


def schedule_arguments(keys: QueueKeys, change: ScheduleChange) -> tuple[list[str], list[Argument]]:
    """Build keys and arguments of the script ``schedule``."""
    before = ""
    if change.before is not None:
        before = hashlib.sha1(change.before, usedforsecurity=False).hexdigest()
    jobs = [pack(fields) for fields in change.jobs]
    names = [keys.schedules, keys.lane(change.lane)]
    return names, [change.name, before, change.after or b"", change.due_ms, *jobs]


def schedule_answer(reply: Sequence[Any]) -> ScheduleAnswer:
    """Read what the script ``schedule`` returned."""
    # A nil at the end of a list is left out of it.
    match reply:
        case [b"done"]:
            return ScheduleAnswer("done")
        case [b"early", left_ms]:
            return ScheduleAnswer("early", left_ms=left_ms)
        case [b"changed", *record]:
            return ScheduleAnswer("changed", record=record[0] if record else None)
    raise AssertionError(f"the script answered {reply!r}")


def read_control(flat: Sequence[bytes], cancelled: Mapping[str, Tombstone]) -> Control:
    """Read the control hash; values that make no sense count as not set."""
    found = dict(zip(flat[::2], flat[1::2], strict=True))
    concurrency = found.get(b"concurrency", b"")
    return Control(
        paused=found.get(b"paused") == b"1",
        concurrency=int(concurrency) if concurrency.isdigit() and int(concurrency) > 0 else None,
        holds={
            name.decode("utf-8", "replace").removeprefix("hold:"): _hold_reason(value)
            for name, value in found.items()
            if name.startswith(b"hold:")
        },
        cancelled=cancelled,
        limits=_limits(found),
        blocks=found.get(b"on_dead") == b"block",
        gates=found.get(b"gates") == b"1",
        flows=found.get(b"flows") == b"1",
        operations=_live(found[b"operations"]) if b"operations" in found else (),
    )


def _live(names: bytes) -> tuple[str, ...]:
    return tuple(names.decode("utf-8", "replace").split())


def _limits(found: dict[bytes, bytes]) -> dict[str, LimitRule]:
    """Read the rules of limits; one that makes no sense bounds nothing."""
    rules = {}
    for name, value in found.items():
        if name.startswith(b"limit:"):
            rule = read_rule(value.decode("utf-8", "replace"))
            if rule is not None:
                rules[name.decode("utf-8", "replace").removeprefix("limit:")] = rule
    return rules


def _hold_reason(value: bytes) -> str:
    try:
        return str(msgspec.json.decode(value, type=dict[str, Any]).get("reason", ""))
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return value.decode("utf-8", "replace")


def server_state(info: bytes, clock: Sequence[bytes]) -> ServerState:
    """Read the replies of INFO and TIME."""
    found = dict(
        line.split(":", 1) for line in info.decode("utf-8", "replace").splitlines() if ":" in line
    )
    brand = "valkey" if "valkey_version" in found else "redis"
    seconds, micros = int(clock[0]), int(clock[1])
    return ServerState(
        run_id=found.get("run_id", ""),
        version=f"{brand} {found.get(f'{brand}_version', '')}",
        time_ms=seconds * 1000 + micros / 1000,
        uptime_ms=float(found.get("uptime_in_seconds", 0)) * 1000,
        memory_bytes=int(found.get("used_memory", 0)),
        memory_bytes_max=int(found.get("maxmemory", 0)),
        writable=found.get("role", "master") == "master",
    )


def beats_to_forget(flat: Sequence[bytes], *, now_ms: int) -> list[bytes]:
    """Name the engines whose last beat is too old, or cannot be read."""
    gone = []
    for name, raw in zip(flat[::2], flat[1::2], strict=True):
        try:
            beat = msgspec.json.decode(raw, type=Beat)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            gone.append(name)
            continue
        if now_ms - beat.beat_ms > ENGINE_FORGOTTEN_MS:
            gone.append(name)
    return gone

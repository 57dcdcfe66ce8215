"""Queues, engines and the server at a glance; and what operators set for a queue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from engine.core.pressure import Level
from engine.store.link import Command
from engine.store.operator.control import AUDIT_MAX, HOLD, read_hold
from engine.store.operator.counting import COMMANDS, counted, counting, first_fresh
from engine.store.operator.gates import GateReader
from engine.store.operator.link import OperatorLink, pairs, time_ms, whole
from engine.store.operator.pressure import fullness
from engine.store.pressure import usage_of
from engine.wire.keys import AUDIT, ENGINES, READY, QueueKeys, slot_tag
from schemas.rules import LANES, QUEUE_NAME
from schemas.stats import (
    Beat,
    EngineStats,
    HeldType,
    PausedBy,
    QueueStats,
    Server,
)

STALE_MS = 10_000
"""Silence after which an engine is not counted as live."""

QUEUES_AT_ONCE = 10
"""Queues that are counted in one turn of the loop, which takes some ms."""

RECENT_MINUTES = 5
OUTCOMES = ("done", "retried", "snoozed", "duplicate", "dead", "cancelled", "lost")

_beat = msgspec.json.Decoder(Beat)
_paused = msgspec.json.Decoder(PausedBy)


class QueueReader:
    """Counts what queues hold, and lists who serves them."""

    def __init__(self, link: OperatorLink, gates: GateReader) -> None:
        self._link = link
        self._gates = gates

    async def engines(self) -> list[EngineStats]:
        """List the engines that were heard of within the last minute, by name."""
        clock, flat = await self._link.many([(b"TIME",), (b"HGETALL", ENGINES)])
        now_ms = time_ms(clock)
        found = []
        for raw in pairs(flat).values():
            beat = _read_beat(raw)
            if beat is None:
                continue
            silent_ms = max(0, now_ms - beat.beat_ms)
            found.append(EngineStats(beat=beat, silent_ms=silent_ms, live=silent_ms <= STALE_MS))
        return sorted(found, key=lambda engine: engine.beat.name)

    async def overview(
        self, queues: Sequence[str], types: Mapping[str, Sequence[str]], engines: list[EngineStats]
    ) -> list[QueueStats]:
        """
        Count what queues hold, some queues at a time in two round trips.

        Args:
            queues: The queues.
            types: Types per queue that are known from elsewhere; their held streams are counted.
            engines: The answer of :meth:`engines`.
        """
        found = []
        for begin in range(0, len(queues), QUEUES_AT_ONCE):
            # Many queues take a while, in which the loop must turn.
            found += await self._part(queues[begin : begin + QUEUES_AT_ONCE], types, engines)
        return found

    async def _part(
        self, queues: Sequence[str], types: Mapping[str, Sequence[str]], engines: list[EngineStats]
    ) -> list[QueueStats]:
        commands: list[Command] = [(b"TIME",)]
        for queue in queues:
            commands += _counting(QueueKeys(queue))
        broken: set[str] = set()
        clock, *replies = await self._link.many(commands, broken=broken)
        now_ms = time_ms(clock)
        per_queue = len(replies) // len(queues)
        counts = [
            _Counts(queue, replies[at * per_queue : (at + 1) * per_queue], now_ms)
            for at, queue in enumerate(queues)
        ]
        details: list[Command] = []
        for count in counts:
            count.ask(engines, types.get(count.keys.queue, ()))
            details += count.details
        answers = await self._link.many(details, broken=broken)
        found = []
        for count in counts:
            wanted = len(count.details)
            stats = count.stats(answers[:wanted], engines, broken)
            answers = answers[wanted:]
            # Queues that use no gates have nothing there to be counted.
            found.append(await self._gates.add(stats, count.control, count.now_ms))
        return found

    async def exists(self, queue: str) -> bool:
        """Tell whether a producer, an engine or an operator ever wrote to a queue."""
        keys = QueueKeys(queue)
        lanes = [keys.lane(lane) for lane in LANES]
        rest = (keys.delayed, keys.dead, keys.control, keys.stats)
        return bool(await self._link.one(b"EXISTS", *lanes, *rest))

    async def server(self) -> Server:
        """Ask the server how it is."""
        info, clock = await self._link.many([(b"INFO",), (b"TIME",)])
        found = dict(line.split(":", 1) for line in info.decode().splitlines() if ":" in line)
        name = "valkey" if "valkey_version" in found else "redis"
        return Server(
            version=f"{name} {found.get(f'{name}_version', '?')}",
            time_ms=time_ms(clock),
            memory_bytes=int(found.get("used_memory", 0)),
            memory_bytes_max=int(found.get("maxmemory", 0)),
            eviction=found.get("maxmemory_policy", ""),
            aof=found.get("aof_enabled") == "1",
            role=found.get("role", ""),
        )

    async def check_write(self) -> None:
        """
        Do a write that changes nothing.

        Raises:
            StoreError: The server takes no writes.
        """
        # Trimming a stream that is short enough changes nothing, yet is refused like any write.
        await self._link.one(b"XTRIM", AUDIT, b"MAXLEN", b"~", AUDIT_MAX)


def _read_beat(raw: bytes) -> Beat | None:
    """Read a beat; one that no engine wrote is passed over, or nobody would see anything."""
    try:
        beat = _beat.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return beat if all(map(QUEUE_NAME.fullmatch, beat.queues)) else None


def _counting(keys: QueueKeys) -> list[Command]:
    commands: list[Command] = []
    for lane in LANES:
        commands += counting(keys.lane(lane))
    return [
        *commands,
        *((b"XLEN", keys.lane(READY[lane])) for lane in LANES),
        *((b"ZCARD", keys.parked(lane)) for lane in LANES),
        (b"ZCARD", keys.flows),
        (b"HLEN", keys.schedules),
        (b"HLEN", keys.cancelled),
        (b"ZCARD", keys.delayed),
        (b"XLEN", keys.dead),
        (b"HGETALL", keys.control),
        (b"HGETALL", keys.stats),
    ]


class _Counts:
    """One queue's first answers, and what is to be asked next."""

    def __init__(self, queue: str, replies: list[Any], now_ms: int) -> None:
        self.keys = QueueKeys(queue)
        self.now_ms = now_ms
        self.types: list[str] = []
        self.details: list[Command] = []
        self.minutes: list[tuple[str, list[str]]] = []
        lanes, rest = replies[: COMMANDS * len(LANES)], replies[COMMANDS * len(LANES) :]
        self.lanes = {
            lane: lanes[COMMANDS * at : COMMANDS * (at + 1)] for at, lane in enumerate(LANES)
        }
        gated, own = rest[: 2 * len(LANES)], rest[2 * len(LANES) :]
        self.flows, self.schedules, self.cancelling, self.delayed, self.dead = (
            count or 0 for count in own[:-2]
        )
        self.control, self.counters = pairs(own[-2]), pairs(own[-1])
        keys = self.keys
        held = [*keys.lanes.values(), *(keys.lane(READY[lane]) for lane in LANES)]
        held += [*(keys.parked(lane) for lane in LANES), keys.flows, keys.delayed]
        sizes = [*(told[0] for told in self.lanes.values()), *gated, self.flows, self.delayed]
        self.holding = {key: size for key, size in zip(held, sizes, strict=True) if size}

    def held_types(self) -> set[str]:
        return _held(self.control) | _counted(self.counters)

    def _minutes(self) -> list[tuple[str, list[str]]]:
        """Name the counters of the last minutes, by the key that holds them."""
        names = [name.decode() for name in self.counters if b":" in name]
        by_key: dict[str, list[str]] = {}
        for back in range(RECENT_MINUTES):
            at_ms = self.now_ms - back * 60_000
            fields = by_key.setdefault(self.keys.minutes(at_ms), [])
            fields += [f"{at_ms // 60_000}:{name}" for name in names]
        return [(key, fields) for key, fields in by_key.items() if fields]

    def ask(self, engines: Sequence[EngineStats], types: Sequence[str]) -> None:
        """Build the commands that tell the rest; keys that are empty are not asked about."""
        keys = self.keys
        served = {name for engine in engines for name in _types(engine, keys.queue)}
        self.types = sorted(self.held_types() | served | {*types})
        self.minutes = self._minutes()
        held = list(map(keys.held, self.types))
        self.details = [(b"ZCOUNT", keys.delayed, "-inf", self.now_ms)]
        self.details += [
            first_fresh(self.keys.lane(lane), told) for lane, told in self.lanes.items()
        ]
        self.details += [(b"XLEN", key) for key in held]
        self.details += [usage_of(key) for key in (*self.holding, *held)]
        self.details += [(b"HMGET", key, *fields) for key, fields in self.minutes]

    def stats(self, answers: list[Any], engines: list[EngineStats], broken: set[str]) -> QueueStats:
        overdue, *rest = answers
        lanes = {
            lane: counted(told, first, self.now_ms)
            for (lane, told), first in zip(self.lanes.items(), rest, strict=False)
        }
        rest = rest[len(LANES) :]
        held, rest = rest[: len(self.types)], rest[len(self.types) :]
        used = len(self.holding) + len(self.types)
        usage, recent = rest[:used], rest[used:]
        level = Level(
            sum(self.holding.values()) + sum(count or 0 for count in held),
            sum(size or 0 for size in usage),
        )
        concurrency = self.control.get(b"concurrency", b"")
        return QueueStats(
            fullness=fullness(self.keys.queue, level, self.control, engines),
            queue=self.keys.queue,
            paused=self.control.get(b"paused") == b"1",
            paused_by=self._paused_by(),
            concurrency=whole(concurrency) or None,
            lanes=lanes,
            waiting=sum(lane.waiting for lane in lanes.values()),
            active=sum(lane.active for lane in lanes.values()),
            delayed=self.delayed,
            overdue=overdue or 0,
            held=self._held(held),
            dead=self.dead,
            schedules=self.schedules,
            flows=self.flows,
            done_kept=whole(self.counters.get(b"done_kept")),
            oldest_ms=max(lane.oldest_ms for lane in lanes.values()),
            totals=self._totals(),
            recent=self._recent(recent),
            engines=[
                engine.beat.name
                for engine in engines
                if engine.live and self.keys.queue in engine.beat.queues
            ],
            cancelling=self.cancelling,
            broken=sorted(key for key in broken if slot_tag(key) == self.keys.queue),
        )

    def _paused_by(self) -> PausedBy | None:
        try:
            return _paused.decode(self.control[b"paused_by"])
        except (KeyError, msgspec.MsgspecError):
            return None

    def _held(self, counts: list[Any]) -> list[HeldType]:
        found = []
        for name, jobs in zip(self.types, counts, strict=True):
            raw = self.control.get(f"{HOLD}{name}".encode())
            hold = read_hold(raw)
            if raw is not None or jobs:
                found.append(
                    HeldType(
                        type=name,
                        jobs=jobs or 0,
                        held=raw is not None,
                        reason=hold.reason,
                        since_ms=hold.since_ms,
                        by=hold.by,
                    )
                )
        return found

    def _totals(self) -> dict[str, dict[str, int]]:
        totals: dict[str, dict[str, int]] = {outcome: {} for outcome in OUTCOMES}
        for name, count in self.counters.items():
            outcome, colon, job_type = name.decode("utf-8", "replace").partition(":")
            if colon and outcome in totals:
                totals[outcome][job_type] = whole(count)
        return totals

    def _recent(self, answers: list[Any]) -> dict[str, int]:
        recent = dict.fromkeys(OUTCOMES, 0)
        for (_, fields), counts in zip(self.minutes, answers, strict=True):
            for field, count in zip(fields, counts or (), strict=False):
                outcome = field.split(":")[1]
                if outcome in recent:
                    recent[outcome] += whole(count)
        return recent


def _held(control: Mapping[bytes, bytes]) -> set[str]:
    prefix = HOLD.encode()
    return {
        name.removeprefix(prefix).decode("utf-8", "replace")
        for name in control
        if name.startswith(prefix)
    }


def _counted(counters: Mapping[bytes, bytes] | Sequence[bytes]) -> set[str]:
    names = (name.decode("utf-8", "replace").partition(":")[2] for name in counters)
    return {name for name in names if name}


def _types(engine: EngineStats, queue: str) -> list[str]:
    load = engine.beat.queues.get(queue)
    return load.types if load else []

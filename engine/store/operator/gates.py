"""What waits behind gates, and for whom: order by key, and limits."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import msgspec

from engine.core.limits import SHARE, LimitRule, read_rule
from engine.store.link import Command
from engine.store.operator.counting import COMMANDS, counted, counting, first_fresh
from engine.store.operator.entry import Found
from engine.store.operator.jobs import JobReader
from engine.store.operator.link import CHUNK_ENTRIES_MAX, OperatorLink, pairs
from engine.store.operator.sources import Wanted, in_lines, read
from engine.wire.keys import READY, QueueKeys
from schemas.gates import GateStats, LimitStats
from schemas.job import JobState
from schemas.rules import LANES
from schemas.stats import LaneStats, QueueStats

LIMIT = b"limit:"
LIMITS_MAX = 200
"""Limits of a queue that are looked at at once."""

KEYS_MAX = 20_000
"""Ordering keys of a queue that are looked at to count the blocked ones."""

HOLDER_MAX = 5_000
"""Jobs of one state that are looked at to find the one whose turn it is."""

AHEAD_MAX = 1_000
"""Jobs that are counted to tell a place in a lane."""


class Turn(msgspec.Struct, frozen=True):
    """
    Who has the turn of an ordering key.

    Attributes:
        ticket: The job's place in the order; empty where nobody has the turn.
        blocks: The job is dead and keeps the key.
        job: The job; None where it was not found among those looked at.
        limit: The limit that it waits for, if it is parked itself.
    """

    ticket: str = ""
    blocks: bool = False
    job: Found | None = None
    limit: LimitStats | None = None


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """
    What has to be known of a job's surroundings to say why it does not run.

    Attributes:
        ahead: Jobs before it: in its lane if it waits, in its line if it is parked.
        ahead_more: There are more than that.
        turn: Who has the turn of its key, if it is parked behind that or dead.
        limit: The limit that it is parked behind.
    """

    ahead: int | None = None
    ahead_more: bool = False
    turn: Turn | None = None
    limit: LimitStats | None = None


class GateReader:
    """Reads what gates keep of a queue."""

    def __init__(self, link: OperatorLink, jobs: JobReader) -> None:
        self._link = link
        self._jobs = jobs

    async def add(
        self, stats: QueueStats, control: Mapping[bytes, bytes], now_ms: int
    ) -> QueueStats:
        """Add to the counts of a queue what waits behind its gates."""
        if not _uses_gates(control):
            return stats
        keys = QueueKeys(stats.queue)
        broken: set[str] = set()
        lanes = await self._lanes(keys, stats.lanes, now_ms, broken)
        parked = sum(lane.parked for lane in lanes.values())
        lexed: list[Command] = [(b"ZLEXCOUNT", keys.parked(lane), b"[k", b"(l") for lane in LANES]
        by_key = sum(count or 0 for count in await self._link.many(lexed, broken=broken))
        blocks = control.get(b"on_dead") == b"block"
        blocked, more = await self._blocked(keys) if blocks else (0, False)
        gates = GateStats(
            parked=parked,
            by_key=by_key,
            by_limit=max(0, parked - by_key),
            on_dead="block" if blocks else "continue",
            blocked_keys=blocked,
            blocked_keys_more=more,
            limits=await self._limits(keys, control, now_ms, broken),
        )
        return msgspec.structs.replace(
            stats,
            lanes=lanes,
            waiting=sum(lane.waiting for lane in lanes.values()),
            active=sum(lane.active for lane in lanes.values()),
            oldest_ms=max(lane.oldest_ms for lane in lanes.values()),
            broken=sorted({*stats.broken, *broken}),
            gates=gates,
        )

    async def _lanes(
        self, keys: QueueKeys, lanes: Mapping[str, LaneStats], now_ms: int, broken: set[str]
    ) -> dict[str, LaneStats]:
        """Add what was let through, and what is parked, to the counts of each lane."""
        commands: list[Command] = [(b"ZCARD", keys.parked(lane)) for lane in LANES]
        ready = [keys.lane(READY[lane]) for lane in LANES]
        for key in ready:
            commands += counting(key)
        replies = await self._link.many(commands, broken=broken)
        parked, told = replies[: len(LANES)], replies[len(LANES) :]
        parts = [told[COMMANDS * at : COMMANDS * (at + 1)] for at in range(len(LANES))]
        fresh = [first_fresh(key, part) for key, part in zip(ready, parts, strict=True)]
        firsts = await self._link.many(fresh, broken=broken)
        found = {}
        for lane, count, part, first in zip(LANES, parked, parts, firsts, strict=True):
            more, own = counted(part, first, now_ms), lanes[lane]
            found[lane] = LaneStats(
                waiting=own.waiting + more.waiting + (count or 0),
                active=own.active + more.active,
                oldest_ms=max(own.oldest_ms, more.oldest_ms),
                parked=count or 0,
            )
        return found

    async def _blocked(self, keys: QueueKeys) -> tuple[int, bool]:
        """Count the keys that dead jobs keep, and tell whether there may be more."""
        blocked = looked = 0
        for lane in LANES:
            async for page in turns(self._link, keys.queue, lane):
                blocked += sum(holder.startswith(b"!") for holder in page.values())
                looked += len(page)
                if looked >= KEYS_MAX:
                    return blocked, True
        return blocked, False

    async def _limits(
        self, keys: QueueKeys, control: Mapping[bytes, bytes], now_ms: int, broken: set[str]
    ) -> list[LimitStats]:
        """Read all limits that have a rule, that somebody waits for, or that are shut."""
        commands: list[Command] = [
            (b"ZRANGE", keys.limits_due, 0, LIMITS_MAX - 1),
            (b"HSCAN", keys.limits, 0, b"MATCH", "x:*", b"COUNT", 10_000),
        ]
        due, scanned = await self._link.many(commands, broken=broken)
        names = dict.fromkeys(name.decode() for name in rules_of(control))
        names |= dict.fromkeys(name.decode("utf-8", "replace") for name in due or ())
        shut = pairs(scanned[1]) if scanned else {}
        names |= dict.fromkeys(
            name.decode("utf-8", "replace")[2:]
            for name, until in shut.items()
            if until.isdigit() and int(until) > now_ms
        )
        return await self.usage(keys, control, sorted(names)[:LIMITS_MAX], now_ms, broken)

    async def usage(
        self,
        keys: QueueKeys,
        control: Mapping[bytes, bytes],
        names: Sequence[str],
        now_ms: int,
        broken: set[str] | None = None,
    ) -> list[LimitStats]:
        """Read how limits stand."""
        commands: list[Command] = []
        for name in names:
            commands.append((b"HMGET", keys.limits, f"u:{name}", f"t:{name}", f"x:{name}"))
            low, high = f"[l{name}\0", f"(l{name}\3"
            if name.endswith("=*"):
                # All groups of the rule: what follows the sign = in their names comes before >.
                low, high = f"[l{name[:-1]}", f"(l{name[:-2]}>"
            commands += [(b"ZLEXCOUNT", keys.parked(lane), low, high) for lane in LANES]
        replies = await self._link.many(commands, broken=broken)
        step = 1 + len(LANES)
        return [
            _usage(name, _rule_of(name, control), replies[step * at : step * (at + 1)], now_ms)
            for at, name in enumerate(names)
        ]

    async def facts(self, found: Found, now_ms: int) -> Facts:
        """Read what has to be known to say why a job does not run."""
        if found.state == "waiting":
            ahead, more = await self._ahead(found)
            return Facts(ahead=ahead, ahead_more=more)
        if found.state == "dead" and found.ticket:
            turn = await self._turn(found.queue, found.lane, found.key, now_ms)
            return Facts(turn=turn if turn.blocks and turn.ticket == found.ticket else None)
        if found.state != "parked":
            return Facts()
        keys, line = QueueKeys(found.queue), found.line
        before = b"(" + line + b"\0" + found.ticket.encode()
        counting_: Command = (b"ZLEXCOUNT", keys.parked(found.lane), b"[" + line + b"\0", before)
        ahead = int(await self._link.one(*counting_))
        if line[:1] == b"k":
            key = line[1:].decode("utf-8", "replace")
            turn = await self._turn(found.queue, found.lane, key, now_ms)
            return Facts(ahead=ahead, turn=turn)
        return Facts(ahead=ahead, limit=await self._limit(keys, line, now_ms))

    async def _limit(self, keys: QueueKeys, line: bytes, now_ms: int) -> LimitStats:
        name = line[1:].decode("utf-8", "replace").partition(SHARE)[0]
        control = pairs(await self._link.one(b"HGETALL", keys.control))
        (found,) = await self.usage(keys, control, [name], now_ms)
        return found

    async def _ahead(self, found: Found) -> tuple[int, bool]:
        """Count the jobs that wait before one in its stream."""
        ahead = 0
        wanted = Wanted(keys=QueueKeys(found.queue), streams=(found.place,))
        async for chunk in read(self._link, "waiting", wanted):
            for other in chunk:
                if other.entry == found.entry:
                    return ahead, False
                ahead += 1
                if ahead == AHEAD_MAX:
                    return ahead, True
        return ahead, False

    async def _turn(self, queue: str, lane: str, key: str, now_ms: int) -> Turn:
        """Find out who has the turn of a key."""
        keys = QueueKeys(queue)
        holder: bytes | None = await self._link.one(b"HGET", keys.busy(lane), key)
        if holder is None:
            return Turn()
        ticket = holder.decode("utf-8", "replace").lstrip("!")
        blocks = holder.startswith(b"!")
        job = await self._find(keys, lane, ticket, is_dead=blocks)
        limit = None
        if job is not None and job.state == "parked" and job.line[:1] == b"l":
            limit = await self._limit(keys, job.line, now_ms)
        return Turn(ticket, blocks, job, limit)

    async def _find(
        self, keys: QueueKeys, lane: str, ticket: str, *, is_dead: bool
    ) -> Found | None:
        """Find the job with a ticket, in bounded reads of the places where it can be."""
        states: Sequence[JobState] = ("dead",)
        if not is_dead:
            in_lane = await self._jobs.at(keys.queue, lane, entry_of(ticket))
            if in_lane is not None:
                return in_lane
            states = ("delayed", "parked", "waiting", "active", "waiting-children", "held")
        types = await self._types(keys) if not is_dead else ()
        for state in states:
            wanted = Wanted(
                keys=keys, lanes=(lane,), streams=(READY[lane],), types=types, newest=is_dead
            )
            chunks = read(self._link, state, wanted)
            if state == "parked":
                chunks = in_lines(self._link, wanted, lane, b"", low=b"[l")
            looked = 0
            async for chunk in chunks:
                for found in chunk:
                    if found.ticket == ticket and found.lane == lane:
                        return found
                looked += max(1, len(chunk))
                if looked >= HOLDER_MAX:
                    break
        return None

    async def _types(self, keys: QueueKeys) -> list[str]:
        """Name the types that are held."""
        control = pairs(await self._link.one(b"HGETALL", keys.control))
        names = (name.decode("utf-8", "replace") for name in control)
        return [name.removeprefix("hold:") for name in names if name.startswith("hold:")]


async def turns(link: OperatorLink, queue: str, lane: str) -> AsyncIterator[dict[bytes, bytes]]:
    """Read who has the turn of each key of a lane, in bounded steps."""
    key, cursor = QueueKeys(queue).busy(lane), b"0"
    while True:
        command: Command = (b"HSCAN", key, cursor, b"COUNT", CHUNK_ENTRIES_MAX)
        (reply,) = await link.many([command], broken=set())
        cursor, flat = reply or (b"0", [])
        yield pairs(flat)
        if cursor == b"0":
            return


def entry_of(ticket: str) -> str:
    """Return the entry id that a ticket was made from."""
    ms, _, number = ticket.partition("-")
    if not (ms.isdigit() and number.isdigit()):
        return "0-0"
    return f"{int(ms)}-{int(number)}"


def rules_of(control: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """Return the texts of a queue's rules by the names of their limits."""
    return {
        name.removeprefix(LIMIT): text for name, text in control.items() if name.startswith(LIMIT)
    }


def _uses_gates(control: Mapping[bytes, bytes]) -> bool:
    return b"gates" in control or b"on_dead" in control or any(map(_is_rule, control))


def _is_rule(name: bytes) -> bool:
    return name.startswith(LIMIT)


def _rule_of(name: str, control: Mapping[bytes, bytes]) -> LimitRule | None:
    rules = rules_of(control)
    group = f"{name.partition('=')[0]}=*"
    text = rules.get(name.encode()) or (rules.get(group.encode()) if "=" in name else None)
    return read_rule(text.decode("utf-8", "replace")) if text else None


def _usage(name: str, rule: LimitRule | None, replies: Sequence[Any], now_ms: int) -> LimitStats:
    used, state, shut = replies[0] or (None, None, None)
    until_ms = int(shut) if shut and shut.isdigit() else 0
    rule_ = rule or LimitRule()
    return LimitStats(
        name=name,
        rule=rule.words() if rule else "",
        rate=rule_.rate,
        per_ms=rule_.per_ms,
        burst=rule_.burst,
        tokens=_tokens(rule_, state, now_ms) if rule_.rate else None,
        places=rule_.places,
        used=max(0, int(used or 0)),
        shut_until_ms=until_ms if until_ms > now_ms else 0,
        parked=sum(count or 0 for count in replies[1:]),
        declared=rule_.declared,
        by=rule_.by,
        share=rule_.share,
    )


def _tokens(rule: LimitRule, state: bytes | None, now_ms: int) -> float:
    """Count what is left in a bucket, as the scripts do."""
    try:
        left, at_ms = (state or b"").split()
        gained = max(0, now_ms - int(at_ms)) * rule.rate / rule.per_ms
        return min(float(rule.burst), float(left) + gained)
    except ValueError:
        return float(rule.burst)

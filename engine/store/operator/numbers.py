"""What engines counted by the minute, for charts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from engine.core.numbers import LEVELS, read_levels, read_minutes, read_quarter
from engine.core.steps import Step, read_quarter_step, read_steps
from engine.store.link import Command
from engine.store.numbers import days_of
from engine.store.operator.link import OperatorLink, pairs
from engine.wire.keys import QueueKeys
from schemas.numbers import HOUR_MS, MINUTE_MS, Numbers

ENDS = ("done", "retried", "dead", "cancelled", "duplicate")
"""Outcomes of which a line of a table tells."""

QUEUES_AT_ONCE = 10
"""Queues that are read in one turn of the loop, which takes some ms."""


class NumberReader:
    """Reads the counters of queues."""

    def __init__(self, link: OperatorLink) -> None:
        self._link = link

    async def minutes(self, queue: str, minutes: range) -> dict[int, Numbers]:
        """Read all that is known of some minutes of one queue."""
        found: dict[int, Numbers] = {}
        for fields in await self._hours(queue, minutes):
            found |= read_minutes(fields)
        return {minute: found[minute] for minute in minutes if minute in found}

    async def steps(self, queue: str, minutes: range) -> dict[int, Step]:
        """Read what charts show of some minutes of one queue."""
        found: dict[int, Step] = {}
        for fields in await self._hours(queue, minutes):
            found |= read_steps(fields, minutes)
        return found

    async def _hours(self, queue: str, minutes: range) -> list[dict[bytes, bytes]]:
        """
        Read the hours of some minutes.

        An hour is read whole. It is bounded by the types that engines know, the lanes and the
        groups of dead letters: some 1,500 short fields for a busy queue of seven types.
        """
        keys = QueueKeys(queue)
        hours = sorted({minute * MINUTE_MS // HOUR_MS for minute in minutes})
        commands: list[Command] = [(b"HGETALL", keys.minutes(hour * HOUR_MS)) for hour in hours]
        return [pairs(flat) for flat in await self._link.many(commands, broken=set())]

    async def ends(
        self, wanted: Mapping[str, tuple[range, Sequence[str]]]
    ) -> dict[str, dict[int, Step]]:
        """
        Read how jobs ended and what queues held, of some minutes, some queues at a time.

        Args:
            wanted: Queue → minutes, and counters as ``outcome:type``.
        """
        found: dict[str, dict[int, Step]] = {}
        names = list(wanted)
        for begin in range(0, len(names), QUEUES_AT_ONCE):
            # An hour of many queues takes a while, in which the loop must turn.
            found |= await self._ends({n: wanted[n] for n in names[begin : begin + QUEUES_AT_ONCE]})
        return found

    async def _ends(
        self, wanted: Mapping[str, tuple[range, Sequence[str]]]
    ) -> dict[str, dict[int, Step]]:
        asked = [
            (queue, key, few, names)
            for queue, (minutes, names) in wanted.items()
            for key, few in _hours_of(QueueKeys(queue), minutes).items()
        ]
        commands: list[Command] = [
            (b"HMGET", key, *(f"{minute}:{name}" for minute in few for name in (*names, LEVELS)))
            for _, key, few, names in asked
        ]
        replies = await self._link.many(commands, broken=set())
        found: dict[str, dict[int, Step]] = {queue: {} for queue in wanted}
        for (queue, _, few, names), values in zip(asked, replies, strict=True):
            width, outcomes = len(names) + 1, [name.partition(":")[0] for name in names]
            for at, minute in enumerate(few):
                row = (values or [])[at * width : (at + 1) * width]
                if any(row):
                    found[queue][minute] = _step(outcomes, row)
        return found

    async def quarters(self, queue: str, quarters: range) -> dict[int, Numbers | None]:
        """Read what is kept of quarters of an hour; None where nothing was known, and summed up."""
        kept = await self._kept(queue, quarters)
        return {quarter: read_quarter(raw) for quarter, raw in kept.items()}

    async def quarter_steps(self, queue: str, quarters: range) -> dict[int, Step | None]:
        """Read what charts show of quarters of an hour, likewise."""
        kept = await self._kept(queue, quarters)
        return {quarter: read_quarter_step(raw) for quarter, raw in kept.items()}

    async def _kept(self, queue: str, quarters: range) -> dict[int, bytes]:
        days = days_of(QueueKeys(queue), quarters)
        commands: list[Command] = [(b"HMGET", key, *map(str, few)) for key, few in days.items()]
        replies = await self._link.many(commands, broken=set())
        return {
            quarter: raw
            for few, values in zip(days.values(), replies, strict=True)
            for quarter, raw in zip(few, values or [], strict=False)
            if raw is not None
        }


def _hours_of(keys: QueueKeys, minutes: Iterable[int]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for minute in minutes:
        found.setdefault(keys.minutes(minute * MINUTE_MS), []).append(minute)
    return found


def _step(outcomes: Sequence[str], row: Sequence[bytes | None]) -> Step:
    step = Step()
    for outcome, count in zip(outcomes, row, strict=False):
        if count is not None and count.isdigit():
            step.count(outcome, int(count))
    levels = row[-1]
    step.last = step.most = read_levels(levels) if levels else None
    return step

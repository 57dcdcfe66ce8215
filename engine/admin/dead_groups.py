"""Dead letters by group, over all queues: what died of what, since when, how fast."""

from __future__ import annotations

import msgspec

from engine.admin.base import checked_queue
from engine.admin.numbers import NumberVerbs
from engine.admin.operations import OperationVerbs
from engine.errors import NotFound
from engine.store.operator import Found
from engine.store.operator.jobs import CHILD_FAILED
from schemas.dead import DeadGroupPage, DeadPage, DeadRow, DeadSample
from schemas.job import ErrorRecord
from schemas.numbers import DeathRate
from schemas.stats import DeadFilter, DeadGroup

SAMPLES_MAX = 10
SEARCHED_MAX = 2_000
"""Dead letters looked at for the samples of one group."""


class GroupQuery(msgspec.Struct, frozen=True, kw_only=True):
    """
    Which groups are meant; every part that is given must fit.

    Attributes:
        queue: The queue; empty for all.
        type: The type.
        reason: The reason.
        text: Text within type, error or sample, whatever the case.
        from_ms: Unix ms at or after which a job of it died.
        limit: Most groups to list.
        quotes: Look for the text also in errors that quote those of children.
    """

    queue: str = ""
    type: str = ""
    reason: str = ""
    text: str = ""
    from_ms: int = 0
    limit: int = 100
    quotes: bool = True


class DeadGroupVerbs(NumberVerbs, OperationVerbs):
    """The verbs of groups of dead letters."""

    async def dead_page(self, query: GroupQuery) -> DeadPage:
        """List groups of dead letters, the largest first."""
        names = [checked_queue(query.queue)] if query.queue else await self.queue_names()
        counts = {name: await self._store.dead.count(name) for name in names}
        counts = {name: count for name, count in counts.items() if count}
        every = [
            DeadRow(queue=name, group=group)
            for name in counts
            for group in await self._store.dead.groups(name)
        ]
        rows = [row for row in every if _fits(row.group, query)]
        rows.sort(key=lambda row: (-row.group.jobs, -row.group.last_ms))
        shown = rows[: query.limit]
        rates = {name: await self.death_rates(name) for name in {row.queue for row in shown}}
        shown = [_with_rate(row, rates[row.queue].get(row.group.fingerprint)) for row in shown]
        return DeadPage(
            dead=sum(counts.values()),
            matched=sum(row.group.jobs for row in rows),
            queues=counts,
            types=sorted({row.group.type for row in every}),
            reasons=sorted({row.group.reason for row in every}),
            rows={f"{row.queue}/{row.group.fingerprint}": row for row in shown},
            order=[f"{row.queue}/{row.group.fingerprint}" for row in shown],
            more=len(rows) - len(shown),
            now_ms=await self._store.now_ms(),
        )

    async def dead_group(self, queue: str, fingerprint: str) -> DeadGroupPage:
        """
        Show one group of dead letters with some of its jobs.

        Raises:
            NotFound: No job of that group is dead, and no operation took one lately.
        """
        groups = await self._store.dead.groups(checked_queue(queue))
        group = next((each for each in groups if each.fingerprint == fingerprint), None)
        listed = (await self.operations(queue, limit=200)).operations
        done = [each for each in listed if each.record.filter.fingerprint == fingerprint]
        if group is None:
            if not done:
                raise NotFound(f"no dead letter of group {fingerprint} in queue {queue}")
            group = _gone(fingerprint)
        rates = await self.death_rates(queue)
        found, searched = await self._samples(queue, group)
        return DeadGroupPage(
            row=_with_rate(DeadRow(queue=queue, group=group), rates.get(fingerprint)),
            samples=[_sample(each) for each in found],
            operations=done[:5],
            searched=searched,
            now_ms=await self._store.now_ms(),
        )

    async def _samples(self, queue: str, group: DeadGroup) -> tuple[list[Found], int]:
        """Find some jobs of a group, the latest first, without looking at everything."""
        if not group.jobs:
            return [], 0
        wanted = DeadFilter(fingerprint=group.fingerprint)
        found: dict[str, Found] = {}
        searched = 0
        # Its latest death is known by its time, so a rare group in a long list is found as well;
        # what came back from an undone operation may lie behind it.
        for until in (str(group.last_ms), "+"):
            looked = 0
            async for part in self._store.dead.search(queue, wanted, until=until, newest=True):
                looked += part.searched
                found |= {each.entry: each for each in part.jobs}
                enough = SEARCHED_MAX // 4 if found else SEARCHED_MAX
                if len(found) >= SAMPLES_MAX or looked >= enough:
                    break
            searched += looked
            if found:
                break
        latest = sorted(found.values(), key=lambda each: each.at_ms, reverse=True)
        return latest[:SAMPLES_MAX], searched


def _gone(fingerprint: str) -> DeadGroup:
    return DeadGroup(
        fingerprint=fingerprint,
        jobs=0,
        first_ms=0,
        last_ms=0,
        type="",
        reason="",
        kind="",
        message="",
        sample="",
    )


def _fits(group: DeadGroup, query: GroupQuery) -> bool:
    message = group.message if query.quotes or group.reason != CHILD_FAILED else ""
    told = f"{group.type}\n{group.kind}\n{message}\n{group.sample}\n{group.fingerprint}"
    return (
        (not query.type or group.type == query.type)
        and (not query.reason or group.reason == query.reason)
        and (not query.from_ms or group.last_ms >= query.from_ms)
        and (not query.text or query.text.lower() in told.lower())
    )


def _with_rate(row: DeadRow, rate: DeathRate | None) -> DeadRow:
    if rate is None:
        return row
    return msgspec.structs.replace(row, hour=rate.hour, deaths=rate.deaths, step_ms=rate.step_ms)


def _sample(found: Found) -> DeadSample:
    record = found.record
    assert record is not None
    return DeadSample(
        id=found.id,
        entry=found.entry,
        at_ms=found.at_ms,
        lane=found.lane,
        attempts=record.attempts,
        redrives=record.redrives,
        error=record.error or ErrorRecord(kind=""),
        rule=record.rule,
        path=record.path,
        unable=found.unable(),
    )

"""Many dead letters: lists, and bringing back or dropping what fits a filter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from engine.clock import Clock
from engine.store.operator import Found, OperatorStore
from schemas.stats import BulkResult, DeadFilter
from schemas.story import JobPage, JobRow

BATCH_JOBS = 100
BATCH_BYTES = 2 * 1_048_576
"""Most that one script moves, so that no call keeps the server from others for long."""

STEPS_PER_S = 10
"""How often a limited rate moves jobs: smoothly, yet not one by one."""

LISTED_MAX = 25_000
"""Dead letters looked at for one list."""


class Action(msgspec.Struct, frozen=True):
    """What is done with dead letters; see :meth:`engine.admin.Admin.retry_dead`."""

    verb: Literal["retry", "discard"]
    dry_run: bool = False
    limit: int = 0
    rate: float = 0
    progress: Callable[[BulkResult], None] | None = None


class Bulk:
    """
    One action on the dead letters that fit a filter, in bounded batches.

    Attributes:
        result: How far it is.
    """

    def __init__(self, store: OperatorStore, clock: Clock, queue: str, action: Action) -> None:
        self._store = store
        self._clock = clock
        self._action = action
        self._began = clock.monotonic()
        self.result = BulkResult(action=action.verb, queue=queue, dry_run=action.dry_run)

    async def run(self, wanted: DeadFilter) -> BulkResult:
        """Do it, and return what was done."""
        # What dies from now on is left out, above all jobs that were just brought back.
        until = await self._store.dead.last(self.result.queue)
        if not until:
            return self.result
        async for part in self._store.dead.matching(self.result.queue, wanted, until=until):
            self._add(searched=part.searched)
            able, stopped = self._able(part.jobs)
            for batch in batches(able, jobs_max=self._step()):
                await self._apply(batch)
            self._tell()
            if stopped or self._left() == 0:
                at_end = not stopped and part.last == until
                self.result = msgspec.structs.replace(self.result, complete=at_end)
                break
        return self.result

    def _able(self, jobs: list[Found]) -> tuple[list[Found], bool]:
        """Pick the jobs that the action can take; tells whether its limit left some out."""
        able: list[Found] = []
        before = self.result.unable
        unable = Counter(before)
        stopped = False
        for found in jobs:
            if len(able) == self._left():
                stopped = True
                break
            why = found.unable() if self._action.verb == "retry" else ""
            if why:
                unable[why] += 1
            else:
                able.append(found)
        self.result = msgspec.structs.replace(self.result, unable=dict(unable))
        self._add(matched=len(able) + unable.total() - sum(before.values()))
        return able, stopped

    def _left(self) -> int:
        """How many more may be changed; -1 for any number."""
        if not self._action.limit:
            return -1
        return max(0, self._action.limit - self.result.changed)

    def _step(self) -> int:
        if not self._action.rate:
            return BATCH_JOBS
        return max(1, min(BATCH_JOBS, int(self._action.rate / STEPS_PER_S)))

    async def _apply(self, batch: list[Found]) -> None:
        if self._action.dry_run:
            self._add(changed=len(batch))
            return
        await self._keep_rate()
        if self._action.verb == "discard":
            dropped = await self._store.dead.discard(self.result.queue, batch)
            self._add(changed=dropped, gone=len(batch) - dropped)
        else:
            redriven = await self._store.dead.redrive(self.result.queue, batch)
            refused = len(redriven.refused)
            if refused:
                why = "its lane refused it"
                unable = self.result.unable | {why: self.result.unable.get(why, 0) + refused}
                self.result = msgspec.structs.replace(self.result, unable=unable)
            self._add(changed=redriven.moved, gone=len(batch) - redriven.moved - refused)
        self._tell()

    async def _keep_rate(self) -> None:
        if self._action.rate:
            due = self._began + self.result.changed / self._action.rate
            ahead = due - self._clock.monotonic()
            if ahead > 0:
                await self._clock.sleep(ahead)

    def _add(self, **counts: int) -> None:
        raised = {name: getattr(self.result, name) + count for name, count in counts.items()}
        self.result = msgspec.structs.replace(self.result, **raised)

    def _tell(self) -> None:
        if self._action.progress is not None:
            self._action.progress(self.result)


def batches(jobs: Sequence[Found], *, jobs_max: int) -> list[list[Found]]:
    """Part jobs into batches that one script may move."""
    parted: list[list[Found]] = []
    size = 0
    for found in jobs:
        size += found.size_bytes()
        if not parted or len(parted[-1]) == jobs_max or size > BATCH_BYTES:
            parted.append([])
            size = found.size_bytes()
        parted[-1].append(found)
    return parted


async def listing(
    store: OperatorStore, queue: str, wanted: DeadFilter, *, limit: int, newest: bool
) -> JobPage:
    """List dead letters that fit a filter, the newest or oldest first."""
    total = await store.dead.count(queue)
    rows: list[JobRow] = []
    searched = 0
    complete = True
    async for part in store.dead.matching(queue, wanted, until="+", newest=newest):
        searched += part.searched
        rows += [found.row() for found in part.jobs]
        if len(rows) > limit or searched >= LISTED_MAX:
            complete = len(rows) <= limit and searched >= total
            break
    return JobPage(
        queue=queue,
        state="dead",
        total=total,
        searched=searched,
        complete=complete,
        cursor="",
        jobs=rows[:limit],
    )

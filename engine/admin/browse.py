"""What the page looks at: a queue, pages of its jobs, one job, and a search over all queues."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Sequence

import msgspec

from engine.admin.base import checked_queue
from engine.admin.explain import Explainer
from engine.admin.health import queue_findings, state_of
from engine.admin.numbers import NumberVerbs
from engine.admin.queue_why import queue_why, room
from engine.admin.story import tell
from engine.core.lanes import STRICT
from engine.errors import EngineError, NotFound
from engine.store.operator import Budget, Found, Query, Sealed
from schemas.job import JobState
from schemas.looks import STATES, Hits, LaneLook, QueueLook, TypeLook
from schemas.numbers import Percentiles
from schemas.overview import StateWord
from schemas.rules import DATA_BYTES_MAX
from schemas.stats import EngineStats, HeldType, QueueStats
from schemas.story import JobPage, JobStory

SHOWN_BYTES_MAX = DATA_BYTES_MAX
"""A field that is larger is not taken apart for a page, which would hold up the engine's jobs."""

ENDED: frozenset[JobState] = frozenset({"done", "dead"})
"""States whose newest jobs come first; in the others, the next one to start does."""


class BrowseVerbs(NumberVerbs):
    """The verbs that look at queues and jobs; all are bounded by a budget or by a number."""

    async def now_ms(self) -> int:
        """Return the server's clock, Unix ms."""
        return await self._store.now_ms()

    async def known(self, queue: str) -> QueueStats:
        """
        Count what a queue holds.

        Raises:
            NotFound: Neither the app, nor an engine, nor the server knows it.
        """
        stats = await self.queue(queue)
        if not (queue in self._types or stats.engines or await self._store.queues.exists(queue)):
            raise NotFound(f"no queue {queue}: neither app nor engines nor the server know it")
        return stats

    async def jobs(
        self, queue: str, state: JobState, query: Query, *, budget: Budget | None = None
    ) -> JobPage:
        """
        List the jobs of one state.

        Args:
            queue: The queue.
            state: The state.
            query: Which jobs.
            budget: How long to search; the page then says where the next one begins.

        Raises:
            EngineError: The query's cursor is none of this list.
            NotFound: Neither the app, nor an engine, nor the server knows the queue.
        """
        stats = await self.known(queue)
        types = [held.type for held in stats.held]
        page = await self._store.jobs.browse(queue, state, query, types=types, budget=budget)
        return JobPage(
            queue=queue,
            state=state,
            total=counts(stats)[state],
            searched=page.searched,
            complete=not page.cursor,
            cursor=page.cursor,
            jobs=[found.row() for found in page.jobs],
        )

    async def look(self, queue: str, *, backlog_age_ms_max: int) -> QueueLook:
        """
        Tell how one queue is.

        Args:
            queue: The queue.
            backlog_age_ms_max: Age of the oldest waiting job that is still well.

        Raises:
            NotFound: Nobody knows the queue.
        """
        stats = await self.known(queue)
        engines = await self.engines()
        now_ms = await self._store.now_ms()
        findings = queue_findings(stats, must=True, backlog_age_ms_max=backlog_age_ms_max)
        _, kind, word = state_of(queue, findings)
        serving = [each for each in engines if each.live and queue in each.beat.queues]
        slots, running = room(stats, serving)
        pace = (await self.glance([stats]))[queue]
        times = await self.percentiles(queue)
        return QueueLook(
            stats=stats,
            # Late is not lost, so it has the sign of warnings, as in the overview.
            state=msgspec.convert(
                {"kind": "warn" if word == "behind" else kind, "word": word}, StateWord
            ),
            why=queue_why(stats, engines, now_ms),
            lanes=_lanes(stats, serving, times),
            types=_types(stats, serving, self._types.get(queue, ()), times),
            states=counts(stats),
            engines=stats.engines,
            slots=slots,
            running=running,
            rate=pace.rate,
            empty_in_ms=pace.empty_in_ms,
            empty=pace.empty,
            now_ms=now_ms,
        )

    async def story(
        self, queue: str, job_id: str, *, hint: str = "", budget: Budget | None = None
    ) -> tuple[JobStory, int]:
        """
        Tell one job's whole story, with the server's time.

        Args:
            queue: Its queue.
            job_id: Its id, or a dead letter's entry id.
            hint: Where it was seen, as a list's row says it.
            budget: How long to look for it elsewhere.

        Raises:
            NotFound: It was not found.
        """
        stats = await self.known(queue)
        types = [held.type for held in stats.held]
        page = await self._store.jobs.find(queue, job_id, types=types, hint=hint, budget=budget)
        if not page.jobs:
            extent = "; " if not page.cursor else f" among the {page.searched} jobs looked at; "
            raise NotFound(
                f"no job {job_id} in queue {queue}{extent}finished jobs are kept for a limited time"
            )
        now_ms = await self._store.now_ms()
        explainer = Explainer(await self.engines(), now_ms)
        told = await tell(self._store, page.jobs[0], stats, explainer, bytes_max=SHOWN_BYTES_MAX)
        return told, now_ms

    async def search(
        self,
        text: str,
        *,
        budget: Budget,
        queue: str = "",
        cursor: str = "",
        limit: int = 50,
        sealed: Sealed = Sealed(),  # noqa: B008 - frozen
    ) -> Hits:
        """
        Look for jobs by id or by text within them, part by part.

        Args:
            text: The id, or what stands within the job or its error.
            budget: How long this part may take.
            queue: The only queue to look in.
            cursor: Where an earlier part ended.
            limit: Most jobs to return.
            sealed: Where the text is not looked for.

        Raises:
            EngineError: There is no text, or the cursor is none that an earlier part gave.
        """
        if not text:
            raise EngineError("say what to look for: an id, or text within a job or its error")
        all_stats = [await self.known(queue)] if queue else await self.queues()
        hits = Hits(text=text, searched=0, complete=False, cursor="", total=_total(all_stats))
        jobs = [] if cursor else await self._by_id(all_stats, text)
        searched = 0
        for state, stats, inner in _steps(all_stats, cursor):
            if searched and (budget.over() or len(jobs) >= limit):
                return _part(hits, jobs, searched, (state, stats.queue, inner))
            query = Query(
                text=text,
                sealed=sealed,
                newest=state in ENDED,
                limit=max(1, limit - len(jobs)),
                cursor=inner,
            )
            types = [held.type for held in stats.held]
            page = await self._store.jobs.browse(
                stats.queue, state, query, types=types, budget=budget
            )
            known = {(found.queue, found.hint, found.id) for found in jobs}
            jobs += [each for each in page.jobs if (each.queue, each.hint, each.id) not in known]
            searched += page.searched
            if page.cursor:
                return _part(hits, jobs, searched, (state, stats.queue, page.cursor))
        return msgspec.structs.replace(
            hits, searched=searched, complete=True, jobs=[found.row() for found in jobs]
        )

    async def _by_id(self, all_stats: Sequence[QueueStats], text: str) -> list[Found]:
        """Look where an id points by itself."""
        found = [await self._store.jobs.direct(each.queue, text) for each in all_stats]
        return [each for each in found if each is not None]


def counts(stats: QueueStats) -> dict[JobState, int]:
    """Count the jobs of each state, as the lists of jobs have them."""
    parked = stats.gates.parked if stats.gates else 0
    return {
        "waiting": stats.waiting - parked,
        "parked": parked,
        "active": stats.active,
        "delayed": stats.delayed,
        "held": sum(held.jobs for held in stats.held),
        "waiting-children": stats.flows,
        "done": stats.done_kept,
        "dead": stats.dead,
    }


def _total(all_stats: Sequence[QueueStats]) -> int:
    return sum(sum(counts(stats).values()) for stats in all_stats)


def _steps(
    all_stats: Sequence[QueueStats], cursor: str
) -> Iterator[tuple[JobState, QueueStats, str]]:
    """List what is to be searched, from a cursor on."""
    at_state, at_queue, inner = _read_cursor(cursor)
    begin = STATES.index(at_state) if at_state else 0
    for state in STATES[begin:]:
        for stats in sorted(all_stats, key=lambda each: each.queue):
            if state == at_state and stats.queue < at_queue:
                continue
            goes_on = state == at_state and stats.queue == at_queue
            yield state, stats, inner if goes_on else ""


def _read_cursor(cursor: str) -> tuple[JobState | None, str, str]:
    if not cursor:
        return None, "", ""
    try:
        told = base64.urlsafe_b64decode(cursor).decode()
        state, queue, inner = msgspec.json.decode(told, type=tuple[JobState, str, str])
    except (binascii.Error, ValueError, msgspec.MsgspecError):
        raise EngineError(f"{cursor!r} is no cursor of this search") from None
    checked_queue(queue)
    return state, queue, inner


def _part(hits: Hits, jobs: Sequence[Found], searched: int, at: tuple[JobState, str, str]) -> Hits:
    return msgspec.structs.replace(
        hits,
        searched=searched,
        cursor=base64.urlsafe_b64encode(msgspec.json.encode(at)).decode(),
        at=f"{at[0]} jobs of {at[1]}",
        jobs=[found.row() for found in jobs],
    )


def _lanes(stats: QueueStats, serving: Sequence[EngineStats], times: Percentiles) -> list[LaneLook]:
    weights = next((each.beat.weights for each in serving if each.beat.weights), {})
    return [
        LaneLook(
            name=name,
            waiting=lane.waiting,
            active=lane.active,
            parked=lane.parked,
            oldest_ms=lane.oldest_ms,
            weight=None if name == STRICT else weights.get(name),
            wait=times.waits.get(name),
        )
        for name, lane in stats.lanes.items()
    ]


def _types(
    stats: QueueStats,
    serving: Sequence[EngineStats],
    declared: Sequence[str],
    times: Percentiles,
) -> list[TypeLook]:
    held = {each.type: each for each in stats.held}
    served = [name for each in serving for name in each.beat.queues[stats.queue].types]
    counted = {name for outcomes in stats.totals.values() for name in outcomes}
    names = sorted({*held, *served, *declared, *counted})
    totals = stats.totals
    found = []
    for name in names:
        hour = times.types.get(name)
        hold = held.get(name) or HeldType(type=name, jobs=0, held=False)
        found.append(
            TypeLook(
                type=name,
                done=totals.get("done", {}).get(name, 0),
                retried=totals.get("retried", {}).get(name, 0),
                dead=totals.get("dead", {}).get(name, 0),
                done_hour=hour.done if hour else 0,
                dead_hour=hour.dead if hour else 0,
                failing=hour.failing if hour else None,
                run=hour.run if hour and hour.run.count else None,
                held=hold.held,
                held_jobs=hold.jobs,
                held_reason=hold.reason,
                held_by=hold.by,
                held_since_ms=hold.since_ms,
                engines=served.count(name),
            )
        )
    return found

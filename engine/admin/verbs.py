"""One class with every verb, so that each door to the engine offers the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from engine.admin import bulk, health
from engine.admin.analysis import analyse, survey
from engine.admin.audits import AuditVerbs
from engine.admin.base import checked_queue
from engine.admin.browse import BrowseVerbs
from engine.admin.dead_groups import DeadGroupVerbs
from engine.admin.dead_jobs import DeadJobVerbs
from engine.admin.engines import EngineVerbs
from engine.admin.explain import Explainer
from engine.admin.gates import GateVerbs
from engine.admin.pressure import BoundsVerbs
from engine.admin.schedules import ScheduleVerbs
from engine.admin.sessions import SessionVerbs
from engine.admin.story import tell
from engine.errors import EngineError, NotFound
from schemas.rules import TYPE_NAME
from schemas.stats import (
    Audited,
    BulkResult,
    Change,
    DeadAnalysis,
    DeadFilter,
    DeadGroup,
    Health,
    PausedBy,
    Server,
)
from schemas.story import JobPage, JobSearch, JobStory

CONCURRENCY_MAX = 10_000


class Admin(
    DeadJobVerbs,
    BrowseVerbs,
    EngineVerbs,
    GateVerbs,
    ScheduleVerbs,
    BoundsVerbs,
    SessionVerbs,
    AuditVerbs,
    DeadGroupVerbs,
):
    """
    Looks at queues and changes what operators may change.

    Use it as an async context manager. Every verb may raise
    :class:`~engine.errors.StoreError`, and :class:`~engine.errors.EngineError` for a queue or
    type whose name breaks the rules.

    Args:
        redis_url: Where the queues live.
        who: Who acts, for the audit stream: ``user@host``.
        types: Job types by queue, as far as the app is known.
        clock: Paces bulk actions.
    """

    async def job(
        self, job_id: str, *, queue: str = "", every: bool = False, search_max: int = 100_000
    ) -> JobSearch:
        """
        Find a job by its id, wherever it is, with its whole story.

        Args:
            job_id: Its id, or a dead letter's entry id.
            queue: The only queue to look in; empty for all known ones.
            every: Find all jobs of this id, not just the first.
            search_max: Most entries of one state to look at.

        Raises:
            NotFound: There is none.
        """
        stats = await self.queues([queue] if queue else ())
        engines = await self.engines()
        explainer = Explainer(engines, await self._store.now_ms())
        search = JobSearch(id=job_id, searched=0, complete=True, found=[])
        for each in stats:
            page = await self._store.jobs.find(
                each.queue,
                job_id,
                types=[held.type for held in each.held],
                search_max=search_max,
                every=every,
            )
            found = [await tell(self._store, job, each, explainer) for job in page.jobs]
            search = msgspec.structs.replace(
                search,
                searched=search.searched + page.searched,
                complete=search.complete and not page.cursor,
                found=[*search.found, *found],
            )
            if found and not every:
                return search
        if not search.found:
            raise NotFound(_nowhere(search, [each.queue for each in stats]))
        return search

    async def dead_show(self, queue: str, job_id: str) -> JobStory:
        """
        Tell one dead letter's whole story.

        Args:
            queue: The queue.
            job_id: The job's id or the dead letter's entry id.

        Raises:
            NotFound: There is none.
        """
        stats = await self.queue(queue)
        async for part in self._store.dead.matching(queue, DeadFilter(ids=(job_id,)), newest=True):
            for found in part.jobs:
                explainer = Explainer(await self.engines(), await self._store.now_ms())
                return await tell(self._store, found, stats, explainer)
        raise NotFound(f"no dead letter {job_id} in queue {queue}, which has {stats.dead}")

    async def dead_groups(self, queue: str) -> list[DeadGroup]:
        """List the groups of a queue's dead letters, the largest first."""
        return await self._store.dead.groups(checked_queue(queue))

    async def dead_analysis(
        self,
        queue: str,
        wanted: DeadFilter | None = None,
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> DeadAnalysis:
        """
        Say what a queue's dead letters are made of.

        Args:
            queue: The queue.
            wanted: Which; they are read one by one then, in bounded memory. If left out, the
                counts that settlements keep are summed up, which takes a moment at any number.
            progress: Told how many were looked at, of how many at most.
        """
        if wanted is not None:
            return await survey(self._store, checked_queue(queue), wanted, progress)
        groups = await self.dead_groups(queue)
        dead = await self._store.dead.count(queue)
        return analyse(queue, groups, dead, matched=dead)

    async def dead_list(
        self, queue: str, wanted: DeadFilter, *, limit: int = 50, newest: bool = True
    ) -> JobPage:
        """List dead letters that fit a filter."""
        return await bulk.listing(
            self._store, checked_queue(queue), wanted, limit=limit, newest=newest
        )

    async def retry_dead(
        self,
        queue: str,
        wanted: DeadFilter,
        *,
        dry_run: bool = False,
        limit: int = 0,
        rate: float = 0,
        progress: Callable[[BulkResult], None] | None = None,
        reason: str = "",
    ) -> BulkResult:
        """
        Bring dead letters back to their lanes, as if they were enqueued now.

        Args:
            queue: The queue.
            wanted: Which; what dies after the call is left out.
            dry_run: Change nothing, say what would be done.
            limit: Most to bring back; 0 for all.
            rate: Most per second; 0 for as fast as it goes.
            progress: Told how far it is, after each step.
            reason: Why, for the audit stream.
        """
        action = bulk.Action("retry", dry_run=dry_run, limit=limit, rate=rate, progress=progress)
        return await self._bulk(queue, wanted, action, reason)

    async def discard_dead(
        self,
        queue: str,
        wanted: DeadFilter,
        *,
        dry_run: bool = False,
        limit: int = 0,
        rate: float = 0,
        progress: Callable[[BulkResult], None] | None = None,
        reason: str = "",
    ) -> BulkResult:
        """Drop dead letters for good; the arguments are those of :meth:`retry_dead`."""
        action = bulk.Action("discard", dry_run=dry_run, limit=limit, rate=rate, progress=progress)
        return await self._bulk(queue, wanted, action, reason)

    async def pause(self, queue: str, *, reason: str = "") -> Change:
        """Start nothing new in a queue, on all engines, within a second."""
        now_ms = await self._store.now_ms()
        by = msgspec.json.encode(PausedBy(who=self._who, reason=reason, at_ms=now_ms)).decode()
        fields = {"paused": "1", "paused_by": by}
        before = await self._store.control.set(checked_queue(queue), fields, keep="1")
        return await self._changed(queue, "pause", before, "1", reason=reason)

    async def resume(self, queue: str, *, reason: str = "") -> Change:
        """Undo :meth:`pause`."""
        fields = {"paused": "", "paused_by": ""}
        before = await self._store.control.set(checked_queue(queue), fields)
        return await self._changed(queue, "resume", before, "", reason=reason)

    async def concurrency(self, queue: str, jobs: int | None, *, reason: str = "") -> Change:
        """Set how many jobs of a queue each engine runs at a time; None for its own setting."""
        if jobs is not None and not 1 <= jobs <= CONCURRENCY_MAX:
            raise EngineError(f"concurrency must be 1 to {CONCURRENCY_MAX}, not {jobs}")
        after = "" if jobs is None else str(jobs)
        before = await self._store.control.set(checked_queue(queue), {"concurrency": after})
        return await self._changed(queue, "concurrency", before, after, reason=reason)

    async def hold(self, queue: str, job_type: str, *, reason: str) -> Change:
        """Set the jobs of one type aside until it is released; keeps an earlier hold."""
        _type(job_type)
        now_ms = await self._store.now_ms()
        hold = {"reason": reason, "since_ms": now_ms, "by": self._who}
        fields = {f"hold:{job_type}": msgspec.json.encode(hold).decode()}
        before = await self._store.control.set(checked_queue(queue), fields, keep="*")
        return await self._changed(queue, "hold", before, job_type, of=job_type, reason=reason)

    async def release(self, queue: str, job_type: str, *, reason: str = "") -> Change:
        """End the hold of one type; engines then move its jobs back to their lanes."""
        _type(job_type)
        before = await self._store.control.set(checked_queue(queue), {f"hold:{job_type}": ""})
        return await self._changed(queue, "release", before, "", of=job_type, reason=reason)

    async def health(self, queues: Sequence[str], *, backlog_age_ms_max: int) -> Health:
        """
        Look for anything that needs an operator; never raises for the server's faults.

        Args:
            queues: Queues that must be served; those of running engines are looked at too.
            backlog_age_ms_max: Age of the oldest waiting job that is still well.
        """
        return await health.check(
            self._store, [*map(checked_queue, queues)], backlog_age_ms_max=backlog_age_ms_max
        )

    async def server(self) -> Server:
        """Ask the server how it is."""
        return await self._store.queues.server()

    async def audit(self, count: int = 50) -> list[Audited]:
        """List the latest changes that people made."""
        return await self._store.audit.latest(count)

    async def _bulk(
        self, queue: str, wanted: DeadFilter, action: bulk.Action, reason: str
    ) -> BulkResult:
        checked_queue(queue)
        runner = bulk.Bulk(self._store, self._clock, queue, action)
        try:
            return await runner.run(wanted)
        finally:
            if runner.result.changed and not action.dry_run:
                # Also when it was ended half-way: what has been done is recorded.
                await self._record(
                    queue,
                    f"dead-{action.verb}",
                    {"filter": msgspec.to_builtins(wanted), "jobs": runner.result.changed},
                    reason,
                )

    async def _changed(
        self, queue: str, what: str, before: str, after: str, *, of: str = "", reason: str
    ) -> Change:
        same = bool(before) if what == "hold" else before == after
        if not same:
            detail = {"before": before, "after": after} | ({"type": of} if of else {})
            await self._record(queue, what, detail, reason)
        return Change(queue=queue, what=what, changed=not same, before=before, after=after)


def _type(name: str) -> None:
    if not TYPE_NAME.fullmatch(name):
        raise EngineError(f"job type {name!r} must match {TYPE_NAME.pattern}")


def _nowhere(search: JobSearch, queues: Sequence[str]) -> str:
    if not queues:
        return f"job {search.id}: no queue is known; name one with --queue"
    extent = "" if search.complete else f" within the {search.searched} entries looked at"
    return (
        f"no job {search.id} in {', '.join(queues)}{extent}; "
        "finished jobs are kept for a limited time"
    )

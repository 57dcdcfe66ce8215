"""
All queues at once: creating many jobs, health, and what became of failed ones.

What the engine knows of one queue is put together here over all of them, with the database and the
outbox beside it.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from typing import Final

import msgspec

from engine import (
    Client,
    Clock,
    Enqueued,
    EnqueueStopped,
    EnqueueUnsure,
    JobRefused,
    NewJob,
    QueueFull,
    Refusal,
    Shed,
)
from engine.admin import Admin
from processors.database.pool import Database
from processors.rules.failures import RETRYABLE, bulk_id, is_permanent
from processors.services.queue_health import Limits, check
from schemas.queues import (
    BackEndHealth,
    BulkItem,
    BulkStatus,
    FailedAnalysis,
    FailedGroup,
    RetryReport,
)
from schemas.stats import BulkResult, DeadFilter

CHUNK: Final = 500
SAMPLES: Final = 3
SAMPLED_GROUPS: Final = 20

BulkProgress = Callable[[BulkItem], None]
RetryProgress = Callable[[int], None]


class QueueIntegrationService:
    """
    Works on all queues of messaging.

    Args:
        client: Enqueues; it knows the app's registry.
        admin: Looks and acts, and is named in the audit stream.
        database: The database; None where none is set.
        clock: Measures how long servers take.
    """

    def __init__(
        self, client: Client, admin: Admin, database: Database | None, *, clock: Clock
    ) -> None:
        self._client = client
        self._admin = admin
        self._database = database
        self._clock = clock

    async def bulk_create(
        self,
        jobs: Iterable[NewJob],
        *,
        name: str = "",
        on_progress: BulkProgress | None = None,
    ) -> list[BulkItem]:
        """
        Enqueue many jobs, and return what became of each, in order.

        One that fails stops no other. Jobs without an id get one that follows from the bulk's name,
        their place and their content, so the same bulk again is folded as far as engines remember.

        Args:
            jobs: The jobs.
            name: What tells this bulk from one with the same jobs.
            on_progress: Told of each result.
        """
        items: list[BulkItem] = []
        async with contextlib.aclosing(self.bulk_each(jobs, name=name)) as results:
            async for item in results:
                items.append(item)
                if on_progress is not None:
                    on_progress(item)
        return items

    async def bulk_each(
        self, jobs: Iterable[NewJob], *, name: str = ""
    ) -> AsyncGenerator[BulkItem, None]:
        """Do as :meth:`bulk_create`, in bounded memory: yield each result."""
        numbered = enumerate(jobs)
        stopped = ""
        while chunk := list(itertools.islice(numbered, CHUNK)):
            named = [(index, _named(job, name, index)) for index, job in chunk]
            done = 0
            if not stopped:
                sending = self._client.enqueue_each([job for _, job in named])
                try:
                    async with contextlib.aclosing(sending) as results:
                        async for result in results:
                            index, job = named[done]
                            done += 1
                            yield _item(index, job, result)
                except EnqueueStopped as error:
                    stopped = str(error.__cause__ or error)
            for index, job in named[done:]:
                assert job.id is not None
                yield BulkItem(index=index, id=job.id, status="unsent", error=stopped)

    async def health(self, limits: Limits | None = None) -> BackEndHealth:
        """Look at both servers, all queues, the engines and the outbox; never raises for them."""
        return await check(self._admin, self._database, self._clock, limits or Limits())

    async def analyse_failed(self, queues: Sequence[str] = ()) -> FailedAnalysis:
        """
        Say what failed jobs have in common, with samples of the largest groups.

        Args:
            queues: Which; empty for all.

        Raises:
            StoreError: The server did not answer.
        """
        groups: list[FailedGroup] = []
        by_queue: Counter[str] = Counter()
        for stats in await self._admin.queues(queues):
            for group in await self._admin.dead_groups(stats.queue):
                told = msgspec.structs.asdict(group)
                told |= {"samples": [told.pop("sample")], "permanent": is_permanent(group.reason)}
                groups.append(FailedGroup(queue=stats.queue, **told))
            by_queue[stats.queue] = stats.dead
        groups.sort(key=lambda group: -group.jobs)
        for place, largest in enumerate(groups[:SAMPLED_GROUPS]):
            groups[place] = await self._sampled(largest)
        return _analysis(groups, by_queue)

    async def retry_failed(
        self,
        wanted: DeadFilter | None = None,
        *,
        queues: Sequence[str] = (),
        dry_run: bool = False,
        force: bool = False,
        limit: int = 0,
        rate: float = 0,
        reason: str = "",
        on_progress: RetryProgress | None = None,
    ) -> RetryReport:
        """
        Bring failed jobs back to their lanes, as if they were enqueued now.

        Jobs that would only die again (refused, malformed, expired, crashing) are left, unless
        forced. What dies after the call is left out. Every queue that was changed has a line in
        the audit stream.

        Args:
            wanted: Which; left out, all.
            queues: Of which queues; empty for all.
            dry_run: Change nothing, say what would be done.
            force: Also those that would only die again.
            limit: Most to bring back; 0 for all.
            rate: Most per second; 0 for as fast as it goes.
            reason: Why, for the audit stream.
            on_progress: Told how many came back so far.

        Raises:
            StoreError: The server did not answer; what was done until then stays.
        """
        chosen = wanted or DeadFilter()
        if not chosen.before_ms:
            # One that comes back and dies for another reason must not come back twice.
            chosen = msgspec.structs.replace(chosen, before_ms=(await self._now_ms()) + 1)
        run = _Run(self._admin, dry_run=dry_run, limit=limit, rate=rate, reason=reason)
        run.on_progress = on_progress
        for stats in await self._admin.queues(queues):
            if stats.dead:
                await run.queue(stats.queue, chosen, force=force)
        return run.report()

    async def _now_ms(self) -> int:
        return (await self._admin.server()).time_ms

    async def _sampled(self, group: FailedGroup) -> FailedGroup:
        wanted = DeadFilter(fingerprint=group.fingerprint)
        page = await self._admin.dead_list(group.queue, wanted, limit=SAMPLES)
        samples = [row.id for row in page.jobs] or group.samples
        return msgspec.structs.replace(group, samples=samples)


class _Run:
    """One retry over several queues; a queue is gone through once for each reason."""

    def __init__(
        self, admin: Admin, *, dry_run: bool, limit: int, rate: float, reason: str
    ) -> None:
        self._admin = admin
        self._dry_run = dry_run
        self._limit = limit
        self._rate = rate
        self._reason = reason
        self._results: dict[str, BulkResult] = {}
        self._skipped = 0
        self.on_progress: RetryProgress | None = None

    async def queue(self, queue: str, wanted: DeadFilter, *, force: bool) -> None:
        """Bring back what may come back of one queue."""
        reasons = [wanted.reason] if wanted.reason or force else list(RETRYABLE)
        if not force:
            await self._skip(queue, wanted, reasons)
            reasons = [reason for reason in reasons if not is_permanent(reason)]
        for reason in reasons:
            await self._pass(queue, msgspec.structs.replace(wanted, reason=reason))

    async def _skip(self, queue: str, wanted: DeadFilter, reasons: Sequence[str]) -> None:
        """Count what is left out."""
        every = await self._admin.retry_dead(queue, wanted, dry_run=True)
        able = 0
        for reason in reasons:
            if not is_permanent(reason):
                one = msgspec.structs.replace(wanted, reason=reason)
                able += (await self._admin.retry_dead(queue, one, dry_run=True)).matched
        self._skipped += max(0, every.matched - able)

    async def _pass(self, queue: str, wanted: DeadFilter) -> None:
        before = self._retried()
        left = self._limit - before if self._limit else 0
        if self._limit and left <= 0:
            self._add(queue, BulkResult(action="retry", queue=queue, dry_run=self._dry_run,
                                        complete=False))  # fmt: skip
            return

        def told(result: BulkResult) -> None:
            if self.on_progress is not None:
                self.on_progress(before + result.changed)

        result = await self._admin.retry_dead(
            queue,
            wanted,
            dry_run=self._dry_run,
            limit=left,
            rate=self._rate,
            progress=told,
            reason=self._reason,
        )
        self._add(queue, result)

    def _add(self, queue: str, result: BulkResult) -> None:
        known = self._results.get(queue)
        if known is None:
            self._results[queue] = result
            return
        self._results[queue] = msgspec.structs.replace(
            known,
            matched=known.matched + result.matched,
            changed=known.changed + result.changed,
            gone=known.gone + result.gone,
            unable=dict(Counter(known.unable) + Counter(result.unable)),
            searched=known.searched + result.searched,
            complete=known.complete and result.complete,
        )

    def _retried(self) -> int:
        return sum(result.changed for result in self._results.values())

    def report(self) -> RetryReport:
        """Sum the queues up."""
        results = list(self._results.values())
        unable: Counter[str] = Counter()
        for result in results:
            unable.update(result.unable)
        return RetryReport(
            dry_run=self._dry_run,
            retried=self._retried(),
            skipped_permanent=self._skipped,
            unable=dict(unable),
            gone=sum(result.gone for result in results),
            complete=all(result.complete for result in results),
            queues=results,
        )


def _named(job: NewJob, name: str, index: int) -> NewJob:
    if job.id is not None:
        return job
    own_id = bulk_id(name, index, str(job.type), job.payload)
    return msgspec.structs.replace(job, id=own_id)


def _item(index: int, job: NewJob, result: Enqueued | Shed | Refusal) -> BulkItem:
    status: BulkStatus
    error = ""
    match result:
        case Enqueued(duplicate_of=other):
            status = "duplicate" if other else "accepted"
        case Shed(why=why):
            status, error = "shed", why
        case Refusal(error=JobRefused() as refused):
            status, error = "refused", str(refused)
        case Refusal(error=QueueFull() as full):
            status, error = "full", str(full)
        case Refusal(error=EnqueueUnsure() as unsure):
            status, error = "unsure", str(unsure)
        case Refusal(error=other_error):
            status, error = "unsent", str(other_error)
    return BulkItem(index=index, id=str(job.id), status=status, error=error)


def _analysis(groups: list[FailedGroup], by_queue: Counter[str]) -> FailedAnalysis:
    by_type: Counter[str] = Counter()
    by_reason: Counter[str] = Counter()
    for group in groups:
        by_type[group.type or "other"] += group.jobs
        by_reason[group.reason or "other"] += group.jobs
    return FailedAnalysis(
        dead=by_queue.total(),
        permanent=sum(group.jobs for group in groups if group.permanent),
        groups=groups,
        by_queue={queue: dead for queue, dead in by_queue.most_common() if dead},
        by_type=dict(by_type.most_common()),
        by_reason=dict(by_reason.most_common()),
    )

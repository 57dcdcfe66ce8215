"""What the queue services of messaging answer, and what their commands print as JSON."""

from __future__ import annotations

from typing import Literal

from schemas.stats import BulkResult, EngineStats, Finding, View

BulkStatus = Literal["accepted", "duplicate", "shed", "refused", "full", "unsent", "unsure"]


class BulkItem(View, frozen=True, kw_only=True):
    """
    What became of one job of a bulk.

    Attributes:
        index: Its place, from 0.
        id: The job's id, the same whenever the same bulk is created.
        status: ``accepted``, or ``duplicate`` of one that is under way; ``refused`` by a rule;
            ``full`` or ``shed``: its queue has no room; ``unsent``: the server was given up;
            ``unsure``: no reply came, so it may have been accepted or not.
        error: Why it was not accepted.
    """

    index: int
    id: str
    status: BulkStatus
    error: str = ""


class QueueLook(View, frozen=True, kw_only=True):
    """
    One queue in a health check.

    Attributes:
        queue: Its name.
        state: The worst that was found, in a word; ``well`` for nothing.
        waiting: Jobs that wait.
        active: Jobs that engines have.
        delayed: Jobs that wait for their time.
        stalled: Jobs that do not move: due and not promoted, or held by no live engine.
        oldest_ms: Age of the oldest waiting job.
        dead: Dead letters.
        dead_recent: Those of the last five minutes.
        engines: Live engines that serve it.
        paused: Nothing new is started.
    """

    queue: str
    state: str
    waiting: int
    active: int
    delayed: int
    stalled: int
    oldest_ms: int
    dead: int
    dead_recent: int
    engines: int
    paused: bool


class OutboxLook(View, frozen=True, kw_only=True):
    """
    What waits in the outbox; rows are counted up to 10,000 of a kind.

    Attributes:
        events: Events that wait to be published.
        events_oldest_ms: Age of the oldest.
        jobs: Jobs that wait to be enqueued.
        jobs_oldest_ms: Age of the oldest.
        set_aside: Rows that are no jobs.
    """

    events: int
    events_oldest_ms: int
    jobs: int
    jobs_oldest_ms: int
    set_aside: int


class BackEndHealth(View, frozen=True, kw_only=True):
    """
    How the back end is.

    Attributes:
        healthy: No finding is an error.
        redis_ms: How long the queues' server took to answer; None where it did not.
        postgres_ms: The same of the database; None also where none is set.
        queues: Every queue of the app and of running engines.
        engines: Engines heard of within the last minute.
        outbox: The outbox; None where the database did not answer.
        findings: What is wrong and what to do, errors first.
    """

    healthy: bool
    redis_ms: float | None
    postgres_ms: float | None
    queues: list[QueueLook]
    engines: list[EngineStats]
    outbox: OutboxLook | None
    findings: list[Finding]


class FailedGroup(View, frozen=True, kw_only=True):
    """
    Dead jobs that have queue, type, reason and error in common.

    Attributes:
        queue: Their queue.
        fingerprint: The group's name.
        jobs: How many.
        first_ms: The first death.
        last_ms: The latest death.
        type: Their type.
        reason: Their reason.
        kind: The error's class.
        message: The first one's error.
        samples: Ids of some of them, the latest first.
        permanent: Trying them again changes nothing, unless their cause was mended.
    """

    queue: str
    fingerprint: str
    jobs: int
    first_ms: int
    last_ms: int
    type: str
    reason: str
    kind: str
    message: str
    samples: list[str]
    permanent: bool


class FailedAnalysis(View, frozen=True, kw_only=True):
    """
    What failed, over all queues.

    Attributes:
        dead: Dead jobs in all.
        permanent: Those that trying again does not help.
        groups: The groups, largest first.
        by_queue: Dead jobs per queue.
        by_type: Dead jobs per type.
        by_reason: Dead jobs per reason.
    """

    dead: int
    permanent: int
    groups: list[FailedGroup]
    by_queue: dict[str, int]
    by_type: dict[str, int]
    by_reason: dict[str, int]


class RetryReport(View, frozen=True, kw_only=True):
    """
    What a retry of failed jobs did, or would do.

    Attributes:
        dry_run: Nothing was changed.
        retried: Jobs that were brought back.
        skipped_permanent: Jobs that were left, since trying them again changes nothing.
        unable: Jobs that cannot be brought back, by why.
        gone: Jobs that somebody else had taken meanwhile.
        complete: False where a limit ended it.
        queues: The same by queue.
    """

    dry_run: bool
    retried: int
    skipped_permanent: int
    unable: dict[str, int]
    gone: int
    complete: bool
    queues: list[BulkResult]

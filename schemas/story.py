"""One job as operators see it, in a list or with its whole story."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from schemas.job import ErrorRecord, JobState
from schemas.stats import View


class JobRow(View, frozen=True, kw_only=True):
    """
    One job in a list.

    Attributes:
        id: The job's id.
        type: Its type; ``other`` where the entry does not name one.
        queue: Its queue.
        lane: Its lane.
        state: Where it is.
        entry: The stream entry that holds it; empty for delayed jobs.
        at_ms: Unix ms of what the state is about: came into its lane (waiting, parked, held), last
            sign of life (active), due (delayed), ended (done, dead).
        enqueued_ms: Unix ms of the producer's XADD; 0 where that was not kept.
        attempts: Attempts spent.
        size_bytes: Size of its fields.
        note: What distinguishes it: why it waits, why it is dead, who runs it.
        error: The last error.
        fingerprint: The group of its death.
        run_ms: How long its last attempt ran, for done jobs.
        hint: Where it lies, for those who ask for it again; opaque.
    """

    id: str
    type: str
    queue: str
    lane: str
    state: JobState
    entry: str
    at_ms: int
    enqueued_ms: int
    attempts: int
    size_bytes: int
    note: str = ""
    error: str = ""
    fingerprint: str = ""
    run_ms: float | None = None
    hint: str = ""


class JobPage(View, frozen=True, kw_only=True):
    """
    Part of a list of jobs.

    Attributes:
        queue: The queue.
        state: The state.
        total: Jobs in that state, whatever the filter; for done, those still kept.
        searched: Jobs looked at for this page.
        complete: The list was searched to its end.
        cursor: Where the next page begins; empty at the end.
        jobs: The jobs.
    """

    queue: str
    state: JobState
    total: int
    searched: int
    complete: bool
    cursor: str
    jobs: list[JobRow]


class RawField(View, frozen=True, kw_only=True):
    """
    One field of a job's entry, as it was written.

    Attributes:
        name: Its name.
        value: Its value.
        encoding: ``utf-8``, or ``base64`` for bytes that are not text.
        cut: How many bytes the value has, where that is too much to be shown; 0 where it is here.
    """

    name: str
    value: str
    encoding: Literal["utf-8", "base64"] = "utf-8"
    cut: int = 0


class Attempt(View, frozen=True, kw_only=True):
    """One finished attempt; see :class:`schemas.job.AttemptRecord`."""

    number: int
    at_ms: int
    run_ms: int
    engine: str
    outcome: str
    error: ErrorRecord | None = None


class Burial(View, frozen=True, kw_only=True):
    """
    What the engine wrote down about a death.

    Attributes:
        reason: Why.
        rule: The rule of the wire that was broken, if malformed.
        path: Where in the payload.
        error: The last error.
        died_ms: When.
        fingerprint: Its group.
        cut: Bytes of the entry that were not kept.
        sha256: The hash of what was cut.
        unable: Why it cannot be brought back; empty where it can.
    """

    reason: str
    rule: str
    path: str
    error: ErrorRecord
    died_ms: int
    fingerprint: str
    cut: int
    sha256: str
    unable: str


ChildState = Literal["to be sent", "sent", "done", "failed", "ignored", "cancelled"]


class ChildRow(View, frozen=True, kw_only=True):
    """
    A job that another waits for, or waited for.

    Attributes:
        number: Its place among its siblings, from 0.
        id: Its job id.
        type: Its type.
        queue: Its queue.
        state: What its parent's flow knows of it.
        children: What it waits for itself.
    """

    number: int
    id: str
    type: str
    queue: str
    state: ChildState
    children: list[ChildRow] = msgspec.field(default_factory=list)


class JobStory(View, frozen=True, kw_only=True):
    """
    Everything that is known of one job.

    Attributes:
        job: The job as it stands in a list.
        why: What it waits for, or how it ended, in one sentence.
        payload: Its payload; None where that is no JSON or was not kept.
        fields: Its fields as they were written.
        deliveries: How often the present entry was handed to an engine.
        lost: Deliveries lost with their engines before that.
        snoozes: How often it was put off.
        redrives: How often it was brought back from the dead.
        history: The last attempts, oldest first.
        progress: Its last report: percent, message, atMs.
        result: What its handler returned.
        children: The jobs that it waits for, or waited for.
        parent: The job that waits for it, as `queue/id`.
        dead: Its death, if it is dead.
        cancelled: The order to cancel it, until it has ended.
        schedule: The schedule that made it; empty for jobs of producers.
    """

    job: JobRow
    why: str
    payload: Any
    fields: list[RawField]
    deliveries: int = 0
    lost: int = 0
    snoozes: int = 0
    redrives: int = 0
    history: list[Attempt] = msgspec.field(default_factory=list)
    progress: Any = None
    result: Any = None
    children: list[ChildRow] = msgspec.field(default_factory=list)
    parent: str = ""
    dead: Burial | None = None
    cancelled: CancelOrder | None = None
    schedule: str = ""


class JobOrder(View, frozen=True, kw_only=True):
    """
    What an order about one job did.

    Attributes:
        id: The job's id.
        queue: Its queue.
        what: ``cancel``, ``reschedule``, ``run-now`` or ``priority``.
        changed: False where it was so already.
        state: Where the job was; empty where it was nowhere to be found.
        lane: Its lane from now on.
        due_ms: When it may start, Unix ms; 0 for as soon as it can.
        told: What comes of it, in one sentence.
    """

    id: str
    queue: str
    what: str
    changed: bool
    state: str
    lane: str
    due_ms: int = 0
    told: str


class CancelOrder(View, frozen=True, kw_only=True):
    """Who cancelled a job that has not ended yet, why and when."""

    who: str
    reason: str
    at_ms: int


class JobSearch(View, frozen=True, kw_only=True):
    """
    Where a job id was found.

    Attributes:
        id: What was looked for.
        searched: Entries looked at.
        complete: Everything was looked at; else a limit ended the search.
        found: The jobs of that id, usually one.
    """

    id: str
    searched: int
    complete: bool
    found: list[JobStory]

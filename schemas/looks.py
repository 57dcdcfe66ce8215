"""What the page shows of one queue, of one job, and of a search over all queues."""

from __future__ import annotations

from typing import Literal

import msgspec

from schemas.job import JobState
from schemas.numbers import Rates, Spread
from schemas.overview import StateWord
from schemas.stats import QueueStats, View
from schemas.story import JobRow, JobStory

Verb = Literal[
    "run-now", "retry", "edit-retry", "reschedule", "priority", "cancel", "discard"
]  # fmt: skip


class LaneLook(View, frozen=True, kw_only=True):
    """
    One lane of a queue.

    Attributes:
        name: The lane.
        waiting: Jobs that no engine has, parked ones included.
        active: Jobs that engines have.
        parked: Those of the waiting that are behind a gate.
        oldest_ms: Age of the oldest waiting job; 0 without one.
        weight: Its share of turns beside the others; None where it goes before all others, and
            where no engine says it.
        wait: Time from entry to start over the last hour; None where nothing started.
    """

    name: str
    waiting: int
    active: int
    parked: int
    oldest_ms: int
    weight: int | None
    wait: Spread | None = None


class TypeLook(View, frozen=True, kw_only=True):
    """
    One job type of a queue.

    Attributes:
        type: Its name.
        done: Jobs done, ever.
        retried: Attempts that failed and were tried again, ever.
        dead: Jobs that ended dead, ever.
        done_hour: Jobs done in the last hour.
        dead_hour: Jobs that ended dead in the last hour.
        failing: The share of attempts that failed in the last hour; None without any.
        run: Run times of attempts over the last hour; None without any.
        held: It is held.
        held_jobs: Jobs of it that are set aside.
        held_reason: Why.
        held_by: Who held it.
        held_since_ms: Since when.
        engines: Live engines that take it.
    """

    type: str
    done: int
    retried: int
    dead: int
    done_hour: int = 0
    dead_hour: int = 0
    failing: float | None = None
    run: Spread | None = None
    held: bool
    held_jobs: int
    held_reason: str = ""
    held_by: str = ""
    held_since_ms: int = 0
    engines: int


class QueueLook(View, frozen=True, kw_only=True):
    """
    One queue.

    Attributes:
        stats: What it holds.
        state: How it is, in a word.
        why: What keeps it from being empty, in one sentence.
        lanes: Its lanes, highest first.
        types: Its job types.
        states: Jobs by state, as the lists of jobs have them.
        engines: Live engines that serve it.
        slots: Jobs that these may run at a time; 0 without engines.
        running: Jobs that they run now.
        rate: How fast it goes now.
        empty_in_ms: When nothing will wait any more at this pace; None where ``empty`` says why.
        empty: The same in words.
        now_ms: The server's clock.
    """

    stats: QueueStats
    state: StateWord
    why: str
    lanes: list[LaneLook]
    types: list[TypeLook]
    states: dict[JobState, int]
    engines: list[str]
    slots: int
    running: int
    rate: Rates
    empty_in_ms: int | None
    empty: str
    now_ms: int


class JobAction(View, frozen=True, kw_only=True):
    """
    One thing that may be done with a job.

    Attributes:
        verb: The last part of the route that does it.
        label: What a button says.
        able: Whether the job's state allows it.
        why: Why not, where it does not.
    """

    verb: Verb
    label: str
    able: bool
    why: str = ""


class PayloadShown(View, frozen=True, kw_only=True):
    """
    How much of a payload is shown.

    Attributes:
        shown: Whether the caller may see it.
        size_bytes: How large it is.
        sha256: Its hash, by which its parts could be guessed; empty where some of it is not shown,
            and where it was not kept.
        redacted: Where in it something is left out, as JSONPaths.
        cut: It is too large to be shown to anybody here.
    """

    shown: bool
    size_bytes: int
    sha256: str
    redacted: list[str] = msgspec.field(default_factory=list)
    cut: bool = False


class JobLook(View, frozen=True, kw_only=True):
    """
    One job.

    Attributes:
        story: Everything that is known of it.
        payload: How much of its payload is shown.
        actions: What may be done with it, and what not, and why not.
        now_ms: The server's clock.
    """

    story: JobStory
    payload: PayloadShown
    actions: list[JobAction]
    now_ms: int


class Hits(View, frozen=True, kw_only=True):
    """
    Part of what a search over queues found.

    Attributes:
        text: What was looked for.
        searched: Jobs looked at for this part.
        total: Jobs in all states of all queues that are searched.
        complete: All were looked at.
        cursor: Where the next part begins; empty at the end.
        at: Which jobs would be looked at next, in words; empty at the end.
        jobs: The jobs.
    """

    text: str
    searched: int
    total: int
    complete: bool
    cursor: str
    at: str = ""
    jobs: list[JobRow] = msgspec.field(default_factory=list)


STATES: tuple[JobState, ...] = (
    *("active", "waiting-children", "held", "parked"),
    *("dead", "done", "delayed", "waiting"),
)
"""The order in which a search looks: what is few and matters comes first."""

"""What the page shows of dead letters: groups over all queues, and one group with samples."""

from __future__ import annotations

import msgspec

from schemas.job import ErrorRecord
from schemas.operations import Operation
from schemas.stats import DeadGroup, View


class DeadRow(View, frozen=True, kw_only=True):
    """
    One group of dead letters in a list.

    Attributes:
        queue: The queue.
        group: What its jobs have in common, and how many there are.
        hour: Deaths within the last hour; None where nobody counted.
        deaths: Deaths per step over the last day, likewise.
        step_ms: How long a step is.
    """

    queue: str
    group: DeadGroup
    hour: int | None = None
    deaths: list[int] | None = None
    step_ms: int = 0


class DeadPage(View, frozen=True, kw_only=True):
    """
    Groups of dead letters over queues, the largest first.

    Attributes:
        dead: Dead letters in all, of the queues that were asked for.
        matched: Those in groups that fit.
        queues: Dead letters per queue, where there are any.
        types: Types that have groups.
        reasons: Reasons that have groups.
        rows: The groups, by ``queue/fingerprint``.
        order: In which order they stand.
        more: Groups that fit beyond those.
        now_ms: Unix ms by the server's clock.
    """

    dead: int
    matched: int
    queues: dict[str, int]
    types: list[str]
    reasons: list[str]
    rows: dict[str, DeadRow]
    order: list[str]
    more: int
    now_ms: int


class DeadSample(View, frozen=True, kw_only=True):
    """
    One dead letter of a group, without its payload.

    Attributes:
        id: The job.
        entry: Its entry in the dead stream.
        at_ms: When it died.
        lane: Its lane.
        attempts: Attempts spent.
        redrives: How often it had been brought back before.
        error: Its last error.
        rule: The rule of the wire that it broke.
        path: Where in the payload.
        unable: Why it cannot be brought back; empty where it can.
    """

    id: str
    entry: str
    at_ms: int
    lane: str
    attempts: int
    redrives: int
    error: ErrorRecord
    rule: str = ""
    path: str = ""
    unable: str = ""


class DeadGroupPage(View, frozen=True, kw_only=True):
    """
    One group of dead letters.

    Attributes:
        row: The group; with no jobs where they were all taken away.
        samples: Some of its jobs, the latest first.
        operations: Bulk operations on it, the latest first.
        searched: Dead letters that were looked at for the samples.
        now_ms: Unix ms by the server's clock.
    """

    row: DeadRow
    samples: list[DeadSample] = msgspec.field(default_factory=list)
    operations: list[Operation] = msgspec.field(default_factory=list)
    searched: int = 0
    now_ms: int = 0

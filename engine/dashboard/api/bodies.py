"""What requests that change something say."""

from __future__ import annotations

from typing import Annotated

import msgspec

from schemas.gates import OnDead

Reason = Annotated[str, msgspec.Meta(max_length=500)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class Because(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """
    An order that needs nothing but its reason.

    Attributes:
        reason: Why; it stands in the audit.
    """

    reason: Reason = ""


class Slots(Because, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """
    How many jobs of a queue each engine runs at a time.

    Attributes:
        jobs: The number; null for each engine's own setting.
    """

    jobs: int | None = None


class Hold(Because, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """
    A type to set aside, or to release.

    Attributes:
        type: The type.
    """

    type: Name


class Bound(Because, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """
    What a queue may hold.

    Attributes:
        jobs: Jobs; 0 for no bound, null for no change.
        bytes: Bytes of memory, likewise.
        clear: Give both back to the settings of the engines first.
    """

    jobs: int | None = None
    bytes: int | None = None
    clear: bool = False


class Order(Because, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """
    What a dead job does to the others of its key.

    Attributes:
        on_dead: ``continue`` or ``block``.
    """

    on_dead: OnDead


class Limit(Because, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """
    A limit to set.

    Attributes:
        name: The limit.
        rate: Starts per ``per_ms``; 0 for any number.
        per_ms: What the rate counts by.
        burst: Starts at once after a silence; null for a second's worth.
        concurrency: Jobs at a time over all engines; 0 for any number.
        by: Where a job tells its group, for the rule of a group.
    """

    name: Name
    rate: Annotated[float, msgspec.Meta(ge=0, le=1e9)] = 0
    per_ms: Annotated[int, msgspec.Meta(ge=1, le=86_400_000)] = 1_000
    burst: int | None = None
    concurrency: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 0
    by: str = ""


class NamedLimit(Because, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """
    A limit that is meant.

    Attributes:
        name: The limit.
        for_ms: How long to shut it.
    """

    name: Name
    for_ms: Annotated[int, msgspec.Meta(ge=1, le=31_622_400_000)] = 60_000


class ForJob(Because, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """
    An order about one job.

    Attributes:
        at: Where it was seen, as a list's row says it.
    """

    at: str = ""


class ToLane(ForJob, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """
    A job's new lane.

    Attributes:
        lane: The lane.
    """

    lane: Name


class ToTime(ForJob, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """
    A job's new time.

    Attributes:
        at_ms: Unix ms by the server's clock; 0 to go by ``in_ms``.
        in_ms: Ms from now on.
    """

    at_ms: Annotated[int, msgspec.Meta(ge=0, le=2**53)] = 0
    in_ms: Annotated[int, msgspec.Meta(ge=0, le=2**53)] = 0


class NewPayload(ForJob, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """
    A dead job's new payload.

    Attributes:
        data: The payload, as JSON text.
    """

    data: str

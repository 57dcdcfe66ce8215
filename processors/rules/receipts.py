"""Receipt states as ranks, and the times that devices claim for them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, NamedTuple
from uuid import UUID

SENT: Final = 10
DELIVERED: Final = 20
READ: Final = 30

State = Literal["delivered", "read"]

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Claim(NamedTuple):
    """
    What one recipient claims of one message.

    Attributes:
        message_id: The message.
        user_id: The recipient.
        rank: How far it came.
        delivered_at: The earliest time claimed for any state; None for the time of recording.
        read_at: The earliest time claimed for reading.
    """

    message_id: UUID
    user_id: UUID
    rank: int
    delivered_at: datetime | None
    read_at: datetime | None


def rank(state: State) -> int:
    """Place a state on the scale that only goes up."""
    return READ if state == "read" else DELIVERED


def instant(at: datetime | int | None) -> datetime | None:
    """Turn a wire time, ISO or Unix ms, into a time with zone."""
    if isinstance(at, int):
        return EPOCH + timedelta(milliseconds=at)
    return at


def fold(claims: Iterable[Claim]) -> list[Claim]:
    """
    Fold a batch to one claim per message and recipient, ordered by both.

    The highest rank wins whatever the order, each time is the earliest one claimed, and the order
    is the order in which rows are locked, so that overlapping batches never wait in a circle.
    """
    best: dict[tuple[UUID, UUID], Claim] = {}
    for claim in claims:
        place = claim.message_id, claim.user_id
        known = best.get(place)
        best[place] = claim if known is None else _join(known, claim)
    return [best[place] for place in sorted(best)]


def _join(one: Claim, other: Claim) -> Claim:
    return one._replace(
        rank=max(one.rank, other.rank),
        delivered_at=_earliest(one.delivered_at, other.delivered_at),
        read_at=_earliest(one.read_at, other.read_at),
    )


def _earliest(one: datetime | None, other: datetime | None) -> datetime | None:
    if one is None or other is None:
        return one or other
    return min(one, other)

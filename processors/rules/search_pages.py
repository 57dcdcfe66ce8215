"""
Pages of what was found: stable while messages come and go. Pure.

A place among the messages is their time and id. *Newest* pages go down by place. *Best* pages sort
a window of the newest candidates by rank; the window keeps its bounds over its pages, so what comes
in meanwhile shifts nothing, and the next window begins below it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple, TypeAlias
from uuid import UUID

import msgspec

from processors.rules.search_query import Piece

Order: TypeAlias = Literal["best", "newest"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Place(NamedTuple):
    """
    Where a message stands among all messages.

    Attributes:
        at: When it was sent.
        id: Its id.
    """

    at: datetime
    id: UUID


class Found(NamedTuple):
    """
    One message that was found.

    Attributes:
        place: Where it stands.
        conversation_id: Its conversation.
        rank: How well it fits, above 0.
        pieces: An excerpt, where it was at hand.
    """

    place: Place
    conversation_id: UUID
    rank: float
    pieces: tuple[Piece, ...] = ()


class Candidates(NamedTuple):
    """
    What one source found, newest first.

    Attributes:
        found: The messages.
        reached: Older ones were not looked for; None where there are none.
        is_incomplete: Some conversations could not be looked through.
    """

    found: Sequence[Found]
    reached: Place | None = None
    is_incomplete: bool = False


class Position(msgspec.Struct, frozen=True, array_like=True):
    """
    Where a page ends, as its cursor holds it: times in µs since 1970.

    Attributes:
        before: Candidates stand below this place.
        since: The window's oldest place; none for newest pages.
        rank: The rank of the last one shown of the window; none where a window begins.
        last: Its place.
        is_last: Nothing lies below the window.
    """

    before: tuple[int, UUID] | None = None
    since: tuple[int, UUID] | None = None
    rank: float | None = None
    last: tuple[int, UUID] | None = None
    is_last: bool = False


class Page(NamedTuple):
    """
    One page.

    Attributes:
        found: What it shows, in its order.
        then: Where the next page begins; None where there is none.
    """

    found: list[Found]
    then: Position | None


def packed(place: Place) -> tuple[int, UUID]:
    """Write a place as a cursor holds it."""
    return (place.at - _EPOCH) // timedelta(microseconds=1), place.id


def unpacked(place: tuple[int, UUID] | None) -> Place | None:
    """Read a place from a cursor."""
    return None if place is None else Place(_EPOCH + timedelta(microseconds=place[0]), place[1])


def above(place: Place) -> Place:
    """Return the next higher place, to bound a window that includes this one."""
    return Place(place.at, UUID(int=min(place.id.int + 1, (1 << 128) - 1)))


def merge(sources: Iterable[Candidates]) -> Candidates:
    """
    Put what several sources found together, as far down as all of them looked.

    A message that several found counts once, with its best rank.
    """
    given = list(sources)
    floors = [source.reached for source in given if source.reached is not None]
    floor = max(floors) if floors else None
    best: dict[UUID, Found] = {}
    for each in (found for source in given for found in source.found):
        known = best.get(each.place.id)
        if known is None or each.rank > known.rank:
            best[each.place.id] = each
    found = sorted(best.values(), key=lambda each: each.place, reverse=True)
    return Candidates(
        [each for each in found if floor is None or each.place >= floor],
        floor,
        any(source.is_incomplete for source in given),
    )


def newest_page(candidates: Candidates, limit: int) -> Page:
    """Show the newest; the next page begins below the last one shown or looked at."""
    shown = list(candidates.found[:limit])
    if len(candidates.found) > limit:
        return Page(shown, Position(before=packed(shown[-1].place)))
    if candidates.reached is not None:
        return Page(shown, Position(before=packed(candidates.reached)))
    return Page(shown, None)


def best_page(
    candidates: Candidates, limit: int, *, window_max: int, position: Position | None
) -> Page:
    """
    Show the best of a window of the newest candidates.

    Args:
        candidates: What was found below the position's upper bound.
        limit: Most messages of the page.
        window_max: Most candidates of a window.
        position: Where the page begins; None for the first one.
    """
    window = list(candidates.found[:window_max])
    bounds = _bounds(candidates, window, position)
    ranked = sorted(window, key=_by_rank)
    last = unpacked(bounds.last)
    if bounds.rank is not None and last is not None:
        ranked = [each for each in ranked if _by_rank(each) > (-bounds.rank, _downwards(last))]
    shown = ranked[:limit]
    if len(ranked) > limit:
        end = shown[-1]
        then = msgspec.structs.replace(bounds, rank=end.rank, last=packed(end.place))
        return Page(shown, then)
    return Page(shown, None if bounds.is_last else Position(before=bounds.since))


def _bounds(candidates: Candidates, window: Sequence[Found], position: Position | None) -> Position:
    """The window that a page belongs to: the one it goes on with, or one that begins with it."""
    if position is not None and position.since is not None:
        return position
    reached = candidates.reached
    if not window:
        return Position(since=packed(reached) if reached else None, is_last=reached is None)
    is_cut = len(candidates.found) > len(window)
    oldest = window[-1].place if is_cut or reached is None else reached
    top = position.before if position else packed(above(window[0].place))
    return Position(top, packed(oldest), is_last=not is_cut and reached is None)


def _by_rank(found: Found) -> tuple[float, tuple[int, int]]:
    return -found.rank, _downwards(found.place)


def _downwards(place: Place) -> tuple[int, int]:
    at, chance = packed(place)
    return -at, -chance.int

"""Pages show each message once, in order, while messages come and go."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.rules import cursors
from processors.rules.search_pages import (
    Candidates,
    Found,
    Page,
    Place,
    Position,
    best_page,
    merge,
    newest_page,
    packed,
    unpacked,
)

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
CONVERSATION = UUID(int=1)
WINDOW = 5
RANKS = st.lists(st.sampled_from([0.1, 0.2, 0.7]), max_size=30)


def found(number: int, rank: float = 0.1) -> Found:
    """Return the message of a minute; higher numbers are newer."""
    return Found(Place(BEGAN + timedelta(minutes=number), UUID(int=number)), CONVERSATION, rank)


def source(
    messages: list[Found], position: Position | None, limit: int, *, looks_at: int = 10_000
) -> Candidates:
    """Answer like an index that looks at so many messages at most."""
    before = unpacked(position.before) if position else None
    since = unpacked(position.since) if position else None
    fitting = sorted(
        (
            each
            for each in messages
            if (before is None or each.place < before) and (since is None or each.place >= since)
        ),
        reverse=True,
    )
    cut = fitting[: min(limit, looks_at)]
    return Candidates(cut, cut[-1].place if len(cut) == min(limit, looks_at) else None)


def read_all(page_at: Callable[[Position | None], Page]) -> list[Found]:
    """Follow the pages to their end, each position through its cursor."""
    shown: list[Found] = []
    position = None
    for _ in range(200):
        page = page_at(position)
        shown += page.found
        if page.then is None:
            return shown
        token = cursors.encode(page.then, context="c")
        position = cursors.decode(token, Position, context="c")
    raise AssertionError("the pages do not end")


@given(RANKS, st.integers(min_value=1, max_value=7))
def test_newest_pages_show_all_from_new_to_old(ranks: list[float], limit: int) -> None:
    messages = [found(number, rank) for number, rank in enumerate(ranks)]

    shown = read_all(lambda at: newest_page(source(messages, at, limit + 1), limit))

    assert shown == messages[::-1]


@given(RANKS, st.integers(min_value=1, max_value=7), st.integers(min_value=1, max_value=20))
def test_best_pages_show_all_once_window_by_window(
    ranks: list[float], limit: int, looks_at: int
) -> None:
    """``looks_at`` below the window is an index that gives up early and says how far it came."""
    messages = [found(number, rank) for number, rank in enumerate(ranks)]

    def page(at: Position | None) -> Page:
        looked = source(messages, at, WINDOW + 1, looks_at=looks_at)
        return best_page(looked, limit, window_max=WINDOW, position=at)

    shown = read_all(page)

    assert sorted(shown) == messages
    size = min(WINDOW, looks_at)
    first = shown[: min(size, len(shown))]
    assert first == sorted(first, key=lambda each: (-each.rank, -each.place.id.int))
    assert set(first) == set(messages[::-1][:size])


@given(RANKS, st.integers(min_value=1, max_value=4), st.booleans())
def test_pages_are_stable_while_messages_come_in(
    ranks: list[float], limit: int, is_best: bool
) -> None:
    """Goal: nothing is shown twice or left out, whatever is sent between two pages."""
    messages = [found(number, rank) for number, rank in enumerate(ranks)]
    there_at_first = list(messages)

    def page(at: Position | None) -> Page:
        if at is not None:
            messages.append(found(len(messages), 0.9))
        if is_best:
            looked = source(messages, at, WINDOW + 1)
            return best_page(looked, limit, window_max=WINDOW, position=at)
        return newest_page(source(messages, at, limit + 1), limit)

    assert sorted(read_all(page)) == there_at_first


@given(RANKS, st.data())
def test_deleting_leaves_the_others_where_they_are(ranks: list[float], data: st.DataObject) -> None:
    messages = [found(number, rank) for number, rank in enumerate(ranks)]
    there_at_first = list(messages)

    def page(at: Position | None) -> Page:
        if at is not None and messages:
            messages.remove(data.draw(st.sampled_from(messages)))
        looked = source(messages, at, WINDOW + 1)
        return best_page(looked, 2, window_max=WINDOW, position=at)

    shown = read_all(page)

    assert len(shown) == len(set(shown))
    assert set(messages) <= set(shown) <= set(there_at_first)


def test_sources_are_merged_as_far_as_all_of_them_looked() -> None:
    text = Candidates([found(9), found(5)], reached=found(5).place)
    blind = Candidates([found(7, 0.5), found(5, 0.9), found(2)], is_incomplete=True)

    merged = merge([text, blind])

    assert merged.found == [found(9), found(7, 0.5), found(5, 0.9)]
    assert merged.reached == found(5).place
    assert merged.is_incomplete
    assert merge([]) == Candidates([])


@given(st.datetimes(timezones=st.just(UTC)), st.uuids())
def test_places_survive_a_cursor(at: datetime, id_: UUID) -> None:
    assert unpacked(packed(Place(at, id_))) == Place(at, id_)


@pytest.mark.parametrize("change", ["", "x", "é", "A" * 40])
def test_a_cursor_is_good_for_its_own_search_alone(change: str) -> None:
    position = Position(before=(5, UUID(int=3)), rank=0.25)
    token = cursors.encode(position, context="one")

    assert cursors.decode(token, Position, context="one") == position
    with pytest.raises(cursors.BadCursor):
        cursors.decode(token, Position, context="other")
    with pytest.raises(cursors.BadCursor):
        cursors.decode(token[:-3] + change, Position, context="one")


@given(st.text(max_size=60))
def test_any_other_text_is_no_cursor(text: str) -> None:
    with pytest.raises(cursors.BadCursor):
        cursors.decode(text, Position, context="one")

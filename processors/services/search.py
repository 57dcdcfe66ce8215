"""
Search over the messages that a user may see.

Who searches finds messages of the conversations whose member they are now, from when they joined,
as far as these are not deleted. An index proposes; what is shown is read from the database, where
the same is checked again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg
import msgspec
import structlog

from engine import Clock
from processors.database.pool import Database
from processors.database.statements import search as statements
from processors.errors import Refused
from processors.rules import cursors
from processors.rules.search import SIMPLE
from processors.rules.search_pages import (
    Candidates,
    Found,
    Order,
    Page,
    Position,
    best_page,
    merge,
    newest_page,
    unpacked,
)
from processors.rules.search_query import (
    EXCERPT_CHARS,
    Piece,
    Query,
    branches,
    excerpt,
    headline,
    hits,
    parse,
    query_fault,
)
from processors.services.search_index import Ask, Scope, SearchIndex

log = structlog.get_logger("processors.search")

LIMIT_MAX: Final = 100


class Filters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    What a search is narrowed to; all of them hold.

    Attributes:
        conversation_id: In this conversation.
        sender_id: From this author.
        recipient_id: To this user: in conversations while they were a member, from others.
        since: Sent at that time or later.
        until: Sent before that time.
        kinds: Of one of these kinds.
    """

    conversation_id: UUID | None = None
    sender_id: UUID | None = None
    recipient_id: UUID | None = None
    since: datetime | None = None
    until: datetime | None = None
    kinds: tuple[str, ...] | None = None


NO_FILTERS: Final = Filters()


@dataclass(frozen=True, slots=True)
class Hit:
    """
    One message that was found.

    Attributes:
        message_id: The message.
        conversation_id: Its conversation.
        conversation_title: The conversation's title, if it has one.
        sender_id: The author.
        sender_name: The author's name, if known.
        seq: Its place in the conversation.
        sent_at: When it was sent.
        kind: What clients make of it.
        rank: How well it fits; comparable within one search alone.
        headline: An excerpt in pieces, those that were searched for marked.
    """

    message_id: UUID
    conversation_id: UUID
    conversation_title: str | None
    sender_id: UUID
    sender_name: str | None
    seq: int
    sent_at: datetime
    kind: str
    rank: float
    headline: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class SearchPage:
    """
    One page of a search.

    Attributes:
        hits: What was found, in order; a page may be short, or even empty, before the last one.
        cursor: Asks for the next page; None after the last one.
        is_incomplete: Some encrypted conversations could not be looked through.
    """

    hits: list[Hit]
    cursor: str | None = None
    is_incomplete: bool = False


class SearchService:
    """
    Answers searches.

    Args:
        database: Where messages are.
        text: The index for plain text.
        blind: The index for encrypted conversations.
        languages: Languages in use.
        window_max: How many of the newest matches are ranked against each other.
        clock: Time, for the log.
    """

    def __init__(
        self,
        database: Database,
        text: SearchIndex,
        blind: SearchIndex,
        *,
        languages: Sequence[str],
        window_max: int,
        clock: Clock,
    ) -> None:
        self._database = database
        self._text = text
        self._blind = blind
        self._languages = [*languages, SIMPLE]
        self._window_max = window_max
        self._clock = clock

    async def search(
        self,
        user_id: UUID,
        text: str,
        filters: Filters = NO_FILTERS,
        *,
        cursor: str | None = None,
        limit: int = 20,
        order: Order = "best",
    ) -> SearchPage:
        """
        Find messages.

        Args:
            user_id: Who searches.
            text: Words that must be there, ``"in a row"``, ``-without``, ``or``.
            filters: What to narrow it to.
            cursor: Of the page before, of the same search.
            limit: Most messages of the page, 1 to 100.
            order: ``best`` ranks the newest matches, a window at a time; ``newest`` does not.

        Raises:
            Refused: The query is too long, or finds too much to be sorted in time, or the cursor
                belongs to another search.
        """
        began = self._clock.monotonic()
        fault = query_fault(text)
        if fault:
            raise Refused("invalid-query", fault)
        if not 1 <= limit <= LIMIT_MAX:
            raise Refused("invalid-limit", f"limit must be 1 to {LIMIT_MAX}, not {limit}")
        context = f"{user_id} {order} {filters} {text}"
        position = _position(cursor, context)
        query = parse(text)
        candidates = await self._candidates(
            user_id,
            query,
            filters,
            position=position,
            # One more than is shown tells whether there are more.
            limit=(self._window_max if order == "best" else limit) + 1,
        )
        page = (
            best_page(candidates, limit, window_max=self._window_max, position=position)
            if order == "best"
            else newest_page(candidates, limit)
        )
        shown = await self._shown(user_id, query, page)
        log.info(
            "search_answered",
            hits=len(shown),
            candidates=len(candidates.found),
            order=order,
            is_incomplete=candidates.is_incomplete,
            ms=round((self._clock.monotonic() - began) * 1000),
        )
        then = cursors.encode(page.then, context=context) if page.then else None
        return SearchPage(shown, then, candidates.is_incomplete)

    async def _candidates(
        self,
        user_id: UUID,
        query: Query,
        filters: Filters,
        *,
        position: Position | None,
        limit: int,
    ) -> Candidates:
        if not query.clauses:
            return Candidates([])
        rows = await self._database.fetch(
            statements.SCOPE, user_id, filters.conversation_id, filters.recipient_id
        )

        def ask(mode: str) -> Ask:
            return Ask(
                query=query,
                scope=[
                    Scope(row["conversation_id"], row["after_seq"], row["until"])
                    for row in rows
                    if row["mode"] == mode
                ],
                limit=limit,
                sender_id=filters.sender_id,
                not_sender_id=filters.recipient_id,
                since=filters.since,
                until=filters.until,
                kinds=filters.kinds,
                before=unpacked(position.before) if position else None,
                downto=unpacked(position.since) if position else None,
            )

        asked = [(self._text, ask("text")), (self._blind, ask("blind"))]
        try:
            return merge([await index.search(each) for index, each in asked if each.scope])
        except asyncpg.QueryCanceledError:
            raise Refused(
                "query-too-broad", "the search took too long: narrow it, or add a rarer word"
            ) from None

    async def _shown(self, user_id: UUID, query: Query, page: Page) -> list[Hit]:
        """Read what a page shows, as far as the user may see it at this moment."""
        if not page.found:
            return []
        parts = branches(query)
        # What PostgreSQL cannot mark alone is marked here.
        words = "" if any(part.runs for part in parts) else " or ".join(p.words for p in parts)
        rows = await self._database.fetch(
            statements.PAGE,
            user_id,
            [found.place.id for found in page.found],
            words,
            self._languages,
            EXCERPT_CHARS,
        )
        by_id = {row["id"]: row for row in rows}
        return [
            _hit(by_id[found.place.id], found, query)
            for found in page.found
            if found.place.id in by_id
        ]


def _position(cursor: str | None, context: str) -> Position | None:
    if cursor is None:
        return None
    try:
        return cursors.decode(cursor, Position, context=context)
    except cursors.BadCursor as error:
        raise Refused("invalid-cursor", str(error)) from None


def _hit(row: asyncpg.Record, found: Found, query: Query) -> Hit:
    return Hit(
        message_id=row["id"],
        conversation_id=row["conversation_id"],
        conversation_title=row["title"],
        sender_id=row["sender_id"],
        sender_name=row["display_name"],
        seq=row["seq"],
        sent_at=row["created_at"],
        kind=row["kind"],
        rank=found.rank,
        headline=found.pieces or tuple(_pieces(row, query)),
    )


def _pieces(row: asyncpg.Record, query: Query) -> list[Piece]:
    marked, body, language = row["headline"], row["body"] or "", row["lang"] or SIMPLE
    if marked is not None:
        return headline(marked)
    return excerpt(body, hits(query, body, language) or [])

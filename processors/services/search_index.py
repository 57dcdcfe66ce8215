"""
What a search index does, so that an engine outside PostgreSQL can take its place.

An index holds documents: messages with their sender and conversation. Visibility is not its
business: it is told which conversations to look through, from which sequence number on, and what
it finds is checked against the database before anybody sees it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NamedTuple, Protocol
from uuid import UUID

from processors.rules.search_pages import Candidates, Place
from processors.rules.search_query import Query

FOREVER: Final = datetime(9999, 12, 31, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Document:
    """
    A message as it is indexed.

    Attributes:
        message_id: The message.
        conversation_id: Its conversation.
        sender_id: Its author.
        seq: Its place in the conversation.
        sent_at: When it was sent.
        version: Its version; an index never replaces a higher one by a lower one.
        kind: What clients make of it.
        language: By which its words are stemmed; ``simple`` for none.
        text: Its text, without what PostgreSQL cannot hold.
        sender_name: The author's name, or an empty string.
        title: The conversation's title, or an empty string.
    """

    message_id: UUID
    conversation_id: UUID
    sender_id: UUID
    seq: int
    sent_at: datetime
    version: int
    kind: str
    language: str
    text: str
    sender_name: str = ""
    title: str = ""


class Entry(NamedTuple):
    """
    What an index has of a message.

    Attributes:
        version: The version that was indexed.
        language: The language by which it was.
    """

    version: int
    language: str


class Scope(NamedTuple):
    """
    A conversation to look through.

    Attributes:
        conversation_id: The conversation.
        after_seq: Messages up to here are not looked at.
        until: Messages after this time are not looked at; None for no bound.
    """

    conversation_id: UUID
    after_seq: int
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Ask:
    """
    What to look for.

    Attributes:
        query: The query.
        scope: The conversations to look through.
        limit: Most messages to return: the newest ones.
        sender_id: Of this author alone.
        not_sender_id: Not of this author.
        since: Sent at that time or later.
        until: Sent before that time.
        kinds: Of these kinds alone; None for any.
        before: Below this place alone.
        downto: At this place or above it alone.
    """

    query: Query
    scope: Sequence[Scope]
    limit: int
    sender_id: UUID | None = None
    not_sender_id: UUID | None = None
    since: datetime | None = None
    until: datetime | None = None
    kinds: tuple[str, ...] | None = None
    before: Place | None = None
    downto: Place | None = None

    def arguments(self, limit: int) -> tuple[object, ...]:
        """Return what the statements of ``statements.search`` take for scope and bounds."""
        return (
            [scope.conversation_id for scope in self.scope],
            [scope.after_seq for scope in self.scope],
            [scope.until or FOREVER for scope in self.scope],
            self.sender_id,
            self.not_sender_id,
            self.since,
            self.until,
            None if self.kinds is None else list(self.kinds),
            *(self.before or (None, None)),
            *(self.downto or (None, None)),
            limit,
        )


class SearchIndex(Protocol):
    """
    Keeps documents and finds them; :class:`~processors.services.postgres_fts.PostgresFts`.

    Everything may be repeated, and may come late: what is there already is left as it is.

    Attributes:
        is_apart: Its entries are kept outside the table ``message_search``, so that a message
            which goes over to a blind index, or comes from one, must be taken out by itself.
    """

    is_apart: bool

    async def index(self, documents: Sequence[Document]) -> dict[UUID, bool]:
        """
        Put documents in, unless they are there in this version or a higher one.

        Returns:
            Whether the entry changed, for each document that is in now; one that is left out was
            no longer the message's present state.
        """

    async def delete(self, message_ids: Sequence[UUID]) -> set[UUID]:
        """Take messages out; returns those that were in."""

    async def entries(self, message_ids: Sequence[UUID]) -> dict[UUID, Entry]:
        """Tell what it has of messages."""

    async def search(self, ask: Ask) -> Candidates:
        """Find the newest messages that answer a query, newest first."""

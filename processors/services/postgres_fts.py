"""Full text search in PostgreSQL: words by ``tsvector``, scripts without spaces by trigrams."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from processors.database.pool import Database
from processors.database.statements import search as statements
from processors.rules.search import (
    CONTEXT_CHARS_MAX,
    SIMPLE,
    clean,
    spaced,
    trigram_text,
    truncated,
)
from processors.rules.search_pages import Candidates, Found, Place, merge
from processors.rules.search_query import Branch, branches
from processors.services.search_index import Ask, Document, Entry

if TYPE_CHECKING:
    import asyncpg

BATCH = 500
"""Most documents of one statement."""


class PostgresFts:
    """
    The search index for plain text, beside the messages in the same database.

    Args:
        database: Where messages and index are.
        languages: Languages in use, as PostgreSQL names them.
    """

    is_apart = False

    def __init__(self, database: Database, languages: Sequence[str]) -> None:
        self._database = database
        self._languages = [*languages, SIMPLE]

    async def index(self, documents: Sequence[Document]) -> dict[UUID, bool]:
        """Put documents in that are still their messages' present state."""
        written: dict[UUID, bool] = {}
        for start in range(0, len(documents), BATCH):
            columns = zip(*map(_row, documents[start : start + BATCH]), strict=True)
            rows = await self._database.fetch(statements.WRITE_TEXT, *map(list, columns))
            written.update((row["id"], row["is_written"]) for row in rows)
        return written

    async def delete(self, message_ids: Sequence[UUID]) -> set[UUID]:
        """Take messages out."""
        rows = await self._database.fetch(statements.DELETE_TEXT, message_ids)
        return {row["message_id"] for row in rows}

    async def entries(self, message_ids: Sequence[UUID]) -> dict[UUID, Entry]:
        """Tell what is there of messages."""
        rows = await self._database.fetch(statements.ENTRIES_TEXT, message_ids)
        return {row["message_id"]: Entry(row["version"], row["lang"]) for row in rows}

    async def search(self, ask: Ask) -> Candidates:
        """Find the newest messages that answer a query."""
        return merge([await self._branch(ask, branch) for branch in branches(ask.query)])

    async def _branch(self, ask: Ask, branch: Branch) -> Candidates:
        async with self._database.transaction() as connection:
            await connection.execute(statements.CUSTOM_PLAN)
            asked = await connection.fetch(statements.QUERIES, branch.words, self._languages)
            queries = {row["lang"]: row["query"] if row["is_asking"] else None for row in asked}
            arguments = (*ask.arguments(ask.limit), list(queries.values()), list(queries))
            never = _like(branch.never)
            if branch.runs:
                first, *others = _like(branch.runs)
                rows = await connection.fetch(
                    statements.SEARCH_RUNS, *arguments, first, never, others
                )
            else:
                distinct = dict.fromkeys(query for query in queries.values() if query is not None)
                any_of = " | ".join(f"( {query} )" for query in distinct)
                rows = (
                    await connection.fetch(statements.SEARCH_WORDS, *arguments, any_of, never)
                    if any_of
                    else []
                )
        # A match of a run has no rank of its own; it stands beside a word in the text.
        found = [_found(row, extra=0.1 if branch.runs else 0.0) for row in rows]
        return Candidates(found, found[-1].place if len(found) == ask.limit else None)


def _row(document: Document) -> tuple[object, ...]:
    text = truncated(document.text)
    sender = clean(document.sender_name)[:CONTEXT_CHARS_MAX]
    title = clean(document.title)[:CONTEXT_CHARS_MAX]
    return (
        document.message_id,
        document.version,
        document.language,
        spaced(text),
        spaced(sender),
        spaced(title),
        trigram_text(text, sender, title),
    )


def _found(row: asyncpg.Record, *, extra: float) -> Found:
    place = Place(row["sent_at"], row["message_id"])
    return Found(place, row["conversation_id"], row["rank"] + extra)


def _like(runs: Sequence[str]) -> list[str]:
    """Patterns for runs, which hold letters alone and so nothing that means something to LIKE."""
    return [f"%{run}%" for run in runs]

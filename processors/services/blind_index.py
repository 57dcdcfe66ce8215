"""
Search in encrypted conversations: keyed hashes of words, and a second look after decrypting.

PostgreSQL sees hashes of 8 bytes alone. Each conversation has a key of its own, so equal words of
two conversations look different; within one, whoever reads the table sees which messages share
words, and how often a word comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

import structlog

from processors.database.pool import Database
from processors.database.statements import search as statements
from processors.errors import ConfigurationError, Refused, ServiceUnavailable
from processors.rules.search import SIMPLE, clean, distinct_terms, truncated
from processors.rules.search_pages import Candidates, Found, Place
from processors.rules.search_query import excerpt, hits, sought
from processors.services.protocols import Envelope, Sealer
from processors.services.protocols import Place as SealedPlace
from processors.services.search_index import Ask, Document, Entry

if TYPE_CHECKING:
    import asyncpg

log = structlog.get_logger("processors.search")

BATCH = 500
INLINE_CHARS = 4_000
"""Longer texts are cut into terms in a thread, so that the loop goes on meanwhile."""

AT_ONCE = 4
"""Conversations whose keys are asked for at the same time."""

Unreadable = (Refused, ConfigurationError, ServiceUnavailable)
"""What may keep one conversation from being read while others can be."""


class BlindIndex:
    """
    The search index for encrypted conversations.

    Args:
        database: Where messages and index are.
        sealer: Hashes terms and decrypts.
        languages: Languages in use.
        conversations_max: Conversations that one search looks through.
        opened_max: Messages that one search decrypts.
    """

    is_apart = False

    def __init__(
        self,
        database: Database,
        sealer: Sealer,
        languages: Sequence[str],
        *,
        conversations_max: int,
        opened_max: int,
    ) -> None:
        self._database = database
        self._sealer = sealer
        self._languages = [*languages, SIMPLE]
        self._conversations_max = conversations_max
        self._opened_max = opened_max

    async def index(self, documents: Sequence[Document]) -> dict[UUID, bool]:
        """Put documents in that are still their messages' present state."""
        written: dict[UUID, bool] = {}
        for start in range(0, len(documents), BATCH):
            terms = {
                each.message_id: await _terms_of(each) for each in documents[start : start + BATCH]
            }
            part, hashed = await self._hashed(documents[start : start + BATCH], terms)
            rows = await self._database.fetch(
                statements.WRITE_BLIND,
                [each.message_id for each in part],
                [each.version for each in part],
                [each.language for each in part],
                [message_id for message_id, _ in hashed],
                [term for _, term in hashed],
            )
            written.update((row["id"], row["is_written"]) for row in rows)
        return written

    async def delete(self, message_ids: Sequence[UUID]) -> set[UUID]:
        """Take messages out."""
        rows = await self._database.fetch(statements.DELETE_BLIND, message_ids)
        return {row["message_id"] for row in rows}

    async def entries(self, message_ids: Sequence[UUID]) -> dict[UUID, Entry]:
        """Tell what is there of messages."""
        rows = await self._database.fetch(statements.ENTRIES_BLIND, message_ids)
        return {row["message_id"]: Entry(row["version"], row["lang"]) for row in rows}

    async def search(self, ask: Ask) -> Candidates:
        """Find the newest messages that answer a query, by their hashes and then their text."""
        scope, is_incomplete = await self._narrowed(ask)
        variants = self._variants(ask)
        if not scope or not variants:
            return Candidates([], is_incomplete=is_incomplete)
        wanted, unreadable = await self._wanted(scope, variants)
        found: list[Found] = []
        opened, before = 0, ask.before
        while True:
            rows = await self._candidates(ask, before, wanted)
            for row in rows:
                opened += 1
                before = Place(row["sent_at"], row["message_id"])
                answer, is_read = await self._looked_at(ask, row, before)
                unreadable |= not is_read
                if answer is not None:
                    found.append(answer)
                if len(found) == ask.limit or opened == self._opened_max:
                    return Candidates(found, before, is_incomplete or unreadable)
            if len(rows) < ask.limit:
                return Candidates(found, None, is_incomplete or unreadable)

    async def _narrowed(self, ask: Ask) -> tuple[set[UUID], bool]:
        """The conversations to look through, and whether some are left out."""
        scope = {each.conversation_id for each in ask.scope}
        if len(scope) <= self._conversations_max:
            return scope, False
        rows = await self._database.fetch(statements.RECENT, list(scope), self._conversations_max)
        return {row["id"] for row in rows}, True

    def _variants(self, ask: Ask) -> list[list[str]]:
        """The terms of each alternative in each language, without repeats."""
        found = {
            tuple(sought(clause, language))
            for clause in ask.query.clauses
            for language in self._languages
        }
        return [list(terms) for terms in sorted(found) if terms]

    async def _wanted(
        self, scope: set[UUID], variants: Sequence[Sequence[str]]
    ) -> tuple[tuple[list[UUID], list[int], list[bytes]], bool]:
        """Hash the variants for each conversation; tells whether one has no key at hand."""
        terms = sorted({term for variant in variants for term in variant})
        ids: list[UUID] = []
        numbers: list[int] = []
        hashes: list[bytes] = []
        conversations = sorted(scope)
        room = asyncio.Semaphore(AT_ONCE)
        hashed = await asyncio.gather(
            *(self._blind(conversation_id, terms, room) for conversation_id in conversations)
        )
        for conversation_id, blind in zip(conversations, hashed, strict=True):
            by_term = dict(zip(terms, blind or (), strict=blind is not None))
            for number, variant in enumerate(variants if by_term else ()):
                ids += [conversation_id] * len(variant)
                numbers += [number] * len(variant)
                hashes += [by_term[term] for term in variant]
        return (ids, numbers, hashes), None in hashed

    async def _blind(
        self, conversation_id: UUID, terms: Sequence[str], room: asyncio.Semaphore
    ) -> list[bytes] | None:
        """Hash terms for one conversation; None where its key cannot be had."""
        async with room:
            try:
                return await self._sealer.blind(conversation_id, terms)
            except Unreadable as error:
                _tell(error, conversation_id)
                return None

    async def _candidates(
        self,
        ask: Ask,
        before: Place | None,
        wanted: tuple[list[UUID], list[int], list[bytes]],
    ) -> list[asyncpg.Record]:
        arguments = list(ask.arguments(ask.limit))
        arguments[8:10] = before or (None, None)
        async with self._database.transaction() as connection:
            await connection.execute(statements.CUSTOM_PLAN)
            return await connection.fetch(statements.SEARCH_BLIND, *arguments, *wanted)

    async def _looked_at(
        self, ask: Ask, row: asyncpg.Record, place: Place
    ) -> tuple[Found | None, bool]:
        """What a candidate is worth once it is read, and whether it could be read."""
        try:
            text = await opened(self._sealer, row)
        except Unreadable as error:
            _tell(error, row["conversation_id"])
            return None, False
        terms = hits(ask.query, text, row["lang"])
        if terms is None:
            return None, True
        rank = len(terms) / (10 + len(text) ** 0.5)
        pieces = tuple(excerpt(text, terms))
        return Found(place, row["conversation_id"], rank, pieces), True

    async def _hashed(
        self, documents: Sequence[Document], terms: Mapping[UUID, Sequence[str]]
    ) -> tuple[list[Document], list[tuple[UUID, bytes]]]:
        """Hash all terms, asking once for each conversation; leaves out those without a key."""
        together: dict[UUID, dict[str, None]] = {}
        for each in documents:
            words = together.setdefault(each.conversation_id, {})
            words.update(dict.fromkeys(terms[each.message_id]))
        by_term: dict[UUID, dict[str, bytes]] = {}
        for conversation_id, words in together.items():
            try:
                blind = await self._sealer.blind(conversation_id, words)
            except Refused as error:
                _tell(error, conversation_id)
            else:
                by_term[conversation_id] = dict(zip(words, blind, strict=True))
        readable = [each for each in documents if each.conversation_id in by_term]
        return readable, [
            (each.message_id, by_term[each.conversation_id][term])
            for each in readable
            for term in terms[each.message_id]
        ]


async def opened(sealer: Sealer, row: Any) -> str:
    """
    Return a message's text, decrypted where it is encrypted.

    Args:
        sealer: Decrypts.
        row: With the message's id or message_id, its conversation, version, body and envelope.

    Raises:
        Refused: The record is damaged.
        ServiceUnavailable: The key provider cannot serve now.
        ConfigurationError: The key is missing or disabled.
    """
    if row["ciphertext"] is None:
        return clean(row["body"] or "")
    message_id = row["message_id"] if "message_id" in row else row["id"]
    place = SealedPlace(row["conversation_id"], message_id, row["version"])
    text = await sealer.open(place, Envelope(row["key_id"], row["ciphertext"]))
    return clean(text.decode(errors="replace"))


async def _terms_of(document: Document) -> list[str]:
    text = truncated(document.text)
    if len(text) <= INLINE_CHARS:
        return distinct_terms(text, document.language)
    return await asyncio.to_thread(distinct_terms, text, document.language)


def _tell(error: Exception, conversation_id: UUID) -> None:
    log.warning(
        "search_unreadable", conversation_id=str(conversation_id), error=type(error).__name__
    )

"""
Keeps the search index as the messages are.

What is asked for is never what is written: messages are read again, so a late, repeated or
overtaken job brings the index to the present state like any other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import asyncpg
import structlog

from processors.database.pool import Database
from processors.database.statements import search as statements
from processors.errors import ConfigurationError, DatabaseUnavailable, Refused, ServiceUnavailable
from processors.rules.search import clean, language
from processors.rules.sqlstate import Meaning, meaning
from processors.services.blind_index import opened
from processors.services.protocols import Sealer
from processors.services.search_index import Document, SearchIndex
from schemas.messages import IndexResult, UnindexResult

log = structlog.get_logger("processors.search")

BATCH = 500
"""Most messages that are read and written together."""
ROUNDS_MAX = 3
"""How often messages are read again that changed while they were being indexed."""

KeysAway = (ServiceUnavailable, ConfigurationError)
"""What keeps one conversation from being indexed while others can be."""


@dataclass
class Indexed:
    """
    What became of messages.

    Attributes:
        current: In the index as they are now.
        written: Those of them whose entry changed.
        removed: Taken out.
        undecryptable: Not readable; their entries were left as they were.
        waiting: Those whose keys cannot be had now, and why; their entries were left, too.
    """

    current: set[UUID] = field(default_factory=set)
    written: set[UUID] = field(default_factory=set)
    removed: set[UUID] = field(default_factory=set)
    undecryptable: set[UUID] = field(default_factory=set)
    waiting: dict[UUID, ServiceUnavailable] = field(default_factory=dict)

    def outcome(self, message_ids: Sequence[UUID]) -> IndexResult | Exception:
        """Sum up for the messages of a job, or say why it is to be put off."""
        for id_ in message_ids:
            if id_ in self.waiting:
                return self.waiting[id_]
        return self.result(message_ids)

    def result(self, message_ids: Iterable[UUID]) -> IndexResult:
        """Sum up for some of the messages."""
        ids = set(message_ids)
        return IndexResult(
            indexed=len(ids & self.current),
            written=len(ids & self.written),
            removed=len(ids & self.removed),
            skipped=len(ids - self.current - self.removed - self.undecryptable),
            undecryptable=len(ids & self.undecryptable),
        )

    def add(self, written: dict[UUID, bool]) -> None:
        """Add what an index did."""
        self.current.update(written)
        self.written.update(id_ for id_, is_written in written.items() if is_written)


class SearchIndexer:
    """
    Puts messages into the index of their kind, and takes them out.

    Args:
        database: Where messages are.
        text: The index for plain text.
        blind: The index for encrypted conversations.
        sealer: Decrypts messages.
        languages: Languages in use.
    """

    def __init__(
        self,
        database: Database,
        text: SearchIndex,
        blind: SearchIndex,
        sealer: Sealer,
        *,
        languages: Sequence[str],
    ) -> None:
        self._database = database
        self._text = text
        self._blind = blind
        self._sealer = sealer
        self._languages = languages

    async def index(self, message_ids: Iterable[UUID]) -> Indexed:
        """
        Bring messages into the index as they are now; what may not be found is taken out.

        Raises:
            ServiceUnavailable: Keys of some cannot be had now; all others were brought in.
        """
        done = await self._index(message_ids)
        for trouble in done.waiting.values():
            raise trouble
        return done

    async def _index(self, message_ids: Iterable[UUID]) -> Indexed:
        done = Indexed()
        ids = list(dict.fromkeys(message_ids))
        for start in range(0, len(ids), BATCH):
            left = ids[start : start + BATCH]
            for _ in range(ROUNDS_MAX):
                left = await self._round(left, done)
                if not left:
                    break
        log.info(
            "messages_indexed",
            messages=len(ids),
            indexed=len(done.current),
            written=len(done.written),
            removed=len(done.removed),
            undecryptable=len(done.undecryptable),
            waiting=len(done.waiting),
        )
        return done

    async def delete(self, message_ids: Iterable[UUID]) -> set[UUID]:
        """Take messages out of all indexes; returns those that were in."""
        ids = list(dict.fromkeys(message_ids))
        removed: set[UUID] = set()
        for start in range(0, len(ids), BATCH):
            removed |= await self._remove(ids[start : start + BATCH])
        log.info("messages_unindexed", messages=len(ids), removed=len(removed))
        return removed

    async def index_jobs(self, jobs: Sequence[Sequence[UUID]]) -> list[IndexResult | Exception]:
        """
        Index the messages of many jobs together; each has a result or an error of its own.

        A key that cannot be had puts off the jobs that need it, and no others. Where all fail and
        one of them may be at fault, they are indexed one by one.

        Raises:
            DatabaseUnavailable: Or another outage, by which all of them end.
        """
        try:
            done = await self._index(id_ for ids in jobs for id_ in ids)
        except Exception as error:
            if len(jobs) == 1 or _is_outage(error):
                raise
            log.warning("indexing_one_by_one", jobs=len(jobs), error=type(error).__name__)
            return [await self._alone(ids) for ids in jobs]
        return [done.outcome(ids) for ids in jobs]

    async def delete_jobs(self, jobs: Sequence[Sequence[UUID]]) -> list[UnindexResult]:
        """Take the messages of many jobs out together."""
        removed = await self.delete(id_ for ids in jobs for id_ in ids) if jobs else set()
        return [UnindexResult(removed=len(removed & set(ids))) for ids in jobs]

    async def _alone(self, message_ids: Sequence[UUID]) -> IndexResult | Exception:
        try:
            return (await self._index(message_ids)).outcome(message_ids)
        except Exception as error:
            if _is_outage(error):
                raise
            return error

    async def _round(self, message_ids: Sequence[UUID], done: Indexed) -> list[UUID]:
        """Index messages once; returns those that changed between reading and writing."""
        rows = await self._database.fetch(statements.SOURCE, message_ids)
        plain = [
            self._document(row, clean(row["body"]))
            for row in rows
            if row["mode"] == "text" and row["body"] is not None
        ]
        sealed = await self._opened([row for row in rows if row["mode"] == "blind"], done)
        found = {each.message_id for each in (*plain, *sealed)}
        left = found | done.undecryptable | done.waiting.keys()
        gone = [id_ for id_ in message_ids if id_ not in left]
        if gone:
            done.removed |= await self._remove(gone)
        if plain:
            done.add(await self._text.index(plain))
        if sealed:
            await self._blinded(sealed, done)
        if self._text.is_apart and (plain or sealed):
            # What went over to the other index would stay behind in this one.
            await self._text.delete([each.message_id for each in sealed])
            await self._blind.delete([each.message_id for each in plain])
        return [id_ for id_ in found if id_ not in done.current and id_ not in done.waiting]

    async def _opened(self, rows: Sequence[asyncpg.Record], done: Indexed) -> list[Document]:
        """Decrypt what can be; a conversation whose keys cannot be had is asked for once."""
        documents: list[Document] = []
        away: dict[UUID, ServiceUnavailable] = {}
        for row in rows:
            conversation_id = row["conversation_id"]
            try:
                if conversation_id in away:
                    raise away[conversation_id]
                documents.append(self._document(row, await opened(self._sealer, row)))
            except Refused as error:
                log.warning("message_undecryptable", message_id=str(row["id"]), code=error.code)
                # Of shredded contents nothing shall be left, hashes of words included.
                if error.code != "key-shredded":
                    done.undecryptable.add(row["id"])
            except KeysAway as error:
                away[conversation_id] = done.waiting[row["id"]] = _put_off(error)
        return documents

    async def _blinded(self, documents: Sequence[Document], done: Indexed) -> None:
        """Write into the index of hashes, conversation by conversation where a key is away."""
        try:
            done.add(await self._blind.index(documents))
        except KeysAway as error:
            parts: dict[UUID, list[Document]] = {}
            for each in documents:
                parts.setdefault(each.conversation_id, []).append(each)
            if len(parts) == 1:
                trouble = _put_off(error)
                done.waiting.update((each.message_id, trouble) for each in documents)
                return
            for part in parts.values():
                await self._blinded(part, done)

    async def _remove(self, message_ids: Sequence[UUID]) -> set[UUID]:
        return await self._text.delete(message_ids) | await self._blind.delete(message_ids)

    def _document(self, row: asyncpg.Record, text: str) -> Document:
        return Document(
            message_id=row["id"],
            conversation_id=row["conversation_id"],
            sender_id=row["sender_id"],
            seq=row["seq"],
            sent_at=row["created_at"],
            version=row["version"],
            kind=row["kind"],
            language=language(text, row["locale"], self._languages),
            text=text,
            sender_name=row["display_name"] or "",
            title=row["title"] or "",
        )


def _put_off(error: ServiceUnavailable | ConfigurationError) -> ServiceUnavailable:
    """A key that is missing is waited for like one that is away, so that no others are held."""
    if isinstance(error, ServiceUnavailable):
        return error
    return ServiceUnavailable("key-provider", str(error))


def _is_outage(error: Exception) -> bool:
    """Whether no single job is to blame, so that trying them one by one helps nobody."""
    if isinstance(error, asyncpg.PostgresError):
        return meaning(error.sqlstate or "") not in {Meaning.PERMANENT, Meaning.UNKNOWN}
    return isinstance(error, DatabaseUnavailable | ServiceUnavailable | ConfigurationError)

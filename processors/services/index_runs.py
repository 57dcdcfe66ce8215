"""
Runs over all messages, or those of one conversation: index them anew, or compare the index.

A run is a chain of jobs, one per chunk. The job that has done its chunk commits the next one with
its inbox row, so the chain never tears and never forks, however often a job is delivered. What the
run needs to know travels in the cursor.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, TypeVar
from uuid import UUID

import msgspec
import structlog

from processors.database.inbox import once
from processors.database.outbox import enqueue
from processors.database.pool import Database
from processors.database.statements import search as statements
from processors.errors import Refused
from processors.rules import cursors
from processors.rules.search import SIMPLE
from processors.rules.search_audit import Found, judge
from processors.rules.search_pages import Place, packed, unpacked
from processors.services.indexer import BATCH, SearchIndexer
from processors.services.search_index import SearchIndex
from schemas.messages import AuditIndex, AuditResult, Reindex, ReindexResult

if TYPE_CHECKING:
    import asyncpg

    from processors.database.pool import Connection

log = structlog.get_logger("processors.search")

TYPE: Final = "indexing"
QUEUE: Final = "indexing"
LANE: Final = "low"
ROOT_CHARS_MAX: Final = 100
FIRST: Final = Place(datetime(1, 1, 1, tzinfo=UTC), UUID(int=0))

Result = TypeVar("Result", ReindexResult, AuditResult)
Progress = Callable[[float], Awaitable[None]]


class Run(msgspec.Struct, frozen=True, array_like=True):
    """
    How far a run has come, as its cursor holds it.

    Attributes:
        root: Id of the job that began it.
        chunks: Chunks done.
        total: Messages that there were to look at, about.
        messages: Messages looked at.
        counts: The sums of what its result tells.
        until: Where it ends: a time in µs since 1970, or a sequence number.
        after: How far it has come: such a time or number, and a message.
    """

    root: str
    chunks: int
    total: int
    messages: int
    counts: tuple[int, ...]
    until: int
    after: tuple[int, UUID]

    @property
    def percent(self) -> float:
        """How much of it is done."""
        return min(99.0, 100.0 * self.messages / max(1, self.total))

    @property
    def next_job_id(self) -> str:
        """The id of the job that goes on from here."""
        return f"{self.root}.{self.chunks}"


class IndexRuns:
    """
    Runs of reindexing and auditing.

    Args:
        database: Where messages are.
        indexer: Puts entries right.
        text: The index for plain text.
        blind: The index for encrypted conversations.
        languages: Languages in use.
        chunk_messages: Messages that one job looks at.
        committed: Called after each commit that left a job in the outbox.
    """

    def __init__(
        self,
        database: Database,
        indexer: SearchIndexer,
        text: SearchIndex,
        blind: SearchIndex,
        *,
        languages: Sequence[str],
        chunk_messages: int,
        committed: Callable[[], None],
    ) -> None:
        self._database = database
        self._indexer = indexer
        self._text = text
        self._blind = blind
        self._languages = (*languages, SIMPLE)
        self._chunk_messages = chunk_messages
        self._committed = committed

    async def reindex(self, payload: Reindex, *, job_id: str, progress: Progress) -> ReindexResult:
        """
        Index one chunk anew and leave a job for the next one.

        Raises:
            Refused: The cursor is not one of a reindex of these messages.
        """
        run = await self._resumed(payload, job_id, counts=3)
        rows = await self._chunk(payload.conversation_id, run)
        written = removed = undecryptable = 0
        for start in range(0, len(rows), BATCH):
            part = rows[start : start + BATCH]
            done = await self._indexer.index(row["id"] for row in part)
            written += len(done.written)
            removed += len(done.removed)
            undecryptable += len(done.undecryptable)
            run = _moved(payload.conversation_id, run, part)
            await progress(run.percent)
        run = _counted(run, (written, removed, undecryptable))
        goes_on = len(rows) == self._chunk_messages
        result = ReindexResult(
            messages=run.messages,
            written=run.counts[0],
            removed=run.counts[1],
            undecryptable=run.counts[2],
            next_job_id=run.next_job_id if goes_on else None,
        )
        return await self._settled(payload, run, result, job_id)

    async def audit(self, payload: AuditIndex, *, job_id: str, progress: Progress) -> AuditResult:
        """
        Compare one chunk, put it right if that is asked for, and leave a job for the next one.

        Raises:
            Refused: The cursor is not one of an audit of these messages.
        """
        run = await self._resumed(payload, job_id, counts=5)
        rows = await self._chunk(payload.conversation_id, run)
        counts = dict.fromkeys(Found, 0)
        repaired = 0
        for start in range(0, len(rows), BATCH):
            part = rows[start : start + BATCH]
            faults = await self._faults(part)
            for fault in faults.values():
                counts[fault] += 1
            if faults and payload.repair:
                done = await self._indexer.index(faults)
                repaired += len(done.written | done.removed)
            run = _moved(payload.conversation_id, run, part)
            await progress(run.percent)
        run = _counted(run, (*counts.values(), repaired))
        missing, stale, superfluous, misplaced, mended = run.counts
        goes_on = len(rows) == self._chunk_messages
        result = AuditResult(
            messages=run.messages,
            missing=missing,
            stale=stale,
            superfluous=superfluous,
            misplaced=misplaced,
            repaired=mended,
            next_job_id=run.next_job_id if goes_on else None,
        )
        return await self._settled(payload, run, result, job_id)

    async def _faults(self, rows: Sequence[asyncpg.Record]) -> dict[UUID, Found]:
        ids = [row["id"] for row in rows]
        text = await self._text.entries(ids)
        blind = await self._blind.entries(ids)
        judged = {
            row["id"]: judge(
                row["mode"],
                row["version"],
                is_plain=row["is_plain"],
                text=text.get(row["id"]),
                blind=blind.get(row["id"]),
                languages=self._languages,
            )
            for row in rows
        }
        return {id_: fault for id_, fault in judged.items() if fault is not None}

    async def _resumed(self, payload: Reindex | AuditIndex, job_id: str, *, counts: int) -> Run:
        """Read where to go on, or begin."""
        if payload.cursor is not None:
            try:
                return cursors.decode(payload.cursor, Run, context=_context(payload))
            except cursors.BadCursor as error:
                raise Refused("invalid-cursor", str(error)) from None
        root, zeros = job_id[:ROOT_CHARS_MAX], (0,) * counts
        if payload.conversation_id is None:
            row = await self._database.fetchrow(statements.EXTENT_OF_ALL)
            assert row is not None
            until, _ = packed(Place(row["until"], UUID(int=0)))
            return Run(root, 0, row["messages"], 0, zeros, until, packed(FIRST))
        row = await self._database.fetchrow(
            statements.EXTENT_OF_CONVERSATION, payload.conversation_id
        )
        if row is None:
            raise Refused(
                "unknown-conversation", f"there is no conversation {payload.conversation_id}"
            )
        return Run(root, 0, row["messages"], 0, zeros, row["last_seq"], (0, UUID(int=0)))

    async def _chunk(self, conversation_id: UUID | None, run: Run) -> list[asyncpg.Record]:
        if conversation_id is not None:
            return await self._database.fetch(
                statements.CHUNK_OF_CONVERSATION,
                conversation_id,
                run.after[0],
                run.until,
                self._chunk_messages,
            )
        after, until = unpacked(run.after), unpacked((run.until, UUID(int=0)))
        assert after is not None
        assert until is not None
        return await self._database.fetch(
            statements.CHUNK_OF_ALL, after.at, after.id, until.at, self._chunk_messages
        )

    async def _settled(
        self, payload: Reindex | AuditIndex, run: Run, result: Result, job_id: str
    ) -> Result:
        """Commit the next job, once for this one."""

        async def effects(connection: Connection) -> Result:
            if result.next_job_id is not None:
                cursor = cursors.encode(run, context=_context(payload))
                then = msgspec.structs.replace(payload, cursor=cursor)
                await enqueue(connection, TYPE, then, queue=QUEUE, lane=LANE, id=result.next_job_id)
            return result

        settled = await once(self._database, effects, type(result), handler=TYPE, job_id=job_id)
        self._committed()
        numbers = msgspec.to_builtins(settled)
        log.info("index_run", action=_context(payload), chunk=run.chunks, **numbers)
        return settled


def _moved(conversation_id: UUID | None, run: Run, rows: Sequence[asyncpg.Record]) -> Run:
    """Go behind the last row."""
    last = rows[-1]
    after = (
        packed(Place(last["created_at"], last["id"]))
        if conversation_id is None
        else (last["seq"], UUID(int=0))
    )
    return msgspec.structs.replace(run, after=after, messages=run.messages + len(rows))


def _counted(run: Run, counts: Sequence[int]) -> Run:
    sums = tuple(so_far + more for so_far, more in zip(run.counts, counts, strict=True))
    return msgspec.structs.replace(run, counts=sums, chunks=run.chunks + 1)


def _context(payload: Reindex | AuditIndex) -> str:
    """What a cursor belongs to."""
    verb = "audit" if isinstance(payload, AuditIndex) else "reindex"
    return f"{verb} of {payload.conversation_id or 'all'}"

"""
Encryption of what is stored already: plain messages, and messages under retired keys.

Each job changes a bounded number of rows and hands the rest to the next, in one transaction. Rows
are changed only where they still are what was read; where one is not, all are read again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar
from uuid import UUID

import asyncpg
import msgspec
import structlog

from engine import Retry
from processors.database.inbox import once
from processors.database.outbox import OutboxJob, enqueue_many
from processors.database.pool import Database
from processors.database.statements import encryption as statements
from processors.rules.content import described
from processors.services.data_keys import DataKeys
from processors.services.protocols import Envelope, Place
from processors.services.removal import unindex
from processors.services.sealer import DAMAGED, ContentSealer
from schemas.messages import Encrypt, EncryptResult, IndexMessages, ReEncrypt, ReEncryptResult
from schemas.messages.common import MESSAGES_MAX

if TYPE_CHECKING:
    from processors.database.pool import Connection

log = structlog.get_logger("processors.encryption")

TYPE: Final = "encryption"
QUEUE: Final = "encryption"
LANE: Final = "low"
INDEXING: Final = "indexing"
TRIES: Final = 5
STRETCH: Final = 50_000
"""Places of a conversation that one job looks at."""

Result = TypeVar("Result")


class Moved(Exception):
    """A row is not what it was when it was read; nothing was changed."""


async def unmoved(attempt: Callable[[], Awaitable[Result]]) -> Result:
    """Repeat an attempt while others change its rows, a bounded number of times."""
    for _ in range(TRIES):
        try:
            return await attempt()
        except Moved:
            continue
    raise Retry(reason="others kept changing the rows meanwhile")


def following(data: msgspec.Struct, *, delay_ms: int | None = None) -> OutboxJob:
    """Describe a job that goes on with the work of this one, behind everything else."""
    return OutboxJob(type=TYPE, queue=QUEUE, lane=LANE, data=data, delay_ms=delay_ms)


class StoredContents:
    """
    Encrypts messages that are stored already.

    Args:
        database: Where they are.
        sealer: Opens and seals them.
        keys: Tells the present key of a conversation.
        rows_max: Messages or keys that one job works on.
        index: Whether encrypted messages are followed by ``indexing`` jobs.
        index_elsewhere: Messages are found by an index outside the database, too.
    """

    def __init__(
        self,
        database: Database,
        sealer: ContentSealer,
        keys: DataKeys,
        *,
        rows_max: int,
        index: bool,
        index_elsewhere: bool,
    ) -> None:
        self._database = database
        self._sealer = sealer
        self._keys = keys
        self._rows_max = rows_max
        self._index = index
        self._index_elsewhere = index_elsewhere

    async def encrypt(self, payload: Encrypt, *, job_id: str) -> EncryptResult:
        """Encrypt what is kept in plain; see :meth:`EncryptionService.encrypt`."""
        result = await unmoved(lambda: self._encrypt(payload, job_id))
        log.info("messages_encrypted", job_id=job_id, count=result.encrypted, more=result.more)
        return result

    async def re_encrypt(self, payload: ReEncrypt, *, job_id: str) -> ReEncryptResult:
        """Bring messages to present keys; see :meth:`EncryptionService.re_encrypt`."""
        if payload.conversation_id is None:
            return await self._spread(payload, job_id)
        conversation_id = payload.conversation_id
        result = await unmoved(lambda: self._re_encrypt(conversation_id, payload, job_id))
        log.info(
            "messages_re_encrypted",
            job_id=job_id,
            conversation_id=str(conversation_id),
            count=result.re_encrypted,
            quarantined=result.quarantined,
            more=result.more,
        )
        return result

    async def _encrypt(self, payload: Encrypt, job_id: str) -> EncryptResult:
        rows, goes_on = await self._plain(payload)
        sealed = await self._sealer.seal_many([(_place(row), row["body"].encode()) for row in rows])
        hashes = [
            await self._sealer.fingerprint(row["conversation_id"], _sent_as(row)) for row in rows
        ]

        async def effects(connection: Connection) -> EncryptResult:
            await _changed(connection, statements.ENCRYPT, rows, *_columns(sealed), hashes)
            late = []
            if payload.conversation_id is not None and not goes_on:
                late = await connection.fetch(statements.FORGET_WORDS, payload.conversation_id)
            await enqueue_many(connection, [*self._index_jobs([*rows, *late]), *goes_on])
            if self._index_elsewhere:
                # An index job takes those that it follows out of there by itself.
                followed = "blind" if self._index else None
                await unindex(
                    connection, [row["id"] for row in rows if row["search_mode"] != followed]
                )
            return EncryptResult(encrypted=len(rows), more=bool(goes_on))

        return await self._once(effects, EncryptResult, job_id)

    async def _plain(self, payload: Encrypt) -> tuple[list[asyncpg.Record], list[OutboxJob]]:
        if payload.conversation_id is not None:
            return await self._walked(statements.PLAIN_AFTER, payload.conversation_id, payload)
        return await self._database.fetch(statements.PLAIN, payload.message_ids), []

    async def _walked(
        self, statement: str, conversation_id: UUID, payload: Encrypt | ReEncrypt, *more: Any
    ) -> tuple[list[asyncpg.Record], list[OutboxJob]]:
        """
        Read the next rows of a conversation, and make the job that goes on from there.

        A job looks at a stretch of bounded length, so that one which finds nothing ends in time.
        """
        after, end = payload.after_seq, payload.after_seq + STRETCH
        arguments = (conversation_id, after, end, self._rows_max, *more)
        # Before the rows: what is sent meanwhile is sealed with the present key already.
        last = await self._database.fetchrow(statements.LAST_SEQ, conversation_id)
        rows = await self._database.fetch(statement, *arguments)
        if len(rows) == self._rows_max:
            end = rows[-1]["seq"]
        if last is None or end >= last["last_seq"]:
            return rows, []
        job = type(payload)(conversation_id=conversation_id, after_seq=end)
        return rows, [following(job)]

    async def _re_encrypt(
        self, conversation_id: UUID, payload: ReEncrypt, job_id: str
    ) -> ReEncryptResult:
        # Another process may have begun the epoch that this job is for.
        present = await self._keys.sealing(conversation_id, 0, fresh=True)
        rows, goes_on = await self._walked(
            statements.OUTDATED, conversation_id, payload, present.id
        )
        places = [Place(conversation_id, row["id"], row["version"]) for row in rows]
        opened = await self._sealer.open_many(
            [
                (place, Envelope(row["key_id"], row["ciphertext"]))
                for place, row in zip(places, rows, strict=True)
            ]
        )
        good, contents = [], []
        for row, place, content in zip(rows, places, opened, strict=True):
            if isinstance(content, bytes):
                good.append(row)
                contents.append((place, content))
            elif content.code not in DAMAGED:
                raise content
        sealed = await self._sealer.seal_many(contents)

        async def effects(connection: Connection) -> ReEncryptResult:
            old = [row["key_id"] for row in good]
            await _changed(connection, statements.RE_ENCRYPT, good, old, *_columns(sealed))
            await enqueue_many(connection, goes_on)
            return ReEncryptResult(
                re_encrypted=len(good), quarantined=len(rows) - len(good), more=bool(goes_on)
            )

        return await self._once(effects, ReEncryptResult, job_id)

    async def _spread(self, payload: ReEncrypt, job_id: str) -> ReEncryptResult:
        """Make a job for each conversation that has retired keys in use."""
        rows = await self._database.fetch(statements.RETIRED, payload.after_key, self._rows_max)
        conversations = list(dict.fromkeys(row["conversation_id"] for row in rows))
        more = len(rows) == self._rows_max
        jobs = [following(ReEncrypt(conversation_id=each)) for each in conversations]
        if more:
            jobs.append(following(ReEncrypt(after_key=rows[-1]["id"])))

        async def effects(connection: Connection) -> ReEncryptResult:
            await enqueue_many(connection, jobs)
            return ReEncryptResult(conversations=len(conversations), more=more)

        return await self._once(effects, ReEncryptResult, job_id)

    def _index_jobs(self, rows: Sequence[asyncpg.Record]) -> list[OutboxJob]:
        """Have messages found by keyed hashes from now on, where their conversation asks for it."""
        ids = [row["id"] for row in rows if row["search_mode"] == "blind"] if self._index else []
        return [
            OutboxJob(
                type=INDEXING,
                queue=INDEXING,
                lane=LANE,
                data=IndexMessages(message_ids=tuple(ids[start : start + MESSAGES_MAX])),
            )
            for start in range(0, len(ids), MESSAGES_MAX)
        ]

    async def _once(
        self,
        effects: Callable[[Connection], Awaitable[Result]],
        result_type: type[Result],
        job_id: str,
    ) -> Result:
        return await once(self._database, effects, result_type, handler=TYPE, job_id=job_id)


async def _changed(
    connection: Connection, statement: str, rows: Sequence[asyncpg.Record], *columns: Any
) -> None:
    """
    Change rows, or none of them.

    Raises:
        Moved: One of them is not what it was.
    """
    if not rows:
        return
    ids, versions = [row["id"] for row in rows], [row["version"] for row in rows]
    found = await connection.fetchrow(statement, ids, versions, *columns)
    assert found is not None
    if found["changed"] < len(rows):
        raise Moved


def _columns(sealed: Sequence[Envelope]) -> tuple[list[bytes], list[UUID]]:
    return [each.ciphertext for each in sealed], [each.key_id for each in sealed]


def _place(row: asyncpg.Record) -> Place:
    return Place(row["conversation_id"], row["id"], row["version"])


def _sent_as(row: asyncpg.Record) -> bytes:
    """What a message is known by when it is sent again: as it was written first."""
    if row["version"] > 1:
        # That is not known any more; what was a plain hash of it may not stay one.
        return bytes(row["body_hash"])
    return described(row["kind"], row["body"], row["attachments"]).encode()

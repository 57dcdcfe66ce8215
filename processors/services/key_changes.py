"""Changes of keys: the first ones, new epochs, other wrappers, destruction."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar
from uuid import UUID

import asyncpg
import structlog

from processors.database.inbox import once
from processors.database.outbox import OutboxJob, enqueue_many
from processors.database.pool import Database
from processors.database.statements import encryption as statements
from processors.errors import Refused
from processors.services.data_keys import DataKeys, NewKey, context, require
from processors.services.encrypting import INDEXING, LANE, TRIES, TYPE, Moved, following, unmoved
from processors.services.keys import KeyProvider, WrappedKey
from schemas.messages import (
    Encrypt,
    ReEncrypt,
    Reindex,
    Rewrap,
    RewrapResult,
    Rotate,
    RotateResult,
    Shred,
    ShredResult,
    TurnOn,
    TurnOnResult,
)

if TYPE_CHECKING:
    from processors.database.pool import Connection

log = structlog.get_logger("processors.encryption")

SEARCH_ROWS: Final = 1_000
MARGIN_MS: Final = 60_000
SECOND_WALK_MS: Final = 300_000

Result = TypeVar("Result")


class KeyChanges:
    """
    Changes the keys of conversations, each change once per job and told in the audit log.

    Args:
        database: Where they are kept.
        provider: Who wraps them.
        keys: Makes them, and holds them in memory.
        rows_max: Keys that one job wraps anew.
        index_elsewhere: Messages are found by an index outside the database, too.
        held_ms: How long processes may hold a data key.
    """

    def __init__(
        self,
        database: Database,
        provider: KeyProvider,
        keys: DataKeys,
        *,
        rows_max: int,
        index_elsewhere: bool,
        held_ms: int,
    ) -> None:
        self._database = database
        self._provider = provider
        self._keys = keys
        self._rows_max = rows_max
        self._index_elsewhere = index_elsewhere
        self._held_ms = held_ms

    async def turn_on(self, payload: TurnOn) -> TurnOnResult:
        """Encrypt a conversation from now on; see :meth:`EncryptionService.turn_on`."""
        conversation_id = payload.conversation_id
        # Both keys are there before anything needs them, or nothing is turned on.
        await self._keys.sealing(conversation_id, 0)
        await self._keys.index(conversation_id)
        async with self._database.transaction() as connection:
            row = await connection.fetchrow(statements.TURN_ON, conversation_id, payload.search)
            if row is not None:
                subject = {"conversationId": conversation_id, "search": payload.search}
                await _audit(connection, payload.actor, "turn-on", subject)
                walk = Encrypt(conversation_id=conversation_id)
                # The second one finds edits that were under way in plain when this was committed.
                jobs = [following(walk), following(walk, delay_ms=SECOND_WALK_MS)]
                await enqueue_many(connection, jobs)
        if row is not None:
            log.info("conversation_encrypted", conversation_id=str(conversation_id))
        return TurnOnResult(changed=row is not None)

    async def rotate(self, payload: Rotate, *, job_id: str) -> RotateResult:
        """Begin an epoch; see :meth:`EncryptionService.rotate`."""
        conversation_id = payload.conversation_id
        latest = await self._database.fetchrow(statements.LATEST, conversation_id, "data")
        tenant = require(latest, conversation_id, "state")["tenant_id"]
        key = await self._keys.new(conversation_id, tenant, "data")

        async def effects(connection: Connection) -> RotateResult:
            epoch = await _begin(connection, key)
            subject = {"conversationId": conversation_id, "keyId": key.id, "epoch": epoch}
            await _audit(connection, payload.actor, "rotate", subject)
            if payload.re_encrypt and epoch > 1:
                walk = ReEncrypt(conversation_id=conversation_id)
                # The second one finds what processes sealed that held the older key until then.
                jobs = [following(walk), following(walk, delay_ms=self._held_ms + MARGIN_MS)]
                await enqueue_many(connection, jobs)
            return RotateResult(epoch=epoch, key_id=key.id)

        result = await unmoved(lambda: self._once(effects, RotateResult, job_id))
        self._keys.forget(conversation_id)
        if result.key_id == key.id:
            key.log(result.epoch)
        return result

    async def rewrap(self, payload: Rewrap, *, job_id: str) -> RewrapResult:
        """Wrap keys anew; see :meth:`EncryptionService.rewrap`."""
        result = await unmoved(lambda: self._rewrap(payload, job_id))
        log.info(
            "data_keys_rewrapped",
            job_id=job_id,
            count=result.rewrapped,
            damaged=result.damaged,
            more=result.more,
        )
        return result

    async def shred(self, payload: Shred, *, job_id: str) -> ShredResult:
        """Destroy a conversation's keys; see :meth:`EncryptionService.shred`."""
        conversation_id = payload.conversation_id

        async def effects(connection: Connection) -> ShredResult:
            _may_be_shredded(
                await connection.fetchrow(statements.FOR_SHREDDING, conversation_id),
                conversation_id,
            )
            rows = await connection.fetch(statements.SHRED, conversation_id)
            subject = {
                "conversationId": conversation_id,
                "reason": payload.reason,
                "keyIds": [row["id"] for row in rows],
            }
            await _audit(connection, payload.actor, "shred", subject)
            if self._index_elsewhere:
                # It walks all messages chunk by chunk, and takes out those that cannot be read.
                walk = Reindex(conversation_id=conversation_id)
                job = OutboxJob(type=INDEXING, queue=INDEXING, lane=LANE, data=walk)
                await enqueue_many(connection, [job])
            return ShredResult(keys=len(rows))

        result = await self._once(effects, ShredResult, job_id)
        self._keys.forget(conversation_id)
        await self._forget_search(conversation_id)
        log.info("conversation_shredded", conversation_id=str(conversation_id), keys=result.keys)
        return result

    async def _rewrap(self, payload: Rewrap, job_id: str) -> RewrapResult:
        primary = await self._provider.primary()
        rows = await self._database.fetch(
            statements.REWRAPPABLE, payload.after_key, primary, self._rows_max
        )
        wrapped = [await self._wrapped(row) for row in rows]
        good = [(row, new) for row, new in zip(rows, wrapped, strict=True) if new is not None]
        bad = [row["id"] for row, new in zip(rows, wrapped, strict=True) if new is None]
        more = len(rows) == self._rows_max

        async def effects(connection: Connection) -> RewrapResult:
            await _rewrap_rows(connection, good)
            if rows:
                subject = {"to": primary, "rewrapped": len(good), "damagedKeyIds": bad}
                await _audit(connection, payload.actor, "rewrap", subject)
            if more:
                job = Rewrap(after_key=rows[-1]["id"], actor=payload.actor)
                await enqueue_many(connection, [following(job)])
            return RewrapResult(rewrapped=len(good), damaged=len(bad), more=more)

        return await self._once(effects, RewrapResult, job_id)

    async def _wrapped(self, row: asyncpg.Record) -> WrappedKey | None:
        belonging = context(row["id"], row["conversation_id"], row["tenant_id"], row["purpose"])
        try:
            key = await self._provider.unwrap(WrappedKey(row["kek_id"], row["wrapped"]), belonging)
        except Refused as reason:
            log.error("data_key_damaged", key_id=str(row["id"]), code=reason.code)
            return None
        return await self._provider.wrap(key, belonging)

    async def _forget_search(self, conversation_id: UUID) -> None:
        """Remove keyed hashes of words too: without their key they tell what occurs how often."""
        removed = SEARCH_ROWS
        while removed == SEARCH_ROWS:
            row = await self._database.fetchrow(
                statements.FORGET_SEARCH, conversation_id, SEARCH_ROWS
            )
            assert row is not None
            removed = row["removed"]

    async def _once(
        self,
        effects: Callable[[Connection], Awaitable[Result]],
        result_type: type[Result],
        job_id: str,
    ) -> Result:
        return await once(self._database, effects, result_type, handler=TYPE, job_id=job_id)


async def _begin(connection: Connection, key: NewKey) -> int:
    """Store a key after the latest epoch, whoever else begins one at the same time."""
    for _ in range(TRIES):
        latest = await connection.fetchrow(statements.LATEST, key.conversation_id, "data")
        before = require(latest, key.conversation_id, "state")["epoch"] or 0
        row = await connection.fetchrow(statements.BEGIN_EPOCH, *key.values(before))
        if row is not None:
            return int(row["epoch"])
    raise Moved


async def _rewrap_rows(
    connection: Connection, good: Sequence[tuple[asyncpg.Record, WrappedKey]]
) -> None:
    rows = await connection.fetch(
        statements.REWRAP,
        [row["id"] for row, _ in good],
        [row["wrapped"] for row, _ in good],
        [new.kek_id for _, new in good],
        [new.wrapped for _, new in good],
    )
    if len(rows) < len(good):
        raise Moved


def _may_be_shredded(row: asyncpg.Record | None, conversation_id: UUID) -> None:
    where = f"conversation {conversation_id}"
    if row is None:
        raise Refused("unknown-conversation", f"there is no {where}")
    if row["legal_hold"]:
        raise Refused("legal-hold", f"{where} is under legal hold")
    if not row["is_deleted"]:
        raise Refused("conversation-open", f"{where} is open: it must be deleted first")
    if row["is_plain"]:
        raise Refused("not-encrypted", f"{where} holds plain messages, which outlive its keys")


async def _audit(connection: Connection, actor: str, action: str, subject: dict[str, Any]) -> None:
    await connection.execute(statements.AUDIT, actor, f"encryption.{action}", subject)

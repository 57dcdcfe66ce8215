"""
Data keys: made, found, held for a while, and counted.

Each conversation has a data key per epoch, which seals contents, and one index key for ever, from
which the keys of its fingerprints and blind terms are derived. Uses are booked in blocks, so that
sealing costs no write per message; what a process books and does not use is lost, which only
brings the next epoch a little sooner.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID
from weakref import WeakValueDictionary

import asyncpg
import structlog
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from engine import Clock, Retry
from processors.database.pool import Database
from processors.database.statements import encryption as statements
from processors.errors import Refused
from processors.rules.envelope import derived
from processors.rules.ids import uuid_v7
from processors.rules.receipts import instant
from processors.services.keys import KeyProvider, Random, WrappedKey
from processors.services.shelf import Shelf
from processors.settings.encryption import EncryptionSettings

log = structlog.get_logger("processors.encryption")

DAY_MS: Final = 86_400_000
TRIES: Final = 4


@dataclass(frozen=True, slots=True)
class DataKey:
    """
    A key that seals contents of one conversation.

    Attributes:
        id: Its row.
        conversation_id: The conversation.
        tenant: The conversation's tenant.
        cipher: The key itself.
    """

    id: UUID
    conversation_id: UUID
    tenant: str
    cipher: AESGCM


@dataclass(frozen=True, slots=True)
class IndexKeys:
    """
    Keys of a conversation's hashes.

    Attributes:
        fingerprint: For fingerprints of contents.
        blind: For search terms.
    """

    fingerprint: bytes
    blind: bytes


@dataclass(slots=True)
class Sealing:
    """
    The key that a conversation's contents are sealed with now.

    Attributes:
        key: The key.
        left: Uses that are booked and not taken yet.
        ends_ms: Unix ms at which its epoch ends.
    """

    key: DataKey
    left: int
    ends_ms: int


class DataKeys:
    """
    Finds and makes the keys of conversations.

    Args:
        database: Where they are kept, wrapped.
        provider: Who wraps them.
        settings: How long and how often each is used.
        clock: Where time comes from.
        random: Gives that many random bytes.
    """

    def __init__(
        self,
        database: Database,
        provider: KeyProvider,
        settings: EncryptionSettings,
        *,
        clock: Clock,
        random: Random = os.urandom,
    ) -> None:
        self._database = database
        self._provider = provider
        self._settings = settings
        self._clock = clock
        self._random = random
        most, ttl_s = settings.cache_keys_max, settings.cache_ttl_s
        self._keys: Shelf[DataKey] = Shelf(clock, most=most, ttl_s=ttl_s)
        self._sealing: Shelf[Sealing] = Shelf(clock, most=most, ttl_s=ttl_s)
        self._index: Shelf[IndexKeys] = Shelf(clock, most=most, ttl_s=ttl_s)
        self._locks: WeakValueDictionary[UUID, asyncio.Lock] = WeakValueDictionary()

    async def sealing(
        self, conversation_id: UUID, uses: int = 1, *, fresh: bool = False
    ) -> DataKey:
        """
        Return the conversation's present data key, made where there is none, with uses booked.

        Args:
            conversation_id: The conversation.
            uses: How many records will be sealed with it.
            fresh: Look whether another process has begun an epoch meanwhile.

        Raises:
            Refused: ``unknown-conversation``, or ``key-shredded``.
        """
        found = None if fresh else self._booked(conversation_id, uses)
        if found is not None:
            return found
        async with self._lock(conversation_id):
            found = None if fresh else self._booked(conversation_id, uses)
            return found or await self._book(conversation_id, uses)

    async def index(self, conversation_id: UUID) -> IndexKeys:
        """
        Return the keys of the conversation's hashes; made where there are none.

        Raises:
            Refused: ``unknown-conversation``, or ``key-shredded``.
        """
        found = self._index.get(conversation_id)
        if found is not None:
            return found
        async with self._lock(conversation_id):
            return self._index.get(conversation_id) or await self._find_index(conversation_id)

    async def by_id(self, ids: Collection[UUID]) -> dict[UUID, DataKey | Refused]:
        """
        Find data keys by their ids; a key that cannot be had stands there as the reason.

        The reasons are ``unknown-key``, ``key-shredded`` and ``undecryptable``.
        """
        found: dict[UUID, DataKey | Refused] = {}
        missing = []
        for key_id in set(ids):
            held = self._keys.get(key_id)
            if held is None:
                missing.append(key_id)
                found[key_id] = Refused("unknown-key", f"there is no data key {key_id}")
            else:
                found[key_id] = held
        rows = await self._database.fetch(statements.KEYS, missing) if missing else []
        for row in rows:
            try:
                async with self._lock(row["conversation_id"]):
                    found[row["id"]] = await self._opened(row)
            except Refused as reason:
                found[row["id"]] = reason
        return found

    async def new(self, conversation_id: UUID, tenant: str, purpose: str) -> NewKey:
        """Have a key made and wrapped; nothing of it is stored yet."""
        key_id = uuid_v7(self._clock.now_ms(), self._random)
        _, wrapped = await self._provider.generate(
            context(key_id, conversation_id, tenant, purpose)
        )
        return NewKey(key_id, conversation_id, purpose, wrapped, self._clock.now_ms())

    def forget(self, conversation_id: UUID) -> None:
        """Drop all keys of a conversation from memory."""
        self._sealing.drop(conversation_id)
        self._index.drop(conversation_id)
        for key_id, key in self._keys.items():
            if key.conversation_id == conversation_id:
                self._keys.drop(key_id)

    def _lock(self, conversation_id: UUID) -> asyncio.Lock:
        """One for all who ask for the same, so that one of them makes the calls."""
        return self._locks.setdefault(conversation_id, asyncio.Lock())

    def _booked(self, conversation_id: UUID, uses: int) -> DataKey | None:
        held = self._sealing.get(conversation_id)
        if held is None or held.left < uses or held.ends_ms <= self._clock.now_ms():
            return None
        held.left -= uses
        return held.key

    async def _book(self, conversation_id: UUID, uses: int) -> DataKey:
        settings = self._settings
        block = max(uses, settings.uses_block)
        age_ms = settings.epoch_days_max * DAY_MS
        for _ in range(TRIES):
            found = await self._database.fetchrow(
                statements.RESERVE,
                conversation_id,
                block,
                settings.epoch_uses_max,
                instant(self._clock.now_ms() - age_ms),
            )
            row = require(found, conversation_id, "latest_state")
            if row["id"] is not None:
                key = await self._opened(row)
                ends_ms = round(row["created_at"].timestamp() * 1000) + age_ms
                self._sealing.put(conversation_id, Sealing(key, block - uses, ends_ms))
                return key
            await self._begin(conversation_id, row["tenant_id"], "data", row["latest"] or 0)
        raise Retry(reason="other processes kept beginning epochs of the conversation's keys")

    async def _find_index(self, conversation_id: UUID) -> IndexKeys:
        for _ in range(TRIES):
            found = await self._database.fetchrow(statements.LATEST, conversation_id, "index")
            row = require(found, conversation_id, "state")
            if row["id"] is not None:
                secret = await self._unwrapped(row)
                keys = IndexKeys(derived(secret, "fingerprint"), derived(secret, "blind"))
                self._index.put(conversation_id, keys)
                return keys
            await self._begin(conversation_id, row["tenant_id"], "index", 0)
        raise Retry(reason="the conversation's index key was made and was not there")

    async def _begin(self, conversation_id: UUID, tenant: str, purpose: str, before: int) -> None:
        """Store a new key after that epoch, unless another process has done so."""
        key = await self.new(conversation_id, tenant, purpose)
        row = await self._database.fetchrow(statements.BEGIN_EPOCH, *key.values(before))
        if row is not None:
            key.log(row["epoch"])

    async def _opened(self, row: asyncpg.Record) -> DataKey:
        """Return the key of a row, from memory where it is held."""
        held = self._keys.get(row["id"])
        if held is not None:
            return held
        cipher = AESGCM(await self._unwrapped(row))
        key = DataKey(row["id"], row["conversation_id"], row["tenant_id"], cipher)
        self._keys.put(key.id, key)
        return key

    async def _unwrapped(self, row: asyncpg.Record) -> bytes:
        if row["state"] == "shredded":
            raise Refused("key-shredded", f"data key {row['id']} was shredded")
        return await self._provider.unwrap(
            WrappedKey(row["kek_id"], row["wrapped"]),
            context(row["id"], row["conversation_id"], row["tenant_id"], row["purpose"]),
        )


@dataclass(frozen=True, slots=True)
class NewKey:
    """
    A key that was made and not stored yet.

    Attributes:
        id: Its row to be.
        conversation_id: The conversation.
        purpose: ``data`` or ``index``.
        wrapped: The key.
        made_ms: When, in Unix ms.
    """

    id: UUID
    conversation_id: UUID
    purpose: str
    wrapped: WrappedKey
    made_ms: int

    def values(self, before: int) -> tuple[Any, ...]:
        """Return the arguments of ``BEGIN_EPOCH``."""
        kek_id, wrapped = self.wrapped.kek_id, self.wrapped.wrapped
        at = instant(self.made_ms)
        return self.id, self.conversation_id, self.purpose, before, kek_id, wrapped, at

    def log(self, epoch: int) -> None:
        """Tell that it was stored."""
        log.info(
            "data_key_made",
            conversation_id=str(self.conversation_id),
            key_id=str(self.id),
            purpose=self.purpose,
            epoch=epoch,
            kek_id=self.wrapped.kek_id,
        )


def context(key_id: UUID, conversation_id: UUID, tenant: str, purpose: str) -> dict[str, str]:
    """Name what a data key belongs to; an empty tenant is left out, since KMS takes none."""
    named = {"conversation": str(conversation_id), "key": str(key_id), "purpose": purpose}
    return named | ({"tenant": tenant} if tenant else {})


def require(row: asyncpg.Record | None, conversation_id: UUID, state: str) -> asyncpg.Record:
    """
    Insist on a conversation whose keys were not shredded.

    Raises:
        Refused: ``unknown-conversation``, or ``key-shredded``.
    """
    if row is None:
        raise Refused("unknown-conversation", f"there is no conversation {conversation_id}")
    if row[state] == "shredded":
        raise Refused("key-shredded", f"the keys of conversation {conversation_id} were shredded")
    return row

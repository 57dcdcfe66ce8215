"""Encryption of contents at rest: the service that the other parts and the jobs use."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

from engine import Clock
from processors.database.pool import Database
from processors.errors import Refused
from processors.services.data_keys import DataKeys
from processors.services.decrypting import Decrypting
from processors.services.encrypting import StoredContents
from processors.services.key_changes import KeyChanges
from processors.services.keyrings import open_keys
from processors.services.keys import KeyProvider, Random
from processors.services.protocols import Envelope, Place
from processors.services.sealer import ContentSealer
from processors.settings.encryption import EncryptionSettings
from schemas.messages import (
    Decrypt,
    DecryptResult,
    Encrypt,
    EncryptResult,
    ReEncrypt,
    ReEncryptResult,
    Rewrap,
    RewrapResult,
    Rotate,
    RotateResult,
    Shred,
    ShredResult,
    TurnOn,
    TurnOnResult,
)


class EncryptionService:
    """
    Seals and opens contents of conversations, and changes their keys; a ``Sealer``.

    Any method may raise ``ServiceUnavailable`` where the key provider cannot serve now, and
    ``ConfigurationError`` where no provider is set or its key is missing or disabled.

    Args:
        database: Where data keys and messages are.
        provider: Who wraps data keys.
        settings: What may be done with them.
        clock: Where time comes from.
        committed: Called after each commit that left a job in the outbox.
        index: Whether messages that jobs encrypt are followed by ``indexing`` jobs.
        index_elsewhere: Messages are found by an index outside the database, too.
        random: Gives that many random bytes.
    """

    def __init__(
        self,
        database: Database,
        provider: KeyProvider,
        settings: EncryptionSettings,
        *,
        clock: Clock,
        committed: Callable[[], None] = lambda: None,
        index: bool = True,
        index_elsewhere: bool = False,
        random: Random = os.urandom,
    ) -> None:
        rows_max = settings.chunk_rows
        keys = DataKeys(database, provider, settings, clock=clock, random=random)
        self._sealer = ContentSealer(database, keys, random=random)
        self._stored = StoredContents(
            database,
            self._sealer,
            keys,
            rows_max=rows_max,
            index=index,
            index_elsewhere=index_elsewhere,
        )
        self._changes = KeyChanges(
            database,
            provider,
            keys,
            rows_max=rows_max,
            held_ms=settings.cache_ttl_s * 1000,
            index_elsewhere=index_elsewhere,
        )
        self._decrypting = Decrypting(database, self._sealer, settings)
        self._committed = committed

    async def seal(self, place: Place, plaintext: bytes) -> Envelope:
        """
        Encrypt with the conversation's present data key, which is made where there is none.

        Raises:
            Refused: ``unknown-conversation``, or ``key-shredded``.
        """
        return await self._sealer.seal(place, plaintext)

    async def seal_many(self, contents: Sequence[tuple[Place, bytes]]) -> list[Envelope]:
        """Encrypt several contents, in their order; raises as :meth:`seal`."""
        return await self._sealer.seal_many(contents)

    async def open(self, place: Place, envelope: Envelope) -> bytes:
        """
        Decrypt.

        Raises:
            Refused: ``undecryptable``: the record is damaged or belongs elsewhere;
                ``unknown-key``: its key has no row; ``key-shredded``: it was made unreadable.
        """
        return await self._sealer.open(place, envelope)

    async def open_many(self, records: Sequence[tuple[Place, Envelope]]) -> list[bytes | Refused]:
        """Decrypt several records, in their order; one that does not open is its reason."""
        return await self._sealer.open_many(records)

    async def fingerprint(self, conversation_id: UUID, data: bytes) -> bytes:
        """Return a keyed hash of 32 bytes, the same for the same data and conversation for ever."""
        return await self._sealer.fingerprint(conversation_id, data)

    async def blind(self, conversation_id: UUID, terms: Iterable[str]) -> list[bytes]:
        """Return keyed hashes of 8 bytes of search terms, in the terms' order."""
        return await self._sealer.blind(conversation_id, terms)

    async def turn_on(self, payload: TurnOn) -> TurnOnResult:
        """
        Encrypt a conversation from now on, and enqueue the encryption of what it holds.

        Doing it again changes nothing.

        Raises:
            Refused: ``unknown-conversation``, or ``key-shredded``.
        """
        result = await self._changes.turn_on(payload)
        self._committed()
        return result

    async def encrypt(self, payload: Encrypt, *, job_id: str) -> EncryptResult:
        """
        Encrypt messages that are kept in plain though their conversation is encrypted.

        Others are passed over: those that are encrypted, deleted or in plain conversations. What
        plain words of them the search index holds goes with the plain content.
        """
        result = await self._stored.encrypt(payload, job_id=job_id)
        self._committed()
        return result

    async def re_encrypt(self, payload: ReEncrypt, *, job_id: str) -> ReEncryptResult:
        """Bring messages from retired keys to the present ones; those that do not open stay."""
        result = await self._stored.re_encrypt(payload, job_id=job_id)
        self._committed()
        return result

    async def decrypt(self, payload: Decrypt, *, job_id: str) -> DecryptResult:
        """
        Read messages: all that are there, or none where one does not open.

        Raises:
            Refused: ``decrypt-not-allowed``; ``result-too-large``; or as :meth:`open`.
        """
        return await self._decrypting.decrypt(payload, job_id=job_id)

    async def rotate(self, payload: Rotate, *, job_id: str) -> RotateResult:
        """
        Give a conversation a new data key, once per job.

        Raises:
            Refused: ``unknown-conversation``, or ``key-shredded``.
        """
        result = await self._changes.rotate(payload, job_id=job_id)
        self._committed()
        return result

    async def rewrap(self, payload: Rewrap, *, job_id: str) -> RewrapResult:
        """Wrap data keys with the primary key, where another one wrapped them."""
        result = await self._changes.rewrap(payload, job_id=job_id)
        self._committed()
        return result

    async def shred(self, payload: Shred, *, job_id: str) -> ShredResult:
        """
        Destroy the keys of a deleted conversation, and what its search index holds.

        Raises:
            Refused: ``unknown-conversation``, ``conversation-open``, ``legal-hold``, or
                ``not-encrypted`` where plain messages would outlive the keys.
        """
        result = await self._changes.shred(payload, job_id=job_id)
        self._committed()
        return result


@asynccontextmanager
async def open_encryption(
    database: Database,
    settings: EncryptionSettings,
    *,
    clock: Clock,
    committed: Callable[[], None] = lambda: None,
    index: bool = True,
    index_elsewhere: bool = False,
) -> AsyncIterator[EncryptionService]:
    """
    Put the service together from its settings; without a keyring it says so when it is asked.

    Raises:
        ConfigurationError: A keyring or a reply key is set and cannot be used.
    """
    async with open_keys(settings) as provider:
        yield EncryptionService(
            database,
            provider,
            settings,
            clock=clock,
            committed=committed,
            index=index,
            index_elsewhere=index_elsewhere,
        )

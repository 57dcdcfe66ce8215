"""Sealing and opening of contents, and hashes that stand in for contents."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from uuid import UUID

import structlog

from processors.database.pool import Database
from processors.database.statements import encryption as statements
from processors.errors import Refused
from processors.rules.envelope import (
    NONCE_BYTES,
    BadRecord,
    associated,
    blind_terms,
    decrypt,
    encrypt,
    keyed_hash,
)
from processors.services.data_keys import DataKey, DataKeys
from processors.services.keys import Random
from processors.services.protocols import Envelope, Place

log = structlog.get_logger("processors.encryption")

DAMAGED = frozenset({"undecryptable", "unknown-key"})
"""Reasons for which a record is set aside."""


class ContentSealer:
    """
    Seals and opens contents of conversations; a ``Sealer``.

    Records that do not open are quarantined: noted once per version of their message, told in the
    audit log, and left as they are.

    Args:
        database: Where data keys are.
        keys: Finds and makes them.
        random: Gives that many random bytes.
    """

    def __init__(
        self,
        database: Database,
        keys: DataKeys,
        *,
        random: Random = os.urandom,
    ) -> None:
        self._database = database
        self._keys = keys
        self._random = random

    async def seal(self, place: Place, plaintext: bytes) -> Envelope:
        """
        Encrypt with the conversation's present data key, which is made where there is none.

        Raises:
            Refused: ``unknown-conversation``, or ``key-shredded``.
            ServiceUnavailable: The key provider cannot serve now.
            ConfigurationError: No provider is set, or its key is missing or disabled.
        """
        key = await self._keys.sealing(place.conversation_id)
        return self._sealed(key, place, plaintext)

    async def seal_many(self, contents: Sequence[tuple[Place, bytes]]) -> list[Envelope]:
        """Encrypt several contents, in their order; raises as :meth:`seal`."""
        counts: dict[UUID, int] = {}
        for place, _ in contents:
            counts[place.conversation_id] = counts.get(place.conversation_id, 0) + 1
        keys = {
            conversation_id: await self._keys.sealing(conversation_id, count)
            for conversation_id, count in counts.items()
        }
        return [
            self._sealed(keys[place.conversation_id], place, plaintext)
            for place, plaintext in contents
        ]

    async def open(self, place: Place, envelope: Envelope) -> bytes:
        """
        Decrypt.

        Raises:
            Refused: ``undecryptable``: the record is damaged or belongs elsewhere;
                ``unknown-key``: its key has no row; ``key-shredded``: it was made unreadable.
            ServiceUnavailable: The key provider cannot serve now.
            ConfigurationError: The key is missing or disabled.
        """
        (opened,) = await self.open_many([(place, envelope)])
        if isinstance(opened, Refused):
            raise opened
        return opened

    async def open_many(self, records: Sequence[tuple[Place, Envelope]]) -> list[bytes | Refused]:
        """
        Decrypt several records, of any conversations, in their order.

        A record that does not open stands there as the reason, so that one does not keep the
        others from being read. Trouble with the key provider is raised, as by :meth:`open`.
        """
        keys = await self._keys.by_id({envelope.key_id for _, envelope in records})
        opened = [_opened(keys[envelope.key_id], place, envelope) for place, envelope in records]
        await self._set_aside(
            [
                (place, envelope, reason)
                for (place, envelope), reason in zip(records, opened, strict=True)
                if isinstance(reason, Refused) and reason.code in DAMAGED
            ]
        )
        return opened

    async def fingerprint(self, conversation_id: UUID, data: bytes) -> bytes:
        """
        Return a keyed hash of 32 bytes, the same for the same data and conversation for ever.

        Raises as :meth:`seal`.
        """
        return keyed_hash((await self._keys.index(conversation_id)).fingerprint, data)

    async def blind(self, conversation_id: UUID, terms: Iterable[str]) -> list[bytes]:
        """
        Return keyed hashes of 8 bytes of search terms, in the terms' order.

        Raises as :meth:`seal`.
        """
        return blind_terms((await self._keys.index(conversation_id)).blind, terms)

    def _sealed(self, key: DataKey, place: Place, plaintext: bytes) -> Envelope:
        nonce = self._random(NONCE_BYTES)
        return Envelope(key.id, encrypt(key.cipher, nonce, plaintext, _belonging(key, place)))

    async def _set_aside(self, bad: Sequence[tuple[Place, Envelope, Refused]]) -> None:
        if not bad:
            return
        rows = await self._database.fetch(
            statements.QUARANTINE,
            [place.message_id for place, _, _ in bad],
            [envelope.key_id for _, envelope, _ in bad],
            [envelope.ciphertext for _, envelope, _ in bad],
            [reason.code for _, _, reason in bad],
        )
        for row in rows:
            log.error("message_quarantined", message_id=str(row["message_id"]), code=row["code"])


def _opened(key: DataKey | Refused, place: Place, envelope: Envelope) -> bytes | Refused:
    where = f"message {place.message_id}"
    if isinstance(key, Refused):
        return Refused(key.code, f"{where}: {key.detail}")
    if key.conversation_id != place.conversation_id:
        return Refused("undecryptable", f"{where}: its key is of another conversation")
    try:
        return decrypt(key.cipher, envelope.ciphertext, _belonging(key, place))
    except BadRecord as error:
        return Refused("undecryptable", f"{where}: {error}")


def _belonging(key: DataKey, place: Place) -> bytes:
    return associated(
        tenant=key.tenant,
        conversation_id=place.conversation_id,
        message_id=place.message_id,
        version=place.version,
        field=place.field,
        key_id=key.id,
    )

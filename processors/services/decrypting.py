"""
Reading of encrypted messages on somebody's behalf.

The results of jobs are kept in Redis, so a value leaves sealed to a key that the settings name.
Anything less is for the settings to allow, and every use stands in the audit log before a value
is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import asyncpg
import structlog

from processors.database.inbox import once
from processors.database.pool import Database
from processors.database.statements import encryption as statements
from processors.errors import ConfigurationError, Refused
from processors.rules.replies import BadReplyKey, key_bytes, sealed
from processors.services.encrypting import TYPE, Moved, unmoved
from processors.services.protocols import Envelope, Place
from processors.services.sealer import ContentSealer
from processors.settings.encryption import EncryptionSettings
from schemas.messages import Decrypt, Decrypted, DecryptResult

if TYPE_CHECKING:
    from processors.database.pool import Connection

log = structlog.get_logger("processors.encryption")

RESULT_BYTES_MAX: Final = 60_000
"""An engine keeps results up to 64 KiB, and this leaves room for their names."""

NOT_ALLOWED: Final = "decrypt-not-allowed"


@dataclass(frozen=True, slots=True)
class Content:
    """
    A message that was read.

    Attributes:
        message_id: The message.
        version: The version of its content.
        key_id: The key that sealed it; None where it is kept in plain.
        plaintext: The content.
    """

    message_id: UUID
    version: int
    key_id: UUID | None
    plaintext: bytes


class Decrypting:
    """
    Reads messages for those who may.

    Args:
        database: Where they are.
        sealer: Opens them.
        settings: Who may, and how.

    Raises:
        ConfigurationError: A reply key in the settings is none.
    """

    def __init__(
        self, database: Database, sealer: ContentSealer, settings: EncryptionSettings
    ) -> None:
        self._database = database
        self._sealer = sealer
        self._settings = settings
        self._reply_keys = [_configured(text) for text in settings.reply_keys]

    async def decrypt(self, payload: Decrypt, *, job_id: str) -> DecryptResult:
        """Read messages; see :meth:`EncryptionService.decrypt`."""
        public = None if payload.store else self._receiver(payload)
        if payload.store and not self._settings.decrypt_store:
            raise Refused(
                NOT_ALLOWED,
                "storing decrypted contents undoes encryption at rest; it needs "
                "PROCESSORS_ENCRYPTION_DECRYPT_STORE=1",
            )
        if payload.store:
            result = await unmoved(lambda: self._store(payload, job_id))
        else:
            result = await self._return(payload, public, job_id)
        log.info(
            "messages_decrypted",
            job_id=job_id,
            actor=payload.actor,
            count=len(result.values) + result.stored,
            how=_how(payload, public),
        )
        return result

    def _receiver(self, payload: Decrypt) -> bytes | None:
        """Choose the key to seal values to; None where they may be returned as they are."""
        if payload.reply_key is not None:
            public = key_bytes(payload.reply_key)
            if public not in self._reply_keys:
                raise Refused(NOT_ALLOWED, "replyKey is not among PROCESSORS_ENCRYPTION_REPLY_KEYS")
            return public
        if self._settings.decrypt_plain:
            return None
        if len(self._reply_keys) == 1:
            return self._reply_keys[0]
        raise Refused(
            NOT_ALLOWED,
            "replyKey must name one of several keys"
            if self._reply_keys
            else "values leave sealed to a key of PROCESSORS_ENCRYPTION_REPLY_KEYS, and none is "
            "set: make one with `python -m processors reply-key new FILE`",
        )

    async def _return(self, payload: Decrypt, public: bytes | None, job_id: str) -> DecryptResult:
        async def effects(connection: Connection) -> None:
            await _audit(connection, payload, _how(payload, public))

        await once(self._database, effects, type(None), handler=TYPE, job_id=job_id)
        contents, missing = await self._read(payload.message_ids)
        values = tuple(_value(content, public) for content in contents)
        size = sum(len(value.sealed or value.value or "") + 120 for value in values)
        if size > RESULT_BYTES_MAX:
            raise Refused("result-too-large", f"the values take {size} bytes: ask for fewer")
        return DecryptResult(values=values, stored=0, missing=missing)

    async def _store(self, payload: Decrypt, job_id: str) -> DecryptResult:
        contents, missing = await self._read(payload.message_ids)
        changing = [content for content in contents if content.key_id is not None]

        async def effects(connection: Connection) -> DecryptResult:
            await _audit(connection, payload, "store")
            rows = await connection.fetch(
                statements.STORE,
                [content.message_id for content in changing],
                [content.version for content in changing],
                [content.key_id for content in changing],
                [content.plaintext.decode() for content in changing],
            )
            if len(rows) < len(changing):
                raise Moved
            return DecryptResult(values=(), stored=len(contents), missing=missing)

        return await once(self._database, effects, DecryptResult, handler=TYPE, job_id=job_id)

    async def _read(self, ids: Sequence[UUID]) -> tuple[list[Content], tuple[UUID, ...]]:
        """
        Read messages in the order asked, and tell which are not there.

        Raises:
            Refused: One of them does not open; none is given then.
        """
        found = {row["id"]: row for row in await self._database.fetch(statements.READ, ids)}
        rows = [found[each] for each in dict.fromkeys(ids) if each in found]
        records = [
            (_place(row), Envelope(row["key_id"], row["ciphertext"]))
            for row in rows
            if row["key_id"] is not None
        ]
        opened = dict(
            zip(
                (place.message_id for place, _ in records),
                await self._sealer.open_many(records),
                strict=True,
            )
        )
        for content in opened.values():
            if isinstance(content, Refused):
                raise content
        contents = [
            Content(row["id"], row["version"], row["key_id"], _plaintext(row, opened))
            for row in rows
        ]
        return contents, tuple(each for each in dict.fromkeys(ids) if each not in found)


def _configured(text: str) -> bytes:
    try:
        return key_bytes(text)
    except BadReplyKey as error:
        raise ConfigurationError(f"PROCESSORS_ENCRYPTION_REPLY_KEYS: {error}") from None


def _how(payload: Decrypt, public: bytes | None) -> str:
    if payload.store:
        return "store"
    return "plain" if public is None else "sealed"


def _place(row: asyncpg.Record) -> Place:
    return Place(row["conversation_id"], row["id"], row["version"])


def _plaintext(row: asyncpg.Record, opened: dict[UUID, Any]) -> bytes:
    content = opened.get(row["id"])
    return content if isinstance(content, bytes) else row["body"].encode()


def _value(content: Content, public: bytes | None) -> Decrypted:
    message_id, version = content.message_id, content.version
    if public is None:
        value = content.plaintext.decode()
        return Decrypted(message_id=message_id, version=version, value=value)
    text = sealed(public, content.plaintext, message_id=message_id, version=version)
    return Decrypted(message_id=message_id, version=version, sealed=text)


async def _audit(connection: Connection, payload: Decrypt, how: str) -> None:
    subject = {"messageIds": payload.message_ids, "reason": payload.reason, "how": how}
    if payload.reply_key is not None:
        subject["replyKey"] = payload.reply_key
    await connection.execute(statements.AUDIT, payload.actor, "encryption.decrypt", subject)

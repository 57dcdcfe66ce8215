"""
Attachments: from an upload to the message that claims it.

An upload begins with its row and a random key, then the object is written, then the row is
``ready``; sending a message claims it. Whatever dies in between leaves a row that expires, never
an object without a row.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

import asyncpg

from engine import Clock
from processors.database.pool import Database
from processors.database.statements import attachments as statements
from processors.errors import ConfigurationError, Refused
from processors.rules.ids import uuid_v7
from processors.rules.object_keys import new_key, part_key
from processors.rules.retention import instant_of
from processors.services.objects import ObjectExists, ObjectMissing, ObjectStore
from processors.services.removal import release
from processors.settings.objects import ObjectSettings

if TYPE_CHECKING:
    from asyncpg import Record

MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,126}/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}")


class Upload(NamedTuple):
    """
    An upload that has begun.

    Attributes:
        attachment_id: The attachment's id, for the message.
        url: Where the client writes the object with PUT; None where the store cannot sign, and
            the application hands the bytes to :meth:`AttachmentStore.put`.
        expires_at: It is removed then, unless a message has claimed it.
    """

    attachment_id: UUID
    url: str | None
    expires_at: datetime


class Attachment(NamedTuple):
    """
    An attachment.

    Attributes:
        id: Its id.
        state: ``pending``, ``ready`` or ``attached``.
        media_type: What the owner says it is.
        size: Its size in bytes.
        sha256: Its hash, where it is known.
    """

    id: UUID
    state: str
    media_type: str
    size: int
    sha256: bytes | None


class AttachmentStore:
    """
    Takes uploads in and hands them out.

    Args:
        database: Where the rows are.
        objects: Where the contents are; None where none is set.
        settings: Bounds and durations.
        clock: The time.
        random: Gives that many random bytes, which nobody can guess.
    """

    def __init__(
        self,
        database: Database,
        objects: ObjectStore | None,
        settings: ObjectSettings,
        *,
        clock: Clock,
        random: Callable[[int], bytes],
    ) -> None:
        self._database = database
        self._objects = objects
        self._settings = settings
        self._clock = clock
        self._random = random

    async def begin_upload(self, owner_id: UUID, media_type: str, size: int) -> Upload:
        """
        Begin an upload.

        Raises:
            Refused: The type, the size or the owner does not fit.
            ConfigurationError: No object store is set.
        """
        objects = self._store()
        if not MEDIA_TYPE.fullmatch(media_type):
            raise Refused("invalid-media-type", "a media type is written type/subtype, lower case")
        if not 0 <= size <= self._settings.size_max:
            raise Refused("invalid-size", f"{size} bytes; at most {self._settings.size_max}")
        now_ms = self._clock.now_ms()
        attachment_id, key = uuid_v7(now_ms, self._random), new_key(self._random)
        expires_at = instant_of(now_ms) + timedelta(hours=self._settings.unclaimed_hours)
        try:
            await self._database.execute(
                statements.BEGIN,
                attachment_id,
                owner_id,
                key,
                media_type,
                size,
                instant_of(now_ms),
                expires_at,
            )
        except asyncpg.ForeignKeyViolationError as error:
            raise Refused("unknown-user", f"there is no user {owner_id}") from error
        url = await objects.sign("PUT", key, valid_s=self._settings.upload_url_s)
        return Upload(attachment_id, url, expires_at)

    async def complete_upload(
        self, attachment_id: UUID, owner_id: UUID, *, sha256: bytes | None = None
    ) -> Attachment:
        """
        Say that the object is written; doing it again changes nothing.

        Args:
            attachment_id: The attachment.
            owner_id: Who uploaded it.
            sha256: The content's hash, which is then checked by reading the object.

        Raises:
            Refused: There is no such upload or object, or it is not what was announced; an object
                of another size or hash is removed.
        """
        objects = self._store()
        row = await self._own(attachment_id, owner_id)
        if row["state"] != "pending":
            return _attachment(row)
        try:
            found = await objects.head(row["object_key"])
            digest = None if sha256 is None else await self._digest(row["object_key"])
        except ObjectMissing as error:
            raise Refused("not-uploaded", f"there is no object of {attachment_id}") from error
        if found.size != row["size"] or digest != sha256:
            await self.discard(attachment_id, owner_id)
            raise Refused(
                "upload-differs",
                f"attachment {attachment_id}: {found.size} bytes, {row['size']} were announced"
                if found.size != row["size"]
                else f"attachment {attachment_id} has another hash than announced",
            )
        await self._database.execute(statements.COMPLETE, attachment_id, found.size, sha256)
        return _attachment(await self._own(attachment_id, owner_id))

    async def put(self, attachment_id: UUID, owner_id: UUID, data: bytes) -> Attachment:
        """
        Write the object on the owner's behalf and complete the upload; repeatable.

        Raises:
            Refused: There is no such upload, or the data is not what was announced.
        """
        objects = self._store()
        row = await self._own(attachment_id, owner_id)
        if row["state"] == "pending":
            if len(data) != row["size"]:
                raise Refused("upload-differs", f"{len(data)} bytes, {row['size']} were announced")
            # An earlier try may have written it, or another content: the hash tells.
            with contextlib.suppress(ObjectExists):
                await objects.put(row["object_key"], data, row["media_type"])
        digest = hashlib.sha256(data).digest()
        return await self.complete_upload(attachment_id, owner_id, sha256=digest)

    async def put_thumbnail(
        self, attachment_id: UUID, owner_id: UUID, name: str, data: bytes, media_type: str
    ) -> None:
        """
        Add something made of an attachment, which goes with it.

        Its key is in the row before the object is written.

        Raises:
            Refused: There is no such attachment.
        """
        objects = self._store()
        row = await self._own(attachment_id, owner_id)
        key = part_key(row["object_key"], name)
        if await self._database.fetchrow(statements.ADD_THUMBNAIL, attachment_id, key) is None:
            raise Refused("unknown-attachment", f"attachment {attachment_id} was removed")
        with contextlib.suppress(ObjectExists):
            await objects.put(key, data, media_type)

    async def open(self, attachment_id: UUID, user_id: UUID) -> AsyncIterator[bytes]:
        """
        Read an attachment piece by piece.

        Raises:
            Refused: There is none that the user may see, or its object is gone.
        """
        objects = self._store()
        row = await self._visible(attachment_id, user_id)
        try:
            async for chunk in objects.stream(row["object_key"]):
                yield chunk
        except ObjectMissing as error:
            raise Refused("object-missing", f"attachment {attachment_id} has no object") from error

    async def describe(self, attachment_id: UUID, user_id: UUID) -> Attachment:
        """
        Tell of an attachment.

        Raises:
            Refused: There is none that the user may see.
        """
        return _attachment(await self._visible(attachment_id, user_id))

    async def download_url(self, attachment_id: UUID, user_id: UUID) -> str | None:
        """
        Make a URL to read an attachment from, for a while; None where the store cannot sign.

        Raises:
            Refused: There is none that the user may see.
        """
        objects = self._store()
        row = await self._visible(attachment_id, user_id)
        return await objects.sign("GET", row["object_key"], valid_s=self._settings.download_url_s)

    async def discard(self, attachment_id: UUID, owner_id: UUID) -> bool:
        """Give up an upload that no message claimed; tells whether there was one."""
        async with self._database.transaction() as connection:
            found = await connection.fetchrow(statements.DISCARD, attachment_id, owner_id)
            if found is None:
                return False
            await release(connection, {attachment_id}, instant_of(self._clock.now_ms()))
        return True

    def _store(self) -> ObjectStore:
        if self._objects is None:
            raise ConfigurationError(
                "attachments need an object store: set PROCESSORS_OBJECTS_URL, "
                "for example to s3://bucket or file:///directory"
            )
        return self._objects

    async def _own(self, attachment_id: UUID, owner_id: UUID) -> Record:
        row = await self._database.fetchrow(statements.FIND_OWN, attachment_id, owner_id)
        if row is None:
            raise Refused("unknown-attachment", f"user {owner_id} has no upload {attachment_id}")
        return row

    async def _visible(self, attachment_id: UUID, user_id: UUID) -> Record:
        row = await self._database.fetchrow(statements.VISIBLE, attachment_id, user_id)
        if row is None:
            raise Refused("unknown-attachment", f"user {user_id} sees no {attachment_id}")
        return row

    async def _digest(self, key: str) -> bytes:
        digest = hashlib.sha256()
        async for chunk in self._store().stream(key):
            digest.update(chunk)
        return digest.digest()


def _attachment(row: Record) -> Attachment:
    return Attachment(row["id"], row["state"], row["media_type"], row["size"], row["sha256"])

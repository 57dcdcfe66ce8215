"""Cleanup over a database and an object store, at a time of the test's choosing."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec

from engine import SystemClock
from engine.testing import ManualClock
from processors.services.attachments import AttachmentStore
from processors.services.governance import GovernanceService
from processors.services.objects import Objects, ObjectStore, open_objects
from processors.services.retention import RetentionService
from processors.settings import ProcessorSettings
from processors.settings.objects import ObjectSettings
from processors.settings.retention import RetentionSettings
from processors.settings.search import SearchSettings
from schemas.messages import (
    CleanupDeletedConversations,
    CleanupExpiredAttachments,
    CleanupOldMessages,
    CleanupResult,
    Housekeeping,
    ReconcileObjects,
    SendMessage,
)
from tests.integration.processors.world import World, open_world

DAY_S = 86_400
BRISK = RetentionSettings(days=30, pause_ms=0, overdue_s=300)
"""Settings of tests: a default policy, no rests, and little patience."""


def days_ahead(days: float) -> int:
    """Unix ms of a moment that many days from now: rows of the database are of now."""
    return SystemClock().now_ms() + int(days * DAY_S * 1000)


@dataclass
class Keeper:
    """
    The services of cleanup, and short ways to set a scene.

    Attributes:
        world: People and messages.
        store: Where objects are.
        settings: Of retention.
        object_settings: Of the object store.
        search: Of the search index.
        clock: Stands still until it is moved.
    """

    world: World
    store: ObjectStore | None
    settings: RetentionSettings = BRISK
    object_settings: ObjectSettings = field(default_factory=ObjectSettings)
    search: SearchSettings = field(default_factory=SearchSettings)
    clock: ManualClock = field(default_factory=lambda: ManualClock(days_ahead(0)))

    @property
    def retention(self) -> RetentionService:
        """The service under test, as the settings are now."""
        return RetentionService(
            self.world.database,
            self.store,
            ProcessorSettings(
                retention=self.settings, objects=self.object_settings, search=self.search
            ),
            clock=self.clock,
            committed=self.world.committed,
        )

    @property
    def attachments(self) -> AttachmentStore:
        """The service under test."""
        return AttachmentStore(
            self.world.database,
            self.store,
            self.object_settings,
            clock=self.clock,
            random=os.urandom,
        )

    @property
    def governance(self) -> GovernanceService:
        """The service under test."""
        return GovernanceService(self.world.database, committed=self.world.committed)

    def set(self, **changes: Any) -> None:
        """Change settings of retention."""
        self.settings = msgspec.structs.replace(self.settings, **changes)

    async def conversation(self, messages: int, *, members: int = 2) -> tuple[UUID, list[UUID]]:
        """Make a conversation with that many messages of its first member."""
        conversation, users = await self.world.conversation(members)
        for _ in range(messages):
            await self.world.send(conversation, users[0])
        return conversation, users

    async def index(self) -> None:
        """Write an entry of the search index for each message."""
        await self.world.database.execute(
            "INSERT INTO message_search"
            " (message_id, conversation_id, sender_id, seq, sent_at, version, tsv)"
            " SELECT id, conversation_id, sender_id, seq, created_at, version, 'a'::tsvector"
            " FROM messages ON CONFLICT DO NOTHING"
        )

    async def unindexed(self) -> set[UUID]:
        """List the messages that jobs are to take out of an index elsewhere."""
        return {
            UUID(each)
            for data in await self.world.values(
                "SELECT payload->'data' FROM outbox WHERE topic = 'job' AND key = 'indexing'"
                " AND payload->'data'->>'action' = 'delete'"
            )
            for each in data["messageIds"]
        }

    async def age(self, conversation: UUID, *, days: float, up_to_seq: int) -> None:
        """Make the first messages of a conversation older."""
        await self.world.database.execute(
            "UPDATE messages SET created_at = created_at - $3::interval "
            "WHERE conversation_id = $1 AND seq <= $2",
            conversation,
            up_to_seq,
            timedelta(days=days),
        )

    async def upload(self, owner: UUID, data: bytes = b"picture") -> UUID:
        """Upload an attachment."""
        upload = await self.attachments.begin_upload(owner, "image/png", len(data))
        await self.attachments.put(upload.attachment_id, owner, data)
        return upload.attachment_id

    async def send_with(self, conversation: UUID, sender: UUID, *attachments: UUID) -> UUID:
        """Send a message with attachments."""
        result = await self.world.messages.send(
            SendMessage(
                conversation_id=conversation,
                sender_id=sender,
                content="see this",
                client_message_id=str(uuid4()),
                attachments=attachments,
            )
        )
        return result.message_id

    async def living(self, conversation: UUID) -> list[int]:
        """List the numbers of messages that still have contents."""
        return await self.world.values(
            "SELECT seq FROM messages WHERE conversation_id = $1 AND body IS NOT NULL ORDER BY 1",
            conversation,
        )

    async def rows(self, conversation: UUID) -> list[int]:
        """List the numbers of messages that have a row."""
        return await self.world.values(
            "SELECT seq FROM messages WHERE conversation_id = $1 ORDER BY seq", conversation
        )

    async def mark(self, conversation: UUID) -> int:
        """Return up to where the conversation's messages are gone."""
        found = await self.world.value(
            "SELECT purged_through_seq FROM conversations WHERE id = $1", conversation
        )
        assert isinstance(found, int)
        return found

    async def old(self, **fields: Any) -> CleanupResult:
        """Run ``cleanup_old_messages``."""
        order = CleanupOldMessages(**fields)
        return await self.retention.purge_messages(order, job_id=str(uuid4()))

    async def deleted(self, **fields: Any) -> CleanupResult:
        """Run ``cleanup_deleted_conversations``."""
        order = CleanupDeletedConversations(**fields)
        return await self.retention.purge_conversations(order, job_id=str(uuid4()))

    async def expired(self, **fields: Any) -> CleanupResult:
        """Run ``cleanup_expired_attachments``."""
        order = CleanupExpiredAttachments(**fields)
        return await self.retention.expire_attachments(order, job_id=str(uuid4()))

    async def reconciled(self, **fields: Any) -> CleanupResult:
        """Run ``reconcile_objects``."""
        order = ReconcileObjects(**fields)
        return await self.retention.reconcile_objects(order, job_id=str(uuid4()))

    async def kept_house(self, **fields: Any) -> CleanupResult:
        """Run ``housekeeping``."""
        return await self.retention.keep_house(Housekeeping(**fields), job_id=str(uuid4()))

    async def keys(self) -> set[str]:
        """List all objects."""
        assert self.store is not None
        return {each.key async for chunk in self.store.list("") for each in chunk}

    async def known_keys(self) -> set[str]:
        """List the keys that rows and ledger have."""
        return set(
            await self.world.values(
                "SELECT unnest(object_key || thumbnail_keys) FROM attachments"
                " WHERE state <> 'pending' UNION SELECT key FROM object_deletions"
            )
        )

    async def tables(self) -> dict[str, list[str]]:
        """Return the rows of each table that cleanup may touch."""
        found = {}
        for table in TABLES:
            rows = await self.world.values(f"SELECT t::text FROM {table} t ORDER BY 1")
            found[table] = rows
        return found


TABLES = (
    "conversations",
    "conversation_members",
    "messages",
    "message_deliveries",
    "message_attachments",
    "message_search",
    "attachments",
    "object_deletions",
    "notifications",
    "encryption_keys",
    "job_inbox",
    "outbox",
    "audit_log",
)


def local_store(directory: Any) -> Objects:
    """Open a store over a directory."""
    store = open_objects(ObjectSettings(url=f"file://{directory}"))
    assert store is not None
    return store


@asynccontextmanager
async def open_keeper(now_ms: int, store: ObjectStore | None) -> AsyncIterator[Keeper]:
    """Open services in a process of their own."""
    async with open_world() as world:
        yield Keeper(world, store, clock=ManualClock(now_ms))

"""Cleanup that is killed anywhere and run again leaves what one run leaves, and objects = rows."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Literal
from uuid import UUID, uuid4

import obstore.store  # noqa: F401 - before processes are forked, as all else
import pytest

from processors.database.migrations import migrate
from processors.services import object_cleanup
from processors.services.objects import ObjectStore, Stored
from schemas.messages import (
    CleanupDeletedConversations,
    CleanupExpiredAttachments,
    CleanupOldMessages,
    Housekeeping,
    ReconcileObjects,
)
from tests.integration.processors.keeper import Keeper, days_ahead, local_store, open_keeper
from tests.support.steps import kill_at_each_step, step

pytestmark = pytest.mark.servers

OBJECTS = "TEST_OBJECTS"


class Stepping:
    """A store each of whose calls is a step."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store

    async def put(self, key: str, data: bytes, media_type: str) -> None:
        step()
        await self.store.put(key, data, media_type)
        step()

    async def head(self, key: str) -> Stored:
        step()
        return await self.store.head(key)

    async def delete(self, key: str) -> bool:
        step()
        found = await self.store.delete(key)
        step()
        return found

    async def list(self, prefix: str) -> AsyncIterator[list[Stored]]:
        step()
        async for chunk in self.store.list(prefix):
            yield chunk

    async def stream(self, key: str) -> AsyncIterator[bytes]:
        step()
        async for chunk in self.store.stream(key):
            yield chunk

    async def sign(self, method: Literal["GET", "PUT"], key: str, *, valid_s: int) -> str | None:
        return await self.store.sign(method, key, valid_s=valid_s)


def opened(days: float) -> AbstractAsyncContextManager[Keeper]:
    """Open services that many days from now, in batches that are small enough to be many."""
    return open_keeper(days_ahead(days), Stepping(local_store(os.environ[OBJECTS])))


class Scenario:
    """What the scenarios share: objects are those of the rows, whatever was killed."""

    days = 40.0

    async def differences(self, keeper: Keeper) -> list[int]:
        """Count objects without a row, and rows without an object."""
        objects, rows = await keeper.keys(), await keeper.known_keys()
        queued = set(await keeper.world.values("SELECT key FROM object_deletions"))
        return [len(objects - rows), len(rows - objects - queued)]

    async def result(self, keeper: Keeper, scene: dict[str, Any]) -> Any:
        """Return what the job has recorded as its result."""
        return await keeper.world.value(
            "SELECT result->'result'->'counts' FROM job_inbox"
            " WHERE handler = 'cleanup' AND job_id = $1",
            scene["job"],
        )


class ClearsOnce(Scenario):
    """Old messages lose their contents."""

    async def prepare(self) -> dict[str, Any]:
        async with opened(0) as keeper:
            conversation, _ = await keeper.conversation(4)
            await keeper.age(conversation, days=31, up_to_seq=3)
            await keeper.index()
            return {"conversation": str(conversation), "job": str(uuid4())}

    async def run(self, scene: dict[str, Any]) -> None:
        async with opened(0) as keeper:
            keeper.set(batch_rows=2)
            order = CleanupOldMessages(conversation_id=UUID(scene["conversation"]))
            await keeper.retention.purge_messages(order, job_id=scene["job"])

    async def observe(self, scene: dict[str, Any]) -> Any:
        async with opened(0) as keeper:
            conversation = UUID(scene["conversation"])
            events = await keeper.world.values(
                "SELECT payload->>'purgedThroughSeq' FROM outbox WHERE key = $1"
                " AND payload->>'type' = 'conversation.purged'",
                scene["conversation"],
            )
            found = await keeper.world.values(
                "SELECT seq FROM message_search WHERE conversation_id = $1 ORDER BY seq",
                conversation,
            )
            return [
                await keeper.living(conversation),
                await keeper.rows(conversation),
                await keeper.mark(conversation),
                events,
                found,
                await self.result(keeper, scene),
            ]


class RemovesOnce(Scenario):
    """Cleared messages go, and attachments with the last message that holds them."""

    async def prepare(self) -> dict[str, Any]:
        async with opened(0) as keeper:
            conversation, users = await keeper.conversation(1)
            shared, single = await keeper.upload(users[0]), await keeper.upload(users[0])
            await keeper.send_with(conversation, users[0], shared, single)
            await keeper.send_with(conversation, users[0], shared)
            await keeper.age(conversation, days=31, up_to_seq=2)
            await keeper.old(conversation_id=conversation)
            return {
                "conversation": str(conversation),
                "owner": str(users[0]),
                "job": str(uuid4()),
                "drain": str(uuid4()),
            }

    async def run(self, scene: dict[str, Any]) -> None:
        async with opened(8) as keeper:
            order = CleanupOldMessages(conversation_id=UUID(scene["conversation"]))
            await keeper.retention.purge_messages(order, job_id=scene["job"])
            await keeper.retention.drain_object_deletions(job_id=scene["drain"])

    async def observe(self, scene: dict[str, Any]) -> Any:
        async with opened(8) as keeper:
            held = await keeper.world.value(
                "SELECT count(*) FROM attachments WHERE owner_id = $1", UUID(scene["owner"])
            )
            return [
                await keeper.rows(UUID(scene["conversation"])),
                held,
                await self.differences(keeper),
                await keeper.world.value("SELECT count(*) FROM object_deletions"),
                await self.result(keeper, scene),
            ]


class RemovesConversationOnce(Scenario):
    """A deleted conversation goes with all that is in it."""

    async def prepare(self) -> dict[str, Any]:
        async with opened(0) as keeper:
            conversation, users = await keeper.conversation(2)
            await keeper.send_with(conversation, users[0], await keeper.upload(users[0]))
            await keeper.world.database.execute(
                "INSERT INTO encryption_keys (id, conversation_id, purpose, epoch, kek_id, wrapped)"
                " VALUES ($1, $2, 'data', 1, 'k', 'w')",
                uuid4(),
                conversation,
            )
            await keeper.governance.soft_delete(conversation, actor="ann")
            return {"conversation": str(conversation), "job": str(uuid4()), "drain": str(uuid4())}

    async def run(self, scene: dict[str, Any]) -> None:
        async with opened(self.days) as keeper:
            order = CleanupDeletedConversations(conversation_id=UUID(scene["conversation"]))
            await keeper.retention.purge_conversations(order, job_id=scene["job"])
            await keeper.retention.drain_object_deletions(job_id=scene["drain"])

    async def observe(self, scene: dict[str, Any]) -> Any:
        async with opened(self.days) as keeper:
            left = [
                await keeper.world.value(
                    f"SELECT count(*) FROM {table} t WHERE t::text LIKE '%' || $1 || '%'",
                    scene["conversation"],
                )
                for table in ("conversations", "messages", "conversation_members")
            ]
            audited = await keeper.world.values(
                "SELECT action FROM audit_log WHERE subject->>'conversationId' = $1 ORDER BY id",
                scene["conversation"],
            )
            result = await self.result(keeper, scene)
            return [left, audited, await self.differences(keeper), result]


class ExpiresOnce(Scenario):
    """Uploads that nobody claimed go with their objects."""

    async def prepare(self) -> dict[str, Any]:
        async with opened(0) as keeper:
            _, (owner,) = await keeper.world.conversation(1)
            await keeper.upload(owner)
            await keeper.attachments.begin_upload(owner, "image/png", 5)
            return {"owner": str(owner), "job": str(uuid4())}

    async def run(self, scene: dict[str, Any]) -> None:
        async with opened(self.days) as keeper:
            await keeper.retention.expire_attachments(
                CleanupExpiredAttachments(), job_id=scene["job"]
            )

    async def observe(self, scene: dict[str, Any]) -> Any:
        async with opened(self.days) as keeper:
            left = await keeper.world.value("SELECT count(*) FROM attachments")
            result = await self.result(keeper, scene)
            # One that is killed after the deletion finds the object missing: as good as deleted.
            gone = result.pop("objectsDeleted", 0) + result.pop("objectsMissing", 0)
            queued = await keeper.world.value("SELECT count(*) FROM object_deletions")
            return [left, queued, gone, result, await self.differences(keeper)]


class UploadsOnce(Scenario):
    """An upload that dies anywhere is either whole, or goes without a trace."""

    async def prepare(self) -> dict[str, Any]:
        async with opened(0) as keeper:
            _, (owner,) = await keeper.world.conversation(1)
            upload = await keeper.attachments.begin_upload(owner, "image/png", 3)
            return {"owner": str(owner), "upload": str(upload.attachment_id)}

    async def run(self, scene: dict[str, Any]) -> None:
        async with opened(0) as keeper:
            owner = UUID(scene["owner"])
            await keeper.attachments.put(UUID(scene["upload"]), owner, b"png")
            await keeper.attachments.put_thumbnail(
                UUID(scene["upload"]), owner, "small", b"p", "image/png"
            )

    async def observe(self, scene: dict[str, Any]) -> Any:
        async with opened(0) as keeper:
            seen = await keeper.attachments.describe(UUID(scene["upload"]), UUID(scene["owner"]))
            return [seen.state, seen.size, await self.differences(keeper)]


class ReconcilesOnce(Scenario):
    """Objects without a row are deleted, and those with one stay."""

    async def prepare(self) -> dict[str, Any]:
        async with opened(0) as keeper:
            assert keeper.store is not None
            _, (owner,) = await keeper.world.conversation(1)
            kept = f"00/{os.urandom(15).hex()}"
            await keeper.world.database.execute(
                "INSERT INTO attachments (owner_id, object_key, state, size, expires_at)"
                " VALUES ($1, $2, 'ready', 1, 'infinity')",
                owner,
                kept,
            )
            strange = [f"{shard:02x}/{os.urandom(15).hex()}" for shard in (0, 1)]
            for key in (kept, *strange):
                await keeper.store.put(key, b"x", "image/png")
            return {"kept": kept, "strange": strange, "job": str(uuid4())}

    async def run(self, scene: dict[str, Any]) -> None:
        # Two of the shards, so that there are not thousands of steps.
        object_cleanup.SHARDS = 2
        async with opened(self.days) as keeper:
            await keeper.retention.reconcile_objects(ReconcileObjects(), job_id=scene["job"])

    async def observe(self, scene: dict[str, Any]) -> Any:
        async with opened(self.days) as keeper:
            objects = await keeper.keys()
            queued = await keeper.world.value("SELECT count(*) FROM object_deletions")
            return [
                scene["kept"] in objects,
                [key in objects for key in scene["strange"]],
                queued,
                await self.differences(keeper),
            ]


class KeepsHouseOnce(Scenario):
    """Old rows go, and a lost delivery gets one job."""

    async def prepare(self) -> dict[str, Any]:
        async with opened(0) as keeper:
            _, (user,) = await keeper.world.conversation(1)
            job = str(uuid4())
            await keeper.world.database.execute(
                "INSERT INTO job_inbox (handler, job_id)"
                " SELECT $1, n::text FROM generate_series(1, 3) n",
                job,
            )
            delivery = await keeper.world.value(
                "WITH n AS (INSERT INTO notifications (user_id, type, dedup_key)"
                " VALUES ($1, 'x', 'y') RETURNING id)"
                " INSERT INTO notification_deliveries"
                " (notification_id, user_id, channel, target_id, next_at)"
                " SELECT id, $1, 'push', $1, now() FROM n RETURNING id",
                user,
            )
            return {"job": job, "delivery": str(delivery)}

    async def run(self, scene: dict[str, Any]) -> None:
        async with opened(8) as keeper:
            await keeper.retention.keep_house(Housekeeping(), job_id=scene["job"])

    async def observe(self, scene: dict[str, Any]) -> Any:
        async with opened(8) as keeper:
            jobs = await keeper.world.value(
                "SELECT count(*) FROM outbox WHERE payload->'data'->>'deliveryId' = $1",
                scene["delivery"],
            )
            left = await keeper.world.value(
                "SELECT count(*) FROM job_inbox WHERE handler = $1", scene["job"]
            )
            await keeper.world.database.execute("DELETE FROM notification_deliveries")
            return [left, jobs, await self.result(keeper, scene)]


CLEARED = {"messagesCleared": 3, "marksMoved": 1}
REMOVED = {"messagesRemoved": 2, "attachmentsRemoved": 1, "objectsQueued": 1}
CONVERSATION = {
    "messagesRemoved": 3,
    "attachmentsRemoved": 1,
    "objectsQueued": 1,
    "membersRemoved": 2,
    "keysRemoved": 1,
    "conversationsRemoved": 1,
}


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("scenario", "seen"),
    [
        (ClearsOnce, [[4], [1, 2, 3, 4], 3, ["3"], [4], CLEARED]),
        (RemovesOnce, [[3], 1, [0, 0], 0, REMOVED]),
        pytest.param(
            RemovesConversationOnce,
            [[0, 0, 0], ["conversation.deleted", "conversation.removed"], [0, 0], CONVERSATION],
            marks=pytest.mark.full,
        ),
        (ExpiresOnce, [0, 0, 2, {"attachmentsRemoved": 2, "objectsQueued": 2}, [0, 0]]),
        (UploadsOnce, ["ready", 3, [0, 0]]),
        pytest.param(ReconcilesOnce, [True, [False, False], 0, [0, 0]], marks=pytest.mark.full),
        pytest.param(
            KeepsHouseOnce,
            [0, 1, {"inboxRemoved": 3, "deliveriesPutAnew": 1}],
            marks=pytest.mark.full,
        ),
    ],
)
async def test_cleanup_survives_a_kill_at_every_step(
    postgres_url: str, tmp_path: Path, scenario: type, seen: Any
) -> None:
    await migrate(postgres_url)
    environ = {"ENGINE_POSTGRES_URL": postgres_url, OBJECTS: str(tmp_path)}

    steps = kill_at_each_step(f"{__name__}:{scenario.__name__}", environ, timeout_s=280)

    assert steps.unkilled == seen
    assert steps.differing() == {}
    assert len(steps.killed) >= 8

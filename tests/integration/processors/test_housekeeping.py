"""What the back end keeps for itself does not grow for ever, and lost jobs come back."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import AsyncMock
from uuid import UUID, uuid4

import msgspec
import pytest

from engine import Client, Snooze
from processors.services.redis_link import connect
from schemas.messages import (
    BatchMessage,
    DeliverNotification,
    FlushDigest,
    Housekeeping,
    Notification,
    RunBatch,
)
from tests.integration.processors.batches import Batches
from tests.integration.processors.keeper import DAY_S, Keeper

pytestmark = pytest.mark.servers


async def fill(keeper: Keeper, rows: int) -> UUID:
    """Write rows of now into all that is pruned; returns a user."""
    _, (user,) = await keeper.world.conversation(1)
    database = keeper.world.database
    for statement in (
        "INSERT INTO job_inbox (handler, job_id) SELECT 'x', n FROM generate_series(1, $1::int) n",
        (
            "INSERT INTO outbox (topic, key, payload, failed_at)"
            " SELECT 'job', 'q', '{}', now() FROM generate_series(1, $1::int)"
        ),
        (
            "INSERT INTO outbox (topic, key, payload)"
            " SELECT 'user', 'u', '{}' FROM generate_series(1, $1::int)"
        ),
        "INSERT INTO audit_log (actor, action) SELECT 'a', 'b' FROM generate_series(1, $1::int)",
        (
            "INSERT INTO message_batches (id, created_by, spec, spec_hash, total, finished_at)"
            " SELECT gen_random_uuid(), gen_random_uuid(), '{}', '', 1, now()"
            " FROM generate_series(1, $1::int)"
        ),
    ):
        await database.execute(statement, rows)
    await database.execute(
        "INSERT INTO message_batches (id, created_by, spec, spec_hash, total)"
        " VALUES (gen_random_uuid(), gen_random_uuid(), '{}', '', 1)"
    )
    for name, read_at, expires_at in (
        ("unread", None, None),
        ("read", "now()", None),
        ("expired", None, "now()"),
    ):
        await database.execute(
            "INSERT INTO notifications (user_id, type, dedup_key, read_at, expires_at)"
            f" SELECT $2, 'x', '{name}' || n, {read_at or 'NULL'}, {expires_at or 'NULL'}"
            " FROM generate_series(1, $1::int) n",
            rows,
            user,
        )
    return user


async def left(keeper: Keeper) -> dict[str, int]:
    """Count what is there."""
    return {
        table: await keeper.world.value(f"SELECT count(*) FROM {table}")
        for table in ("outbox", "notifications", "message_batches", "audit_log")
    } | {"job_inbox": await keeper.world.value("SELECT count(*) FROM job_inbox WHERE handler='x'")}


@pytest.mark.parametrize(
    ("days", "counts"),
    [
        (6, {}),
        (8, {"inboxRemoved": 3}),
        (
            31,
            {
                "inboxRemoved": 3,
                "outboxRemoved": 3,
                "notificationsReadRemoved": 3,
                "notificationsExpiredRemoved": 3,
                "batchesRemoved": 3,
            },
        ),
        (
            731,
            {
                "inboxRemoved": 3,
                "outboxRemoved": 3,
                "notificationsRemoved": 9,
                "batchesRemoved": 3,
                "auditRemoved": 3,
            },
        ),
    ],
)
async def test_rows_go_once_they_are_old_enough(
    keeper: Keeper, days: int, counts: dict[str, int]
) -> None:
    await fill(keeper, 3)
    keeper.clock.move(days * DAY_S)
    keeper.set(batch_rows=2)

    result = await keeper.kept_house()

    assert result.counts == counts
    assert result.complete
    # Events that wait to be published, and batches that still run, are never old.
    assert (await left(keeper))["outbox"] == 3 + (0 if "outboxRemoved" in counts else 3)
    assert (await left(keeper))["message_batches"] == 1 + (0 if "batchesRemoved" in counts else 3)


async def test_an_audit_log_for_ever_stays(keeper: Keeper) -> None:
    await fill(keeper, 1)
    keeper.set(audit_days=0)
    keeper.clock.move(9_999 * DAY_S)

    await keeper.kept_house()

    assert (await left(keeper))["audit_log"] == 1


async def test_three_workers_prune_every_row_once(keeper: Keeper) -> None:
    await fill(keeper, 40)
    keeper.clock.move(31 * DAY_S)
    keeper.set(batch_rows=3)

    results = await asyncio.gather(*(keeper.kept_house() for _ in range(3)))
    results += [await keeper.kept_house()]

    for name in ("inboxRemoved", "outboxRemoved", "notificationsReadRemoved", "batchesRemoved"):
        assert sum(result.counts.get(name, 0) for result in results) == 40, name


async def test_a_job_leaves_the_rest_to_the_next(keeper: Keeper) -> None:
    await fill(keeper, 5)
    keeper.clock.move(8 * DAY_S)
    keeper.set(job_rows_max=4, batch_rows=3)

    result = await keeper.retention.keep_house(Housekeeping(), job_id="tick")
    again = await keeper.retention.keep_house(Housekeeping(), job_id="tick")
    payload = await keeper.world.value(
        "SELECT payload->'data' FROM outbox WHERE payload->>'id' = 'tick~2'"
    )
    rest = await keeper.retention.keep_house(
        msgspec.convert(payload, Housekeeping), job_id="tick~2"
    )

    assert result == again
    assert result.counts == {"inboxRemoved": 4}
    assert result.follow_up == "tick~2"
    assert rest.counts == {"inboxRemoved": 1}
    assert rest.complete


async def test_a_dry_run_counts_and_changes_nothing(keeper: Keeper) -> None:
    user = await fill(keeper, 2)
    await delivery(keeper, user, "pending")
    keeper.clock.move(31 * DAY_S)
    before = await keeper.tables()

    result = await keeper.kept_house(dry_run=True)

    assert result.counts == {
        "inboxRemoved": 2,
        "outboxRemoved": 2,
        "notificationsReadRemoved": 2,
        "notificationsExpiredRemoved": 2,
        "batchesRemoved": 2,
        "deliveriesPutAnew": 1,
    }
    assert await keeper.tables() == before


async def delivery(keeper: Keeper, user: UUID, state: str, **columns: str) -> UUID:
    """Write a delivery whose time has come now; columns are SQL."""
    notification = await keeper.world.value(
        "INSERT INTO notifications (user_id, type, dedup_key) VALUES ($1, 'x', $2) RETURNING id",
        user,
        str(uuid4()),
    )
    values = {"next_at": "now()", "lease_until": "NULL"} | columns
    found = await keeper.world.value(
        "INSERT INTO notification_deliveries"
        " (notification_id, user_id, channel, target_id, state, next_at, lease_until)"
        f" VALUES ($1, $2, 'push', $2, $3, {values['next_at']}, {values['lease_until']})"
        " RETURNING id",
        notification,
        user,
        state,
    )
    assert isinstance(found, UUID)
    return found


async def jobs(keeper: Keeper) -> list[dict[str, Any]]:
    """List the jobs of the outbox."""
    return await keeper.world.values("SELECT payload FROM outbox WHERE topic = 'job' ORDER BY id")


async def test_deliveries_and_digests_that_lost_their_job_get_another(keeper: Keeper) -> None:
    conversation, (user,) = await keeper.world.conversation(1)
    lost = await delivery(keeper, user, "pending")
    died = await delivery(keeper, user, "sending", lease_until="now()")
    never = await delivery(keeper, user, "pending", next_at="NULL")
    for state in ("sent", "failed", "cancelled", "unknown"):
        await delivery(keeper, user, state)
    await delivery(keeper, user, "pending", next_at="now() + interval '1 day'")
    await delivery(keeper, user, "sending", lease_until="now() + interval '1 day'")
    await keeper.world.database.execute(
        "INSERT INTO notification_digests VALUES ($1, 'email', $2, now(), 1, 1, 1)",
        user,
        conversation,
    )
    early = await keeper.kept_house()
    keeper.clock.move(400)

    result = await keeper.kept_house()

    assert early.counts == {}
    assert result.counts == {"deliveriesPutAnew": 3, "digestsPutAnew": 1}
    found = await jobs(keeper)
    assert {(job["type"], job["lane"]) for job in found} == {("notification", "normal")}
    orders = [msgspec.convert(job["data"], Notification) for job in found]
    assert {order.delivery_id for order in orders if isinstance(order, DeliverNotification)} == {
        lost,
        died,
        never,
    }
    assert [order for order in orders if isinstance(order, FlushDigest)] == [
        FlushDigest(user_id=user, channel="email", conversation_id=conversation)
    ]


async def test_a_lost_job_is_put_again_under_the_same_id_for_a_while(keeper: Keeper) -> None:
    _, (user,) = await keeper.world.conversation(1)
    await delivery(keeper, user, "pending")
    # To the start of a span, so that the next look is in the same one.
    keeper.clock.move(1_200 - keeper.clock.now_ms() / 1000 % 600)
    await keeper.kept_house()
    keeper.clock.move(300)
    await keeper.kept_house()
    keeper.clock.move(300)
    await keeper.kept_house()

    ids = [job["id"] for job in await jobs(keeper)]

    assert ids[0] == ids[1] != ids[2]


async def test_a_job_that_is_killed_after_putting_jobs_anew_puts_them_once(keeper: Keeper) -> None:
    _, (user,) = await keeper.world.conversation(1)
    await delivery(keeper, user, "pending")
    keeper.clock.move(400)

    for _ in range(2):
        await keeper.retention.keep_house(Housekeeping(), job_id="tick")

    assert len(await jobs(keeper)) == 1


async def test_a_batch_that_nobody_works_on_any_more_is_taken_up_again(
    keeper: Keeper, redis_url: str
) -> None:
    """Goal: a run that spent its attempts, or was lost, does not leave a batch half sent."""
    async with (
        connect(redis_url) as server,
        Client(redis_url, give_up_s=0.2, when_full="fail") as producer,
    ):
        batches = Batches(keeper.world, producer, server)
        sender, *users = await batches.users(3)
        dead, alive, finished = [await batches.start(sender, users) for _ in range(3)]
        await batches.work(finished)
        await keeper.world.database.execute("DELETE FROM outbox")
        await keeper.world.database.execute(
            "UPDATE message_batches SET worked_at = now() - interval '1 hour'"
        )
        with pytest.raises(Snooze):
            await batches.service.run(alive, claimant="run", report=AsyncMock())

        results = [await keeper.kept_house() for _ in range(2)]
        again, same = await jobs(keeper)
        with pytest.raises(Snooze):
            await batches.service.run(dead, claimant=again["id"], report=AsyncMock())
        results.append(await keeper.kept_house())

    assert [result.counts for result in results] == [{"batchesPutAnew": 1}] * 2 + [{}]
    assert again["type"] == "batch-message"
    assert again["id"] == same["id"], "which is folded"
    assert msgspec.convert(again["data"], BatchMessage) == RunBatch(batch_id=dead)


async def test_a_batch_that_fails_for_days_is_left_to_people(keeper: Keeper) -> None:
    await fill(keeper, 0)
    keeper.clock.move(2 * DAY_S)
    found = await keeper.kept_house(dry_run=True)
    keeper.clock.move(2 * DAY_S)

    assert found.counts == {"batchesPutAnew": 1}
    assert (await keeper.kept_house()).counts == {}

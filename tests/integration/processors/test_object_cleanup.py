"""Unclaimed uploads go, objects that nothing needs are deleted, and what differs is found."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest

from engine.testing import ManualClock
from processors.errors import ConfigurationError, ServiceUnavailable
from processors.rules.object_keys import new_key
from processors.services.objects import ObjectStore, Stored
from schemas.messages import CleanupExpiredAttachments, ReconcileObjects
from tests.integration.processors.keeper import DAY_S, Keeper

pytestmark = pytest.mark.servers


class Troubled:
    """A store whose deletions fail as a test says."""

    def __init__(self, store: ObjectStore, trouble: dict[str, Exception] | Exception) -> None:
        self.store = store
        self.trouble = trouble
        self.deleted: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    async def delete(self, key: str) -> bool:
        trouble = self.trouble.get(key) if isinstance(self.trouble, dict) else self.trouble
        if trouble is not None:
            raise trouble
        self.deleted.append(key)
        return await self.store.delete(key)

    async def list(self, prefix: str) -> AsyncIterator[list[Stored]]:
        async for chunk in self.store.list(prefix):
            yield chunk


class Slow:
    """A store that takes a job's whole time for a hundred listings."""

    def __init__(self, store: ObjectStore, clock: ManualClock) -> None:
        self.store = store
        self.clock = clock
        self.lists = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    async def list(self, prefix: str) -> AsyncIterator[list[Stored]]:
        self.lists += 1
        if self.lists % 100 == 0:
            self.clock.move(60)
        async for chunk in self.store.list(prefix):
            yield chunk


async def queue(keeper: Keeper, objects: int) -> list[str]:
    """Write objects and put them into the ledger."""
    assert keeper.store is not None
    keys = [new_key(lambda size: uuid4().bytes[:size]) for _ in range(objects)]
    for key in keys:
        await keeper.store.put(key, b"x", "image/png")
    await keeper.world.database.execute(
        "INSERT INTO object_deletions (key) SELECT unnest($1::text[])", keys
    )
    keeper.clock.move(1)
    return keys


async def test_uploads_go_that_no_message_claimed_in_time(keeper: Keeper) -> None:
    conversation, users = await keeper.world.conversation(1)
    await keeper.upload(users[0])
    await keeper.attachments.begin_upload(users[0], "image/png", 5)
    claimed = await keeper.upload(users[0])
    await keeper.send_with(conversation, users[0], claimed)
    early = await keeper.expired()
    keeper.clock.move(2 * DAY_S)

    late = await keeper.expired()

    assert early.counts == {}
    # The upload that never came has a key and no object.
    assert late.counts == {
        "attachmentsRemoved": 2,
        "objectsQueued": 2,
        "objectsDeleted": 1,
        "objectsMissing": 1,
    }
    assert await keeper.world.values("SELECT id FROM attachments") == [claimed]
    assert await keeper.keys() == await keeper.known_keys()


async def test_a_dry_run_counts_uploads_and_objects_and_changes_nothing(keeper: Keeper) -> None:
    _, users = await keeper.world.conversation(1)
    await keeper.upload(users[0])
    await queue(keeper, 2)
    keeper.clock.move(2 * DAY_S)
    before = await keeper.tables(), await keeper.keys()

    result = await keeper.expired(dry_run=True)

    assert result.counts == {"attachmentsRemoved": 1, "objectsDeleted": 2}
    assert (await keeper.tables(), await keeper.keys()) == before


async def test_three_workers_delete_every_object_once(keeper: Keeper) -> None:
    keys = await queue(keeper, 60)
    assert keeper.store is not None
    store = keeper.store = Troubled(keeper.store, {})
    keeper.set(batch_rows=7)

    results = await asyncio.gather(*(keeper.expired() for _ in range(3)))

    assert sorted(store.deleted) == sorted(keys)
    assert sum(each.counts.get("objectsDeleted", 0) for each in results) == 60
    assert await keeper.world.value("SELECT count(*) FROM object_deletions") == 0


async def test_an_object_that_fails_waits_and_keeps_no_other_from_going(keeper: Keeper) -> None:
    bad, good = await queue(keeper, 2)
    assert keeper.store is not None
    store = keeper.store = Troubled(keeper.store, {bad: ValueError("no such thing")})

    first = await keeper.expired()
    at_once = await keeper.expired()
    row = await keeper.world.database.fetchrow("SELECT * FROM object_deletions")
    keeper.clock.move(61)
    second = await keeper.expired()
    delay_s = await keeper.world.value(
        "SELECT extract(epoch FROM not_before)::float8 FROM object_deletions"
    ) - (keeper.clock.now_ms() / 1000)
    store.trouble = {}
    keeper.clock.move(121)
    third = await keeper.expired()

    assert store.deleted == [good, bad]
    assert first.counts == {"objectsDeleted": 1, "objectsFailed": 1}
    assert at_once.counts == {}
    assert row is not None
    assert (row["attempts"], row["last_error"]) == (1, "ValueError: no such thing")
    assert second.counts == {"objectsFailed": 1}
    assert round(delay_s) == 120
    assert third.counts == {"objectsDeleted": 1}


@pytest.mark.parametrize(
    "trouble", [ServiceUnavailable("object-store", "down"), ConfigurationError("refused")]
)
async def test_trouble_with_the_store_itself_costs_no_object_its_turn(
    keeper: Keeper, trouble: Exception
) -> None:
    await queue(keeper, 3)
    assert keeper.store is not None
    store = keeper.store = Troubled(keeper.store, trouble)

    with pytest.raises(type(trouble)):
        await keeper.expired()
    store.trouble = {}
    result = await keeper.expired()

    assert result.counts == {"objectsDeleted": 3}


async def test_a_job_that_failed_goes_on_where_it_was(keeper: Keeper) -> None:
    bad, _ = await queue(keeper, 2)
    assert keeper.store is not None
    store = keeper.store = Troubled(keeper.store, {bad: ServiceUnavailable("object-store", "down")})
    order = CleanupExpiredAttachments()
    with pytest.raises(ServiceUnavailable):
        await keeper.retention.expire_attachments(order, job_id="a")
    store.trouble = {}

    result = await keeper.retention.expire_attachments(order, job_id="a")

    assert result.counts == {"objectsDeleted": 2}


async def test_a_lease_keeps_other_jobs_away_until_it_ends(keeper: Keeper) -> None:
    (key,) = await queue(keeper, 1)
    await keeper.world.database.execute(
        "UPDATE object_deletions SET lease_by = 'dead', lease_until = $1::timestamptz",
        await keeper.world.value("SELECT now() + interval '10 minutes'"),
    )

    early = await keeper.expired()
    keeper.clock.move(900)
    late = await keeper.expired()

    assert early.counts == {}
    assert late.counts == {"objectsDeleted": 1}
    assert key not in await keeper.keys()


async def test_old_objects_without_a_row_are_deleted_and_others_are_not(keeper: Keeper) -> None:
    _, users = await keeper.world.conversation(1)
    attachment = await keeper.upload(users[0])
    await keeper.attachments.put_thumbnail(attachment, users[0], "small", b"s", "image/png")
    assert keeper.store is not None
    strangers = ["ab/" + "0" * 30, "ab/" + "0" * 30 + ".small"]
    for key in (*strangers, "readme", "ab/not-ours"):
        await keeper.store.put(key, b"x", "image/png")
    young = await keeper.reconciled()
    keeper.clock.move(DAY_S + 60)

    told = await keeper.reconciled(dry_run=True)
    still = await keeper.keys()
    result = await keeper.reconciled()

    assert young.counts == {"objectsListed": 4}
    assert told.counts == {"objectsListed": 4, "objectsWithoutRow": 2}
    assert told.samples == {"objectsWithoutRow": tuple(strangers)}
    assert set(strangers) <= still
    assert result.counts == {
        "objectsListed": 4,
        "objectsWithoutRow": 2,
        "objectsQueued": 2,
        "objectsDeleted": 2,
    }
    assert await keeper.keys() == await keeper.known_keys() | {"readme", "ab/not-ours"}


async def test_rows_without_an_object_are_reported_and_kept(keeper: Keeper) -> None:
    _, users = await keeper.world.conversation(1)
    lost, kept = await keeper.upload(users[0]), await keeper.upload(users[0])
    await keeper.attachments.begin_upload(users[0], "image/png", 5)
    assert keeper.store is not None
    key = await keeper.world.value("SELECT object_key FROM attachments WHERE id = $1", lost)
    await keeper.store.delete(key)

    result = await keeper.reconciled()

    assert result.counts == {"objectsListed": 1, "rowsWithoutObject": 1}
    assert result.samples == {"rowsWithoutObject": (str(lost),)}
    assert {lost, kept} <= set(await keeper.world.values("SELECT id FROM attachments"))


async def test_a_dry_run_of_the_comparison_changes_nothing(keeper: Keeper) -> None:
    assert keeper.store is not None
    await keeper.store.put(new_key(lambda size: b"\1" * size), b"x", "image/png")
    keeper.clock.move(2 * DAY_S)
    before = await keeper.tables(), await keeper.keys()

    await keeper.reconciled(dry_run=True)

    assert (await keeper.tables(), await keeper.keys()) == before


async def test_attachments_that_no_message_holds_any_more_are_found(keeper: Keeper) -> None:
    conversation, users = await keeper.world.conversation(1)
    attachment = await keeper.upload(users[0])
    await keeper.send_with(conversation, users[0], attachment)
    # By hand, past the ledger.
    await keeper.world.database.execute("DELETE FROM messages")

    result = await keeper.reconciled()

    assert result.counts == {
        "objectsListed": 1,
        "attachmentsUnheld": 1,
        "attachmentsRemoved": 1,
        "objectsQueued": 1,
        "objectsDeleted": 1,
    }
    assert await keeper.keys() == set()


async def test_a_database_that_knows_few_of_the_objects_deletes_none(keeper: Keeper) -> None:
    assert keeper.store is not None
    for number in range(30):
        await keeper.store.put(f"{number:02x}/{'0' * 30}", b"x", "image/png")
    keeper.clock.move(2 * DAY_S)

    doubtful = await keeper.reconciled()
    left = await keeper.keys()
    forced = await keeper.reconciled(force=True)

    assert doubtful.counts["objectsSpared"] == 30
    assert len(left) == 30
    assert forced.counts["objectsDeleted"] == 30


async def test_the_comparison_goes_on_in_further_jobs(keeper: Keeper) -> None:
    """The first round's sums go along, so that the second knows whether it may delete."""
    assert keeper.store is not None
    for number in (3, 200):
        await keeper.store.put(f"{number:02x}/{'0' * 30}", b"x", "image/png")
    keeper.clock.move(2 * DAY_S)
    keeper.store = Slow(keeper.store, keeper.clock)
    order, job_id, jobs, deleted = ReconcileObjects(), "week", 0, 0

    while True:
        jobs += 1
        assert jobs < 10
        result = await keeper.retention.reconcile_objects(order, job_id=job_id)
        deleted += result.counts.get("objectsDeleted", 0)
        if result.follow_up is None:
            break
        after = await keeper.world.value(
            "SELECT payload->'data'->>'after' FROM outbox WHERE payload->>'id' = $1",
            result.follow_up,
        )
        order, job_id = ReconcileObjects(after=after, part=jobs + 1), result.follow_up

    assert jobs == 6
    assert deleted == 2
    assert await keeper.keys() == set()

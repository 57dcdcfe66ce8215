"""Reindexing and auditing: chains of jobs over all messages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import msgspec
import pytest

from processors.errors import Refused
from schemas.messages import AuditIndex, AuditResult, Indexing, Reindex, ReindexResult
from tests.integration.processors.searching import SearchWorld, searching
from tests.integration.processors.world import World

pytestmark = pytest.mark.servers


@pytest.fixture
async def search(world: World) -> AsyncIterator[SearchWorld]:
    async with searching(world, chunk_messages=3) as found:
        yield found


async def one(search: SearchWorld, payload: Reindex | AuditIndex, job_id: str) -> Any:
    """Run one job of a run."""
    percents: list[float] = []

    async def progress(percent: float) -> None:
        percents.append(percent)

    runs = search.search.runs
    if isinstance(payload, Reindex):
        result: Any = await runs.reindex(payload, job_id=job_id, progress=progress)
    else:
        result = await runs.audit(payload, job_id=job_id, progress=progress)
    assert all(0 <= percent <= 99 for percent in percents)
    return result


async def jobs_left(search: SearchWorld) -> list[dict[str, Any]]:
    """Take the jobs that a run left out of the outbox."""
    return await search.jobs("reindex", "audit")


async def whole(search: SearchWorld, payload: Reindex | AuditIndex) -> list[Any]:
    """Follow a run to its end, each job as it comes out of the outbox."""
    job_id, results = "run", []
    while True:
        results.append(await one(search, payload, job_id))
        jobs = await jobs_left(search)
        if not jobs:
            assert results[-1].next_job_id is None
            return results
        (job,) = jobs
        assert (job["type"], job["lane"], job["id"]) == (
            "indexing", "low", results[-1].next_job_id,
        )  # fmt: skip
        job_id = job["id"]
        payload = msgspec.convert(job["data"], Indexing)  # type: ignore[arg-type]


async def messages(search: SearchWorld, count: int) -> tuple[UUID, list[UUID], list[UUID]]:
    """Send messages that nobody indexes."""
    conversation, users = await search.world.conversation(2)
    ids = [
        (await search.world.send(conversation, users[0], content=f"horse {n}")).message_id
        for n in range(count)
    ]
    return conversation, users, ids


async def test_a_reindex_goes_through_all_messages_in_chunks(search: SearchWorld) -> None:
    _, (_, bob), first = await messages(search, 4)
    other, _, second = await messages(search, 4)

    results = await whole(search, Reindex())

    assert [each.messages for each in results] == [3, 6, 8]
    assert results[-1] == ReindexResult(
        messages=8, written=8, removed=0, undecryptable=0, next_job_id=None
    )
    assert set(await search.entries([*first, *second])) == {*first, *second}
    assert sorted(await search.find(bob, "horse")) == sorted(first)
    assert (await whole_again(search, Reindex(conversation_id=other))).messages == 4


async def whole_again(search: SearchWorld, payload: Reindex | AuditIndex) -> Any:
    """Run it as if nobody remembered earlier runs, and return the last result."""
    await search.world.database.execute("DELETE FROM job_inbox")
    return (await whole(search, payload))[-1]


async def test_a_reindex_of_one_conversation_leaves_the_others_alone(search: SearchWorld) -> None:
    conversation, _, mine = await messages(search, 7)
    _, _, others = await messages(search, 2)

    results = await whole(search, Reindex(conversation_id=conversation))

    assert [each.messages for each in results] == [3, 6, 7]
    assert set(await search.entries([*mine, *others])) == set(mine)


async def test_a_reindex_brings_in_what_changed_without_a_new_version(search: SearchWorld) -> None:
    conversation, (_, bob), ids = await messages(search, 2)
    await search.search.indexer.index(ids)
    await search.world.database.execute(
        "UPDATE conversations SET title = 'zebras' WHERE id = $1", conversation
    )
    assert await search.find(bob, "zebra") == []

    last = await whole_again(search, Reindex())
    assert (last.messages, last.written) == (2, 2)
    assert sorted(await search.find(bob, "zebra")) == sorted(ids)
    last = await whole_again(search, Reindex())
    assert (last.messages, last.written) == (2, 0)


async def test_a_reindex_takes_out_what_may_not_be_found(search: SearchWorld) -> None:
    conversation, _, ids = await messages(search, 3)
    await search.search.indexer.index(ids)
    await search.remove(ids[0])
    assert (await whole_again(search, Reindex())).removed == 1

    await search.world.database.execute("UPDATE conversations SET search_mode = 'none'")
    assert (await whole_again(search, Reindex(conversation_id=conversation))).removed == 2
    assert await search.entries(ids) == {}


async def test_messages_that_come_in_meanwhile_do_not_keep_a_run_from_its_end(
    search: SearchWorld,
) -> None:
    conversation, (ada, _), _ = await messages(search, 5)
    first = await one(search, Reindex(), "run")
    (job,) = await jobs_left(search)
    for n in range(6):
        await search.world.send(conversation, ada, content=f"late horse {n}")

    last = await one(search, msgspec.convert(job["data"], Reindex), job["id"])

    assert first.next_job_id == "run.1"
    assert (last.messages, last.next_job_id) == (5, None)


async def test_a_chunk_that_is_delivered_twice_leaves_one_next_job(search: SearchWorld) -> None:
    await messages(search, 5)

    first = await one(search, Reindex(), "run")
    again = await one(search, Reindex(), "run")

    assert first == again
    assert len(await jobs_left(search)) == 1
    assert len(search.commits) == 2


async def test_an_audit_finds_each_fault_and_repairs_it_when_asked(search: SearchWorld) -> None:
    _, (_, bob), ids = await messages(search, 6)
    fine, missing, stale, deleted, foreign, hashed = ids
    blind, (eve, _) = await search.blind_conversation()
    (leaking,) = await search.say(blind, eve, "a secret horse")
    await search.search.indexer.index(ids)
    database = search.world.database
    await database.execute("DELETE FROM message_search WHERE message_id = $1", missing)
    await search.edit(stale, "a stale cow")
    await search.remove(deleted)
    await database.execute(
        "UPDATE message_search SET lang = 'danish' WHERE message_id = $1", foreign
    )
    await database.execute(
        "UPDATE message_search SET tsv = NULL, blind = '{}' WHERE message_id = $1", hashed
    )
    await database.execute(
        "UPDATE message_search SET blind = NULL, tsv = to_tsvector('secret') WHERE message_id = $1",
        leaking,
    )

    faults = {"missing": 1, "stale": 2, "superfluous": 1, "misplaced": 2}
    found = (await whole(search, AuditIndex()))[-1]
    assert found == AuditResult(messages=7, repaired=0, next_job_id=None, **faults)
    last = await whole_again(search, AuditIndex(repair=True))
    assert last == AuditResult(messages=7, repaired=6, next_job_id=None, **faults)
    last = await whole_again(search, AuditIndex(repair=True))
    assert last == AuditResult(
        messages=7, missing=0, stale=0, superfluous=0, misplaced=0, repaired=0, next_job_id=None
    )
    entries = await search.entries([*ids, leaking])
    assert set(entries) == {fine, missing, stale, foreign, hashed, leaking}
    assert entries[leaking]["tsv"] is None
    assert await search.find(bob, "cow") == [stale]
    assert await search.find(eve, "horse") == [leaking]


async def test_an_audit_of_one_conversation_looks_at_no_other(search: SearchWorld) -> None:
    conversation, _, _ = await messages(search, 4)
    await messages(search, 2)

    results = await whole(search, AuditIndex(conversation_id=conversation))

    assert [each.missing for each in results] == [3, 4]


async def test_a_cursor_of_another_run_is_refused(search: SearchWorld) -> None:
    conversation, _, _ = await messages(search, 4)
    await one(search, Reindex(), "run")
    (job,) = await jobs_left(search)
    cursor = job["data"]["cursor"]

    for payload in (
        Reindex(conversation_id=conversation, cursor=cursor),
        AuditIndex(cursor=cursor),
        Reindex(cursor="nonsense"),
    ):
        with pytest.raises(Refused, match="invalid-cursor"):
            await one(search, payload, "other")


async def test_an_unknown_conversation_is_refused(search: SearchWorld) -> None:
    with pytest.raises(Refused, match="unknown-conversation"):
        await one(search, Reindex(conversation_id=UUID(int=5)), "run")


async def test_a_run_over_nothing_ends_at_once(search: SearchWorld) -> None:
    assert await whole(search, Reindex()) == [
        ReindexResult(messages=0, written=0, removed=0, undecryptable=0, next_job_id=None)
    ]

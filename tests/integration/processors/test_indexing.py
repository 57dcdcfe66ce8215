"""What gets into the index, and that it follows the messages whatever order jobs come in."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from engine import Cancel
from engine.testing import FakeJob, run_batch, run_handler
from processors.app import registry
from processors.errors import DatabaseUnavailable
from processors.rules.search import TEXT_BYTES_MAX
from processors.settings import from_env
from schemas.messages import IndexResult, UnindexResult
from tests.integration.processors.searching import SearchWorld, searching
from tests.integration.processors.world import World

pytestmark = pytest.mark.servers


@pytest.fixture
async def search(world: World) -> AsyncIterator[SearchWorld]:
    async with searching(world) as found:
        yield found


async def run(search: SearchWorld, *payloads: dict[str, Any]) -> list[Any]:
    """Run jobs as one call of the registered handler."""
    return await run_batch(registry(from_env({})), "indexing", payloads, services=search)


async def test_a_repeated_index_writes_nothing(search: SearchWorld) -> None:
    conversation, (ada, _) = await search.world.conversation(2)
    (message,) = await search.say(conversation, ada, "a horse")
    before = await search.entries([message])

    again = (await search.search.indexer.index([message])).result([message])

    assert again == IndexResult(indexed=1, written=0)
    assert await search.entries([message]) == before


async def test_an_edit_is_found_by_its_new_words_alone(search: SearchWorld) -> None:
    conversation, (ada, bob) = await search.world.conversation(2)
    (message,) = await search.say(conversation, ada, "a horse")
    await search.edit(message, "a cow")

    result = await run(search, {"action": "update", "messageIds": [str(message)]})

    assert result == [IndexResult(indexed=1, written=1)]
    assert await search.find(bob, "horse") == []
    assert await search.find(bob, "cow") == [message]


async def test_an_older_version_never_replaces_a_newer_one(search: SearchWorld) -> None:
    """Goal: a job that read version 1 and was overtaken by one of version 2 changes nothing."""
    conversation, (ada, bob) = await search.world.conversation(2)
    message = (await search.world.send(conversation, ada, content="a horse")).message_id
    indexer = search.search.indexer
    real = indexer._text
    late: list[dict[Any, bool]] = []

    class Overtaken:
        is_apart = False

        async def index(self, documents: Any) -> dict[Any, bool]:
            if not late:
                await search.edit(message, "a cow")
                await real.index([*await documents_of(search, message)])
                late.append(await real.index(documents))
            return await real.index(documents)

        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

    indexer._text = Overtaken()  # type: ignore[assignment]
    result = (await indexer.index([message])).result([message])

    assert late == [{}], "the late write found another version"
    assert result.indexed == 1
    assert await search.find(bob, "horse") == []
    assert await search.find(bob, "cow") == [message]


async def documents_of(search: SearchWorld, *ids: Any) -> list[Any]:
    from processors.database.statements import search as statements

    rows = await search.world.database.fetch(statements.SOURCE, list(ids))
    return [search.search.indexer._document(row, row["body"]) for row in rows]


async def test_an_entry_of_a_higher_version_stays(search: SearchWorld) -> None:
    conversation, (ada, _) = await search.world.conversation(2)
    (message,) = await search.say(conversation, ada, "a horse")
    await search.world.database.execute("UPDATE message_search SET version = 7")
    before = await search.entries([message])

    await search.search.indexer.index([message])

    assert await search.entries([message]) == before


async def test_a_deleted_message_does_not_come_back(search: SearchWorld) -> None:
    conversation, (ada, _) = await search.world.conversation(2)
    (message,) = await search.say(conversation, ada, "a horse")
    await search.remove(message)
    name = [str(message)]

    deleted = await run(search, {"action": "delete", "messageIds": name})
    late = await run(search, {"action": "index", "messageIds": name})

    assert deleted == [UnindexResult(removed=1)]
    assert late == [IndexResult(skipped=1)]
    assert await search.entries([message]) == {}
    assert await run(search, {"action": "delete", "messageIds": name}) == [UnindexResult(removed=0)]


async def test_a_late_index_takes_out_what_may_not_be_found(search: SearchWorld) -> None:
    conversation, (ada, _) = await search.world.conversation(2)
    deleted, living = await search.say(conversation, ada, "a horse", "a cow")
    await search.remove(deleted)

    result = await run(search, {"action": "index", "messageIds": [str(deleted), str(living)]})

    assert result == [IndexResult(indexed=1, removed=1)]
    assert list(await search.entries([deleted, living])) == [living]


async def test_a_deletion_waits_for_the_index_that_has_read_the_message(
    search: SearchWorld,
) -> None:
    """
    Goal: a message that is deleted while it is being indexed has no entry in the end.

    Method: the write is held open in a transaction; the deletion must not get past it, or the
    entry would be committed after the delete job has looked for it.
    """
    from processors.database.statements import search as statements

    conversation, (ada, _) = await search.world.conversation(2)
    message = (await search.world.send(conversation, ada, content="a horse")).message_id
    async with search.world.database.transaction() as connection:
        rows = await connection.fetch(
            statements.WRITE_TEXT, [message], [1], ["english"], ["a horse"], [""], [""], [""]
        )
        assert [row["is_written"] for row in rows] == [True]
        removing = asyncio.create_task(search.remove(message))
        async with search.world.database.connection() as other:
            while not await other.fetchval(
                "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid <> pg_backend_pid()"
            ):
                assert not removing.done()
                await asyncio.sleep(0.01)
    await removing

    assert await search.search.indexer.delete([message]) == {message}
    assert await search.entries([message]) == {}


async def test_removing_a_message_removes_its_entry(search: SearchWorld) -> None:
    conversation, (ada, _) = await search.world.conversation(2)
    (message,) = await search.say(conversation, ada, "a horse")

    await search.world.database.execute("DELETE FROM messages WHERE id = $1", message)

    assert await search.entries([message]) == {}


async def test_unknown_messages_are_skipped(search: SearchWorld) -> None:
    unknown = [str(uuid4()), str(uuid4())]

    assert await run(
        search,
        {"action": "index", "messageIds": unknown},
        {"action": "delete", "messageIds": unknown},
    ) == [IndexResult(skipped=2), UnindexResult(removed=0)]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(" ".join(f"word{n}" for n in range(110_000)), id="1 MB of words"),
        pytest.param("x" * 1_100_000, id="one word of 1 MB"),
        pytest.param(" ".join(f"ab{n:x}-cd{n:x}" for n in range(80_000)), id="hyphens"),
        pytest.param(" ".join(f"a{n:x}.co/{n:x}" for n in range(80_000)), id="addresses"),
        pytest.param(" ".join(f"{n:x}@a{n:x}.b" for n in range(80_000)), id="mail addresses"),
        pytest.param(" ".join(chr(0x400 + n % 99) + str(n) for n in range(150_000)), id="letters"),
        pytest.param("東京都" * 120_000, id="1 MB without spaces"),
        pytest.param("".join(map(chr, range(0x4E00, 0x9FFF))) * 16, id="all of Han"),
    ],
)
async def test_texts_of_any_size_can_be_indexed(search: SearchWorld, text: str) -> None:
    conversation, (ada, _) = await search.world.conversation(2)
    assert len(text.encode()) > TEXT_BYTES_MAX * 5
    message = await search.insert(conversation, ada, text)

    result = (await search.search.indexer.index([message])).result([message])

    assert result == IndexResult(indexed=1, written=1)


async def test_the_beginning_of_a_long_text_is_found(search: SearchWorld) -> None:
    conversation, (ada, bob) = await search.world.conversation(2)
    message = await search.insert(conversation, ada, "a horse " + "word " * 300_000 + "cow")

    await search.search.indexer.index([message])

    assert await search.find(bob, "horse") == [message]
    assert await search.find(bob, "cow") == []


async def test_jobs_of_one_call_have_results_of_their_own(search: SearchWorld) -> None:
    conversation, (ada, _) = await search.world.conversation(2)
    ids = [
        str((await search.world.send(conversation, ada, content=f"horse {n}")).message_id)
        for n in range(4)
    ]
    await run(search, {"action": "index", "messageIds": ids[3:]})

    outcomes = await run(
        search,
        {"action": "index", "messageIds": ids[:2]},
        {"action": "delete", "messageIds": ids[3:]},
        {"action": "update", "messageIds": [ids[1], ids[2], ids[1]]},
        {"action": "index", "messageIds": [str(uuid4())]},
        {"action": "audit"},
    )

    assert outcomes[:4] == [
        IndexResult(indexed=2, written=2),
        UnindexResult(removed=1),
        IndexResult(indexed=2, written=2),
        IndexResult(skipped=1),
    ]
    assert (outcomes[4].messages, outcomes[4].missing) == (4, 1)


async def test_a_job_at_fault_fails_alone(search: SearchWorld) -> None:
    conversation, (ada, _) = await search.world.conversation(2)
    good, bad = [
        (await search.world.send(conversation, ada, content=text)).message_id
        for text in ("a horse", "a cow")
    ]
    real = search.search.indexer._text

    class Picky:
        is_apart = False

        async def index(self, documents: Any) -> Any:
            if bad in {each.message_id for each in documents}:
                raise asyncpg.ProgramLimitExceededError("string is too long for tsvector")
            return await real.index(documents)

        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

    search.search.indexer._text = Picky()  # type: ignore[assignment]
    types, jobs = registry(from_env({})), [FakeJob(id="good"), FakeJob(id="bad")]
    payloads = [{"action": "index", "messageIds": [str(each)]} for each in (good, bad)]

    fine, failed = await run_batch(types, "indexing", payloads, jobs=jobs, services=search)

    assert fine == IndexResult(indexed=1, written=1)
    assert isinstance(failed, asyncpg.ProgramLimitExceededError)
    with pytest.raises(Cancel, match="54000"):
        await run_handler(types, "indexing", payloads[1], services=search)


async def test_an_outage_is_no_single_jobs_fault(search: SearchWorld) -> None:
    calls: list[int] = []

    class Away:
        is_apart = False

        async def delete(self, message_ids: Any) -> Any:
            calls.append(len(message_ids))
            raise DatabaseUnavailable("lost", "away")

    search.search.indexer._text = Away()  # type: ignore[assignment]
    payloads = [{"action": "index", "messageIds": [str(uuid4())]} for _ in range(3)]

    with pytest.raises(DatabaseUnavailable):
        await run(search, *payloads)
    assert calls == [3], "they are not tried one by one"


async def test_overlapping_jobs_do_not_deadlock(search: SearchWorld) -> None:
    conversation, (ada, bob) = await search.world.conversation(2)
    ids = [
        (await search.world.send(conversation, ada, content=f"horse {n}")).message_id
        for n in range(60)
    ]

    async def churn(number: int) -> None:
        part = ids[number::2] + ids[:number:-1]
        for turn in range(6):
            await search.search.indexer.index(part)
            if turn % 2:
                await search.search.indexer.delete(part[::-1])
            with contextlib.suppress(IndexError):
                await search.edit(part[turn], f"horse {number} {turn}")

    await asyncio.gather(*(churn(number) for number in range(6)))
    await search.search.indexer.index(ids)

    audit = await run(search, {"action": "audit"})
    assert (audit[0].messages, audit[0].missing, audit[0].stale) == (60, 0, 0)
    assert len(await search.find(bob, "horse", limit=100)) == 60


async def test_the_jobs_that_sending_and_changing_leave_keep_the_index_up_to_date(
    search: SearchWorld,
) -> None:
    """Goal: whoever only sends, edits and deletes finds things, in both kinds of conversations."""
    for conversation, (ada, bob) in (
        await search.world.conversation(2),
        await search.blind_conversation(2),
    ):
        edited, deleted = [
            (await search.world.send(conversation, ada, content=text)).message_id
            for text in ("a horse", "a cow")
        ]
        await search.edit(edited, "a zebra")
        await search.remove(deleted)
        jobs = await search.jobs("index", "update", "delete")

        # Late, and in the wrong order.
        await run(search, *(job["data"] for job in jobs[::-1]))

        assert len(jobs) == 4
        assert await search.find(bob, "horse or cow") == []
        assert await search.find(bob, "zebra") == [edited]
        assert set(await search.entries([edited, deleted])) == {edited}

"""Removal beside sends, receipts, holds and other removals, and how its jobs end."""

from __future__ import annotations

import asyncio
import contextlib
from uuid import UUID

import msgspec
import pytest

from processors.errors import ServiceUnavailable
from processors.services.cleanup_run import Overtaken, Pace, Run
from schemas.messages import CleanupOldMessages
from tests.integration.processors.keeper import DAY_S, Keeper

pytestmark = pytest.mark.servers

GRACE_S = 8 * DAY_S


async def test_setting_a_hold_waits_for_a_removal_and_stops_the_next(keeper: Keeper) -> None:
    conversation, _ = await keeper.conversation(4)
    await keeper.age(conversation, days=31, up_to_seq=4)
    keeper.set(batch_rows=1)
    database = keeper.world.database
    async with database.transaction() as removal:
        await removal.fetch(
            "SELECT id FROM conversations WHERE id = $1 FOR KEY SHARE", conversation
        )
        hold = asyncio.create_task(
            keeper.governance.set_legal_hold(conversation, held=True, actor="law", reason="case")
        )
        await until_somebody_waits(keeper)
        was_done = hold.done()
    await hold

    result = await keeper.old()

    assert not was_done
    assert result.counts == {}
    assert await keeper.living(conversation) == [1, 2, 3, 4]


async def until_somebody_waits(keeper: Keeper) -> None:
    """Ask PostgreSQL until a session of this database waits for a lock."""
    while not await keeper.world.value(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    ):
        pass


async def test_a_send_does_not_wait_for_a_removal(keeper: Keeper) -> None:
    """The lock of a removal lets those of a send through."""
    conversation, users = await keeper.conversation(1)
    async with keeper.world.database.transaction() as removal:
        await removal.fetch(
            "SELECT id FROM conversations WHERE id = $1 FOR KEY SHARE", conversation
        )

        sent = await keeper.world.send(conversation, users[0])

    assert sent.seq == 2


async def test_a_message_in_others_hands_is_left_for_the_next_time(keeper: Keeper) -> None:
    conversation, _ = await keeper.conversation(3)
    await keeper.age(conversation, days=31, up_to_seq=3)
    async with keeper.world.database.transaction() as other:
        await other.execute("SELECT FROM messages WHERE seq = 2 FOR UPDATE")
        await keeper.old()
        left = await keeper.living(conversation), await keeper.mark(conversation)

    await keeper.old()

    assert left == ([2], 1)
    assert await keeper.living(conversation) == []
    assert await keeper.mark(conversation) == 3


async def test_a_receipt_that_is_under_way_keeps_its_message_for_now(keeper: Keeper) -> None:
    conversation, _ = await keeper.conversation(2)
    await keeper.age(conversation, days=31, up_to_seq=2)
    await keeper.old()
    keeper.clock.move(GRACE_S)
    async with keeper.world.database.transaction() as other:
        await other.execute("SELECT FROM message_deliveries WHERE seq = 1 FOR UPDATE")
        first = await keeper.old()

    second = await keeper.old()

    assert first.counts == {"messagesRemoved": 1}
    assert second.counts == {"messagesRemoved": 1}


async def test_a_job_stops_at_its_limit_also_when_it_is_delivered_twice(keeper: Keeper) -> None:
    conversation, _ = await keeper.conversation(6)
    await keeper.age(conversation, days=31, up_to_seq=6)
    order = CleanupOldMessages(rows_max=2)

    first = await keeper.retention.purge_messages(order, job_id="a")
    second = await keeper.retention.purge_messages(order, job_id="a")

    assert first == second
    assert first.counts == {"messagesCleared": 2, "marksMoved": 1}
    assert not first.complete
    assert first.follow_up is None
    assert await keeper.living(conversation) == [3, 4, 5, 6]


async def test_one_job_in_two_hands_at_once_does_its_work_once(keeper: Keeper) -> None:
    """As where an engine that was given up for lost still runs."""
    conversation, _ = await keeper.conversation(30)
    await keeper.age(conversation, days=31, up_to_seq=30)
    keeper.set(batch_rows=3)
    order = CleanupOldMessages(rows_max=21)

    ends = await asyncio.gather(
        *(keeper.retention.purge_messages(order, job_id="a") for _ in range(3))
    )

    assert ends[0] == ends[1] == ends[2]
    assert ends[0].counts["messagesCleared"] == 21
    assert len(await keeper.living(conversation)) == 9


async def test_an_id_that_comes_again_another_day_is_another_job(keeper: Keeper) -> None:
    conversation, _ = await keeper.conversation(4)
    await keeper.age(conversation, days=31, up_to_seq=4)
    order = CleanupOldMessages(rows_max=1)

    for sent_ms in (1, 1, 2):
        await keeper.retention.purge_messages(order, job_id="nightly", sent_ms=sent_ms)

    assert await keeper.living(conversation) == [3, 4]


async def test_a_job_leaves_the_rest_to_one_that_follows(keeper: Keeper) -> None:
    """Goal: no job runs for long. Method: follow the chain by hand, as the relay would."""
    conversation, _ = await keeper.conversation(7)
    await keeper.age(conversation, days=31, up_to_seq=7)
    keeper.set(job_rows_max=3, batch_rows=2)
    order, job_id, cleared = CleanupOldMessages(), "night", []

    for _ in range(10):
        result = await keeper.retention.purge_messages(order, job_id=job_id)
        cleared.append(result.counts.get("messagesCleared", 0))
        if result.follow_up is None:
            break
        payload = await keeper.world.value(
            "SELECT payload FROM outbox WHERE topic = 'job' AND payload->>'id' = $1",
            result.follow_up,
        )
        assert (payload["type"], payload["lane"]) == ("cleanup", "low")
        order, job_id = msgspec.convert(payload["data"], CleanupOldMessages), result.follow_up

    assert cleared == [3, 3, 1]
    assert job_id == "night~3"
    assert await keeper.living(conversation) == []


async def test_time_ends_a_job_as_rows_do(keeper: Keeper) -> None:
    conversation, _ = await keeper.conversation(2)
    await keeper.age(conversation, days=31, up_to_seq=2)
    service = keeper.retention
    keeper.set(job_ms_max=1)
    late = keeper.retention
    asyncio.get_running_loop().call_soon(keeper.clock.move, 1)

    result = await late.purge_messages(CleanupOldMessages(), job_id="a")

    assert result.follow_up == "a~2"
    assert (await service.purge_messages(CleanupOldMessages(part=2), job_id="a~2")).complete


async def test_three_workers_clear_and_remove_every_row_once(keeper: Keeper) -> None:
    conversations = [(await keeper.conversation(20))[0] for _ in range(3)]
    for conversation in conversations:
        await keeper.age(conversation, days=31, up_to_seq=15)
    keeper.set(batch_rows=4)

    cleared = await asyncio.gather(*(keeper.old() for _ in range(3)))
    for _ in range(2):
        # What one worker skipped because another had it may be left to the next run.
        cleared += [await keeper.old()]
    keeper.clock.move(GRACE_S)
    removed = await asyncio.gather(*(keeper.old() for _ in range(3)))
    removed += [await keeper.old()]

    assert sum(each.counts.get("messagesCleared", 0) for each in cleared) == 45
    assert sum(each.counts.get("messagesRemoved", 0) for each in removed) == 45
    for conversation in conversations:
        assert await keeper.rows(conversation) == [16, 17, 18, 19, 20]
        assert await keeper.mark(conversation) == 15


async def test_an_attachment_stays_until_the_last_message_lets_go(keeper: Keeper) -> None:
    """Three workers at once, and then the young message's turn."""
    conversation, users = await keeper.conversation(0)
    shared, single = await keeper.upload(users[0]), await keeper.upload(users[0])
    for _ in range(12):
        await keeper.send_with(conversation, users[0], shared)
    await keeper.send_with(conversation, users[0], single)
    await keeper.send_with(conversation, users[0], shared)
    await keeper.age(conversation, days=31, up_to_seq=13)
    keeper.set(batch_rows=2)
    await keeper.old()
    keeper.clock.move(GRACE_S)

    removed = await asyncio.gather(*(keeper.old() for _ in range(3)))
    removed += [await keeper.old()]
    kept = await keeper.world.values("SELECT id FROM attachments")
    keeper.clock.move(31 * DAY_S)
    await keeper.old()
    keeper.clock.move(GRACE_S)
    await keeper.old()

    assert sum(each.counts.get("attachmentsRemoved", 0) for each in removed) == 1
    assert kept == [shared]
    assert await keeper.world.values("SELECT id FROM attachments") == []
    assert await keeper.world.value("SELECT count(*) FROM object_deletions") == 2


async def test_last_references_that_go_at_the_same_time_take_the_attachment_along(
    keeper: Keeper,
) -> None:
    """Goal: neither worker leaves it to the other. Method: many pairs, two workers."""
    conversation, users = await keeper.conversation(0)
    for _ in range(10):
        attachment = await keeper.upload(users[0])
        await keeper.send_with(conversation, users[0], attachment)
        await keeper.send_with(conversation, users[0], attachment)
    await keeper.age(conversation, days=31, up_to_seq=20)
    await keeper.old()
    keeper.clock.move(GRACE_S)
    keeper.set(batch_rows=1)

    await asyncio.gather(keeper.old(), keeper.old())
    await keeper.old()

    assert await keeper.world.value("SELECT count(*) FROM messages") == 0
    assert await keeper.world.value("SELECT count(*) FROM attachments") == 0
    assert await keeper.world.value("SELECT count(*) FROM object_deletions") == 10


async def test_a_forward_and_the_removal_of_the_last_reference_never_both_win(
    keeper: Keeper,
) -> None:
    """Either the new message holds the attachment, or it is refused; no message lacks one."""
    conversation, users = await keeper.conversation(0)
    attachments = [await keeper.upload(users[0]) for _ in range(12)]
    for attachment in attachments:
        await keeper.send_with(conversation, users[0], attachment)
    await keeper.age(conversation, days=31, up_to_seq=12)
    await keeper.old()
    keeper.clock.move(GRACE_S)
    keeper.set(batch_rows=1)

    ends = await asyncio.gather(
        keeper.old(),
        *(keeper.send_with(conversation, users[0], each) for each in attachments),
        return_exceptions=True,
    )

    sent = [end for end in ends[1:] if isinstance(end, UUID)]
    refused = [end for end in ends[1:] if isinstance(end, Exception)]
    assert all("attachment" in str(error) for error in refused), refused
    held = await keeper.world.values("SELECT message_id FROM message_attachments")
    assert set(sent) <= set(held)
    kept = await keeper.world.value("SELECT count(*) FROM attachments")
    queued = await keeper.world.value("SELECT count(*) FROM object_deletions")
    assert kept + queued == 12
    assert len(sent) + len(refused) == 12


async def test_sends_go_on_beside_a_purge_without_gaps_or_losses(keeper: Keeper) -> None:
    conversation, users = await keeper.conversation(60)
    await keeper.age(conversation, days=31, up_to_seq=60)
    keeper.set(batch_rows=3, grace_hours=0)
    sending = True

    async def send() -> list[int]:
        return [await send_at_last(keeper, conversation, users[0]) for _ in range(40)]

    async def purge() -> None:
        while sending:
            await keeper.old()

    purging = [asyncio.create_task(purge()) for _ in range(2)]
    seqs = await asyncio.gather(send(), send())
    sending = False
    await asyncio.gather(*purging)
    keeper.clock.move(1)
    await keeper.old()
    await keeper.old()

    assert sorted(seqs[0] + seqs[1]) == list(range(61, 141))
    assert await keeper.living(conversation) == list(range(61, 141))
    assert await keeper.rows(conversation) == list(range(61, 141))
    assert await keeper.mark(conversation) == 60


async def send_at_last(keeper: Keeper, conversation: UUID, user: UUID) -> int:
    """Send as a job would, which comes again when the conversation was locked for too long."""
    while True:
        with contextlib.suppress(ServiceUnavailable):
            return (await keeper.world.send(conversation, user)).seq


async def test_rows_that_another_run_of_the_job_took_are_not_taken_again(keeper: Keeper) -> None:
    """Method: two runs see the same room; the second finds it taken once it has the record."""
    first, second = (
        Run(
            keeper.world.database,
            keeper.clock,
            CleanupOldMessages(rows_max=3),
            job_id="a",
            sent_ms=1,
            pace=Pace(rows_max=100, ms_max=1_000, batch_rows=2, pause_ms=0),
            committed=lambda: None,
        )
        for _ in range(2)
    )
    room = second.room()
    async with first.step(first.room()):
        first.changed(2)

    with pytest.raises(Overtaken):
        async with second.step(room):
            pass

    assert room == 2
    assert second.room() == 1

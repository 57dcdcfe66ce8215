"""Everybody in a batch gets the message once, whatever happens, and the sender knows of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest

from engine import Client, Snooze
from engine.testing import ManualClock
from engine.wire.keys import QueueKeys
from processors.errors import Refused, ServiceUnavailable
from processors.rules.batches import child_of, direct_conversation
from processors.services.batches import MESSAGES
from processors.services.redis_link import connect
from schemas.messages import BatchProgress
from tests.integration.processors.batches import LANE, Batches, data_of
from tests.integration.processors.world import World
from tests.support.servers import RedisTestServer

pytestmark = pytest.mark.servers


@pytest.fixture
async def batches(world: World, redis_url: str) -> AsyncIterator[Batches]:
    async with (
        connect(redis_url) as server,
        Client(redis_url, give_up_s=0.2, when_full="fail") as producer,
    ):
        yield Batches(world, producer, server)


async def test_every_recipient_gets_the_message_once(batches: Batches) -> None:
    sender, *users = await batches.users(31)
    batch_id = await batches.start(sender, users)

    summary = await batches.work(batch_id)

    assert summary == BatchProgress(
        batch_id=batch_id, state="finished", total=30, waiting=0, queued=0, sent=30, failed=0,
        cancelled=0, percent=100.0,
    )  # fmt: skip
    assert await batches.messages(sender) == Counter(users)
    assert await batches.service.progress(batch_id) == summary
    assert {data_of(job)["content"] for job in await batches.jobs()} == {"news"}


async def test_beginning_twice_is_beginning_once(batches: Batches) -> None:
    sender, *users = await batches.users(4)
    batch_id = uuid4()
    for _ in range(2):
        assert await batches.start(sender, [*users, *users], batch_id=batch_id) == batch_id

    assert await batches.world.value("SELECT total FROM message_batches") == 3
    assert await batches.world.value("SELECT count(*) FROM outbox WHERE topic = 'job'") == 1
    for change in (users[:2], [*reversed(users)]):
        with pytest.raises(Refused, match="batch-id-reused"):
            await batches.start(sender, change, batch_id=batch_id)
    with pytest.raises(Refused, match="batch-id-reused"):
        await batches.start(sender, users, batch_id=batch_id, rate_per_s=5)


async def test_a_batch_that_cannot_be_sent_is_refused(batches: Batches) -> None:
    (sender, disabled, user) = await batches.users(3)
    await batches.world.database.execute(
        "UPDATE users SET disabled_at = now() WHERE id = $1", disabled
    )
    with pytest.raises(Refused, match="unknown-user"):
        await batches.start(uuid4(), [user])
    with pytest.raises(Refused, match="user-disabled"):
        await batches.start(disabled, [user])
    batches.service = batches.another(RECIPIENTS_MAX="2")
    with pytest.raises(Refused, match="too-many-recipients"):
        await batches.start(sender, [uuid4() for _ in range(3)])
    with pytest.raises(Refused, match="unknown-batch"):
        await batches.service.run_chunk(uuid4(), claimant="x")
    assert await batches.world.value("SELECT count(*) FROM message_batches") == 0


async def test_failures_are_counted_and_stop_nobody_else(batches: Batches) -> None:
    sender, disabled, left, unlucky, *users = await batches.users(9)
    world = batches.world
    await world.database.execute("UPDATE users SET disabled_at = now() WHERE id = $1", disabled)
    direct = direct_conversation(sender, left)
    await world.conversations.ensure(direct, "d", [(sender, "a"), (left, "b")])
    await world.database.execute(
        "UPDATE conversation_members SET left_at = now() WHERE conversation_id = $1", direct
    )
    batch_id = await batches.start(sender, [disabled, uuid4(), sender, left, unlucky, *users])

    await batches.service.run_chunk(batch_id, claimant="run")
    jobs = await batches.jobs()
    assert len(jobs) == 6
    for job in jobs:
        dies = job["id"] == str(child_of(batch_id, unlucky))
        await batches.end(job, ("exhausted", "RuntimeError: no") if dies else "send")
    step = await batches.service.run_chunk(batch_id, claimant="run")

    assert step.is_over
    assert (step.progress.sent, step.progress.failed) == (5, 5)
    assert step.progress.errors == {
        "user-disabled": 1, "unknown-user": 1, "is-sender": 1, "left": 1, "exhausted": 1,
    }  # fmt: skip
    assert await batches.messages(sender) == Counter(users)


async def test_recipients_who_have_left_are_not_written_to(batches: Batches) -> None:
    """Goal: a message that its recipient cannot see does not count as sent."""
    sender, left, user = await batches.users(3)
    direct = direct_conversation(sender, left)
    await batches.world.conversations.ensure(direct, "d", [(sender, "a"), (left, "b")])
    await batches.world.conversations.remove_member(direct, left)
    batch_id = await batches.start(sender, [left, user])

    summary = await batches.work(batch_id)

    assert (summary.sent, summary.failed, summary.errors) == (1, 1, {"left": 1})
    assert await batches.messages(sender) == Counter([user])


async def test_four_runs_side_by_side_queue_each_recipient_once(batches: Batches) -> None:
    sender, *users = await batches.users(201)
    batch_id = await batches.start(sender, users)
    services = [batches.another(CHUNK="7") for _ in range(4)]

    async def run(number: int) -> None:
        while (await batches.service.progress(batch_id)).waiting:
            await services[number].run_chunk(batch_id, claimant=f"run {number}")

    async with asyncio.timeout(60):
        await asyncio.gather(*map(run, range(4)))

    entries = await batches.server.xrange(LANE)
    assert len(entries) == 200
    assert {job["id"] for job in await batches.jobs()} == {
        str(child_of(batch_id, user)) for user in users
    }
    assert await batches.states(batch_id) == {2: 200}


async def test_claims_of_a_run_that_died_are_taken_up(batches: Batches) -> None:
    """Goal: by the same job at once, by another when the lease has ended."""
    sender, *users = await batches.users(7)
    batch_id = await batches.start(sender, users)
    await batches.world.database.execute(
        "UPDATE batch_recipients SET state = 1, claimed_by = CASE WHEN ordinal < 3 THEN 'run' "
        "ELSE 'dead' END, lease_until = now() + interval '1 hour'"
    )

    await batches.service.run_chunk(batch_id, claimant="run")
    assert await batches.states(batch_id) == {2: 3, 1: 3}
    await batches.world.database.execute("UPDATE batch_recipients SET lease_until = now()")
    await batches.service.run_chunk(batch_id, claimant="run")
    assert await batches.states(batch_id) == {2: 6}


async def test_rate_is_kept_by_waiting_between_runs(batches: Batches) -> None:
    """Goal: at 10/s, n seconds bring at most 10 n messages and the first few."""
    clock = batches.clock
    assert isinstance(clock, ManualClock)
    sender, *users = await batches.users(46)
    batch_id = await batches.start(sender, users, rate_per_s=10)

    queued = []
    for _ in range(8):
        step = await batches.service.run_chunk(batch_id, claimant="run")
        early = await batches.service.run_chunk(batch_id, claimant="other")
        assert step.progress.queued == early.progress.queued
        assert step.wait_ms == early.wait_ms == 500
        queued.append(step.progress.queued)
        clock.move(0.5)

    assert queued == [5, 10, 15, 20, 25, 30, 35, 40]


async def test_the_lower_rate_of_batch_and_settings_counts(batches: Batches) -> None:
    sender, *users = await batches.users(11)
    batches.service = batches.another(RATE_PER_S="2")
    batch_id = await batches.start(sender, users, rate_per_s=1_000)

    step = await batches.service.run_chunk(batch_id, claimant="run")

    assert (step.progress.queued, step.wait_ms) == (1, 500)


async def test_cancel_half_way_sends_to_nobody_else(batches: Batches) -> None:
    sender, *users = await batches.users(31)
    batches.service = batches.another(CHUNK="10")
    batch_id = await batches.start(sender, users)
    await batches.service.run_chunk(batch_id, claimant="run")
    first, second, third, *rest = await batches.jobs()
    await batches.end(first)

    stopping = await batches.service.cancel(batch_id)
    assert (stopping.state, stopping.cancelled, stopping.queued) == ("cancelling", 20, 10)
    await batches.service.run_chunk(batch_id, claimant="run")
    tombstones = await batches.server.hkeys(QueueKeys(MESSAGES).cancelled)
    assert {each.decode() for each in tombstones} == {job["id"] for job in (second, third, *rest)}
    # One was at work when it was taken back: its message is there, and that counts.
    await batches.end(second, "lose")
    for job in (second, *rest):
        await batches.end(job, ("cancelled", f"batch-cancelled: batch {batch_id}"))
    await batches.end(third)
    step = await batches.service.run_chunk(batch_id, claimant="run")

    assert step.is_over
    now = step.progress
    assert (now.state, now.sent, now.cancelled, now.failed) == ("cancelled", 3, 27, 0)
    assert sum((await batches.messages(sender)).values()) == 3
    assert await batches.service.cancel(batch_id) == now


async def test_full_queue_is_waited_for_without_a_slot(batches: Batches) -> None:
    sender, *users = await batches.users(9)
    await batches.server.hset(QueueKeys(MESSAGES).control, "jobs_max", "3")
    batch_id = await batches.start(sender, users)

    step = await batches.service.run_chunk(batch_id, claimant="run")

    assert (step.wait_ms, step.progress.queued, step.progress.waiting) == (1_000, 3, 5)
    await batches.server.hdel(QueueKeys(MESSAGES).control, "jobs_max")


async def test_no_more_than_so_many_wait_in_the_queue(batches: Batches) -> None:
    sender, *users = await batches.users(31)
    batches.service = batches.another(QUEUED_MAX="8")
    batch_id = await batches.start(sender, users)
    for _ in range(3):
        step = await batches.service.run_chunk(batch_id, claimant="run")
        assert step.progress.queued == 8
    for job in (await batches.jobs())[:5]:
        await batches.end(job)
    step = await batches.service.run_chunk(batch_id, claimant="run")

    assert (step.progress.sent, step.progress.queued) == (5, 8)


async def test_messages_are_looked_up_when_nothing_is_heard(batches: Batches) -> None:
    """Goal: answers that were lost, with a server's memory, do not keep a batch open for ever."""
    sender, gone, unknown, *users = await batches.users(6)
    batch_id = await batches.start(sender, [gone, unknown, *users])
    await batches.service.run_chunk(batch_id, claimant="run")
    for job in await batches.jobs():
        lost = (str(child_of(batch_id, gone)), str(child_of(batch_id, unknown)))
        if job["id"] not in lost:
            await batches.end(job, "lose")
    await batches.server.flushall()
    database = batches.world.database
    await database.execute(
        "UPDATE conversations SET deleted_at = now() WHERE id = $1",
        direct_conversation(sender, gone),
    )

    async def quiet(interval: str) -> BatchProgress:
        await database.execute(
            f"UPDATE message_batches SET changed_at = now() - interval '{interval}'"
        )
        return (await batches.service.run_chunk(batch_id, claimant="run")).progress

    assert (await quiet("20 seconds")).queued == 5
    now = await quiet("40 seconds")
    assert (now.sent, now.queued, now.errors) == (3, 1, {"conversation-deleted": 1})
    assert (await quiet("23 hours")).queued == 1
    now = await quiet("25 hours")
    assert now.state == "finished"
    assert now.errors == {"conversation-deleted": 1, "unconfirmed": 1}


async def test_answers_that_tell_of_no_end_change_nothing(batches: Batches) -> None:
    sender, user = await batches.users(2)
    batch_id = await batches.start(sender, [user])
    await batches.service.run_chunk(batch_id, claimant="run")
    (job,) = await batches.jobs()
    for told in (
        {"id": job["id"], "outcome": "done", "result": '{"duplicateOf":"x"}'},
        {"id": "no uuid", "outcome": "done", "result": "null"},
        {"id": str(uuid4()), "outcome": "done", "result": "null"},
        {"nothing": "known"},
    ):
        await batches.server.xadd(job["reply"], told)  # type: ignore[arg-type]
    step = await batches.service.run_chunk(batch_id, claimant="run")

    assert (step.progress.queued, step.progress.sent) == (1, 0)
    assert await batches.server.xlen(job["reply"]) == 0


async def test_the_sender_hears_how_far_it_is(batches: Batches) -> None:
    sender, *users = await batches.users(21)
    batches.service = batches.another(CHUNK="5")
    batch_id = await batches.start(sender, users)

    await batches.work(batch_id)

    events = await batches.events(sender)
    assert [event["type"] for event in events] == ["batch.progress"] * 4 + ["batch.finished"]
    assert [event["percent"] for event in events] == [0, 25, 50, 75, 100]
    assert events[-1] | {"sent": 20, "state": "finished", "batchId": str(batch_id)} == events[-1]


async def test_a_finished_batch_keeps_no_content_and_no_answers(batches: Batches) -> None:
    sender, *users = await batches.users(3)
    batch_id = await batches.start(sender, users)
    await batches.work(batch_id)

    assert await batches.world.value("SELECT spec ? 'content' FROM message_batches") is False
    assert await batches.server.keys("*:reply:*") == []
    again = await batches.service.run_chunk(batch_id, claimant="late")
    assert again.is_over
    assert len(await batches.events(sender)) == 2


async def test_run_puts_itself_off_until_there_is_more_to_do(batches: Batches) -> None:
    sender, *users = await batches.users(9)
    batch_id = await batches.start(sender, users)
    told: list[float] = []

    async def report(percent: float, _message: str) -> None:
        told.append(percent)

    with pytest.raises(Snooze) as put_off:
        await batches.service.run(batch_id, claimant="run", report=report)
    assert 0 < put_off.value.after_ms <= 5_000
    for job in await batches.jobs():
        await batches.end(job)
    summary = await batches.service.run(batch_id, claimant="run", report=report)

    assert summary.sent == 8
    assert (told[0], told[-1]) == (0, 100)


async def test_outage_of_the_queue_puts_the_run_off_and_loses_nothing(
    world: World, redis_server: RedisTestServer
) -> None:
    url = redis_server.url
    async with connect(url) as server, Client(url, give_up_s=0.2, when_full="fail") as producer:
        batches = Batches(world, producer, server)
        sender, *users = await batches.users(9)
        batch_id = await batches.start(sender, users)
        redis_server.kill9()
        with pytest.raises(ServiceUnavailable):
            await batches.service.run_chunk(batch_id, claimant="run")
        redis_server.start()

        summary = await batches.work(batch_id)

        assert summary.sent == 8
        assert await batches.messages(sender) == Counter(users)


async def test_an_outage_between_claim_and_mark_leaves_the_claim_to_the_same_run(
    batches: Batches,
) -> None:
    sender, *users = await batches.users(9)
    batch_id = await batches.start(sender, users)
    good = batches.service._producer
    async with Client("redis://127.0.0.1:1", give_up_s=0.05, when_full="fail") as bad:
        batches.service._producer = bad
        with pytest.raises(ServiceUnavailable, match="queue"):
            await batches.service.run_chunk(batch_id, claimant="run")
    assert await batches.states(batch_id) == {1: 8}
    batches.service._producer = good

    await batches.service.run_chunk(batch_id, claimant="run")
    assert await batches.states(batch_id) == {2: 8}


def test_direct_conversation_is_the_same_from_both_ends() -> None:
    one, other = UUID(int=1), UUID(int=2)
    assert direct_conversation(one, other) == direct_conversation(other, one)
    assert direct_conversation(one, other) != direct_conversation(one, UUID(int=3))

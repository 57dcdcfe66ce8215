"""The services of applications, and their commands, over real queues and a real outbox."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from engine import Enqueued, JobRefused, NewJob
from engine.wire.keys import QueueKeys
from processors.applications import open_integration, open_queues
from processors.database import outbox
from processors.database.migrations import migrate
from processors.services.queue_health import Limits
from processors.services.queue_integration import QueueIntegrationService
from processors.services.queues import MessageQueueService
from schemas.job import ErrorRecord
from schemas.messages import CancelBatch, DeliveryConfirmation, SendMessage
from schemas.stats import DeadFilter
from tests.integration.processors.world import World
from tests.support.queue_writer import QueueWriter
from tests.support.servers import RedisTestServer

pytestmark = pytest.mark.servers

ROOT = Path(__file__).parents[3]
DELIVERY, INDEXING = "message-delivery", "indexing"
MESSAGE = SendMessage(
    conversation_id=UUID(int=1), sender_id=UUID(int=2), content="hi", client_message_id="c"
)


@pytest.fixture
async def queues(redis_url: str) -> AsyncIterator[MessageQueueService]:
    async with open_queues(redis_url, who="shop", environ={}) as found:
        yield found


@pytest.fixture
async def all_queues(
    world: World, redis_url: str, postgres_url: str
) -> AsyncIterator[QueueIntegrationService]:
    async with open_integration(
        redis_url, who="shop", postgres_url=postgres_url, environ={}
    ) as found:
        yield found


@pytest.fixture
def writer(redis_url: str) -> Iterator[QueueWriter]:
    found = QueueWriter(redis_url)
    found.open()
    yield found
    found.close()


def indexed(number: int) -> NewJob:
    return NewJob(INDEXING, {"action": "index", "messageIds": [str(UUID(int=number))]})


def bury_some(writer: QueueWriter) -> None:
    """Six dead jobs that may do better, four that will not, of three groups."""
    for number in range(6):
        writer.bury(f"slow-{number}", reason="timeout", fingerprint="a" * 12)
    for number in range(3):
        error = ErrorRecord(kind="Cancel", message="not-a-member: user 7")
        writer.bury(f"no-{number}", reason="cancelled", error=error, fingerprint="b" * 12)
    writer.bury("bad", reason="malformed", fingerprint="c" * 12)


async def test_each_method_adds_a_job_of_its_type(
    queues: MessageQueueService, writer: QueueWriter
) -> None:
    receipt = DeliveryConfirmation(
        user_id=UUID(int=1), conversation_id=UUID(int=2), read_up_to_seq=1
    )
    some = [str(uuid4())]
    added = [
        await queues.add_message_delivery_job(MESSAGE, priority="high", id="m-1", ttl_ms=9_000),
        await queues.add_message_delivery_job(receipt, delay_ms=5_000),
        await queues.add_indexing_job({"action": "index", "messageIds": some}),
        await queues.add_batch_message_job(CancelBatch(batch_id=UUID(int=3)), priority="critical"),
        await queues.add_cleanup_job({"action": "housekeeping"}, key="k"),
        await queues.add_notification_job({"action": "message", "messageIds": some}),
    ]

    assert [(each.queue, each.lane) for each in added] == [
        (DELIVERY, "high"),
        (DELIVERY, "normal"),
        (INDEXING, "normal"),
        ("batch-message", "critical"),
        ("cleanup", "normal"),
        ("notification", "normal"),
    ]
    assert isinstance(added[0], Enqueued)
    assert added[0].id == "m-1"
    ((_, fields),) = writer.lane("high")
    told = dict(zip(fields[::2], fields[1::2], strict=True))
    assert (told[b"type"], told[b"id"], told[b"ttl"]) == (b"send-message", b"m-1", b"9000")
    ((_, fields),) = writer.lane("normal")
    assert b"delivery-confirmation" in fields


async def test_payload_that_is_none_of_its_type_is_refused(queues: MessageQueueService) -> None:
    for adding in (
        queues.add_message_delivery_job({"content": "hi"}),
        queues.add_batch_message_job({"action": "begin"}),
        queues.add_indexing_job(MESSAGE),
    ):
        with pytest.raises(JobRefused, match="data-schema"):
            await adding


async def test_queues_are_counted_paused_and_resumed(
    queues: MessageQueueService, writer: QueueWriter
) -> None:
    await queues.add_message_delivery_job(MESSAGE)

    paused = await queues.pause_queue(DELIVERY, reason="move")
    (metrics,) = await queues.get_queue_metrics([DELIVERY])
    assert (paused.changed, metrics.paused, metrics.waiting) == (True, True, 1)
    assert metrics.paused_by is not None
    assert (metrics.paused_by.who, metrics.paused_by.reason) == ("shop", "move")
    assert (await queues.resume_queue(DELIVERY)).changed
    assert not (await queues.get_queue_metrics([DELIVERY]))[0].paused
    assert {each.queue for each in await queues.get_queue_metrics()} >= {DELIVERY, INDEXING}


async def test_bulk_tells_of_each_job_and_goes_on_past_bad_ones(
    all_queues: QueueIntegrationService, writer: QueueWriter
) -> None:
    jobs = [indexed(number) for number in range(1_203)]
    jobs[7] = NewJob(INDEXING, {"action": "index"})
    jobs[600] = NewJob("no-such-type", {})
    told: list[int] = []

    items = await all_queues.bulk_create(jobs, on_progress=lambda item: told.append(item.index))

    assert [item.index for item in items] == told == list(range(1_203))
    assert Counter(item.status for item in items) == {"accepted": 1_201, "refused": 2}
    assert "data-schema" in items[7].error
    assert "queue-unknown" in items[600].error
    assert len({item.id for item in items}) == 1_203


async def test_bulk_names_its_jobs_alike_every_time(
    all_queues: QueueIntegrationService,
) -> None:
    jobs = [indexed(1), indexed(1), NewJob(INDEXING, {"action": "index"}, id="own")]

    first, second, third, named = [
        [item.id for item in await all_queues.bulk_create(these, name=name)]
        for these, name in ((jobs, ""), (list(jobs), ""), (jobs[::-1], ""), (jobs, "other"))
    ]

    assert first == second
    assert first[0] != first[1]
    assert first[2] == third[0] == "own"
    assert not {*first[:2]} & {*named[:2]}


async def test_bulk_says_of_every_job_that_the_server_is_away(
    redis_server: RedisTestServer,
) -> None:
    async with open_integration(redis_server.url, who="shop", environ={}) as service:
        service._client._producer._give_up_s = 0.2
        redis_server.kill9()
        items = await service.bulk_create([indexed(number) for number in range(1_100)])

    assert [item.index for item in items] == list(range(1_100))
    assert {item.status for item in items} == {"unsent"}
    assert all(item.error for item in items)


async def test_health_of_a_back_end_that_is_well(
    all_queues: QueueIntegrationService, redis_url: str
) -> None:
    found = await all_queues.health()
    writers = [QueueWriter(redis_url, each.queue) for each in found.queues]
    assert {each.queue for each in found.queues} >= {DELIVERY, INDEXING, "batch-message"}
    for number, each in enumerate(writers):
        each.open()
        each.beat(f"e{number}")

    found = await all_queues.health()

    assert found.healthy, found.findings
    assert found.redis_ms is not None
    assert found.postgres_ms is not None
    assert len(found.engines) == len(writers)
    assert {each.state for each in found.queues} == {"well"}
    for each in writers:
        each.close()


async def test_health_finds_what_is_wrong(
    all_queues: QueueIntegrationService, world: World, writer: QueueWriter
) -> None:
    old = writer.now_ms() - 3_600_000
    writer.enqueue(entry=f"{old}-1")
    writer.enqueue()
    writer.deliver(1)
    writer.bury("dead")
    async with world.database.transaction() as connection:
        await outbox.insert(connection, "user", "u", {"n": 1})
        await outbox.enqueue(connection, "indexing", {"n": 1}, queue=INDEXING)
        await connection.execute("UPDATE outbox SET created_at = now() - interval '2 minutes'")
        await connection.execute(
            "INSERT INTO outbox (topic, key, payload, failed_at) VALUES ('job', 'q', '{}', now())"
        )

    found = await all_queues.health(Limits(backlog_ms=1_000))

    checks = {(each.check, each.queue, each.severity) for each in found.findings}
    assert not found.healthy
    assert ("served", DELIVERY, "error") in checks
    assert ("stalled", DELIVERY, "warning") in checks
    assert ("outbox", "", "error") in checks
    assert ("outbox", "", "warning") in checks
    assert found.outbox is not None
    assert (found.outbox.events, found.outbox.jobs, found.outbox.set_aside) == (1, 1, 1)
    assert min(found.outbox.events_oldest_ms, found.outbox.jobs_oldest_ms) >= 120_000
    look = next(each for each in found.queues if each.queue == DELIVERY)
    assert (look.waiting, look.active, look.stalled, look.dead) == (1, 1, 1, 1)
    patient = await all_queues.health(Limits(outbox_ms=10**9))
    assert [each.severity for each in patient.findings if each.check == "outbox"] == ["warning"]


async def test_health_outlives_both_servers(unused_port: int) -> None:
    away = f"127.0.0.1:{unused_port}"
    async with open_integration(
        f"redis://{away}", who="shop", postgres_url=f"postgresql://x@{away}/x", environ={}
    ) as service:
        found = await service.health()

    assert not found.healthy
    assert (found.redis_ms, found.postgres_ms, found.outbox, found.queues) == (None, None, None, [])
    assert {each.check for each in found.findings} == {"postgres", "reachable"}


async def test_failed_jobs_are_grouped_over_queues_with_samples(
    all_queues: QueueIntegrationService, writer: QueueWriter, redis_url: str
) -> None:
    bury_some(writer)
    other = QueueWriter(redis_url, INDEXING)
    other.bury("i-1", type="indexing", reason="exhausted", fingerprint="d" * 12)
    other.close()

    found = await all_queues.analyse_failed()

    assert (found.dead, found.permanent) == (11, 4)
    assert found.by_queue == {DELIVERY: 10, INDEXING: 1}
    assert found.by_reason == {"timeout": 6, "cancelled": 3, "malformed": 1, "exhausted": 1}
    largest = found.groups[0]
    assert (largest.queue, largest.jobs, largest.permanent) == (DELIVERY, 6, False)
    assert largest.samples == ["slow-5", "slow-4", "slow-3"]
    assert largest.first_ms <= largest.last_ms
    assert (await all_queues.analyse_failed([INDEXING])).dead == 1


async def test_retry_of_all_leaves_what_would_only_die_again(
    all_queues: QueueIntegrationService, writer: QueueWriter, redis_url: str
) -> None:
    bury_some(writer)
    other = QueueWriter(redis_url, INDEXING)
    other.open()
    other.bury("i-1", type="indexing", reason="exhausted", fingerprint="d" * 12)

    planned = await all_queues.retry_failed(dry_run=True)
    assert (planned.retried, planned.skipped_permanent, planned.dry_run) == (7, 4, True)
    assert len(writer.dead()) == 10
    told: list[int] = []
    done = await all_queues.retry_failed(reason="mended", on_progress=told.append)

    assert (done.retried, done.skipped_permanent, done.complete) == (7, 4, True)
    assert {each.queue: each.changed for each in done.queues} == {DELIVERY: 6, INDEXING: 1}
    assert told[-1] == 7
    assert (len(writer.dead()), len(writer.lane()), len(other.lane())) == (4, 6, 1)
    audit = await all_queues._admin.audit()
    assert {(each.queue, each.who, each.reason) for each in audit} == {
        (DELIVERY, "shop", "mended"),
        (INDEXING, "shop", "mended"),
    }
    forced = await all_queues.retry_failed(force=True)
    assert (forced.retried, forced.skipped_permanent) == (4, 0)
    other.close()


async def test_retry_keeps_to_its_filter_and_its_limit(
    all_queues: QueueIntegrationService, writer: QueueWriter
) -> None:
    bury_some(writer)

    limited = await all_queues.retry_failed(limit=2)
    assert (limited.retried, limited.complete) == (2, False)
    none = await all_queues.retry_failed(DeadFilter(reason="malformed"))
    assert (none.retried, none.skipped_permanent) == (0, 1)
    one = await all_queues.retry_failed(DeadFilter(fingerprint="b" * 12), force=True, limit=1)
    assert one.retried == 1
    elsewhere = await all_queues.retry_failed(queues=[INDEXING])
    assert (elsewhere.retried, elsewhere.queues) == (0, [])
    assert len(writer.dead()) == 7


async def test_retry_keeps_to_its_rate(
    all_queues: QueueIntegrationService, writer: QueueWriter
) -> None:
    bury_some(writer)
    slept: list[float] = []

    class Still:
        """A clock that stands, and notes how long was waited."""

        def monotonic(self) -> float:
            return sum(slept)

        async def sleep(self, seconds: float) -> None:
            slept.append(seconds)

    all_queues._admin._clock = Still()  # type: ignore[assignment]
    done = await all_queues.retry_failed(rate=2)

    assert done.retried == 6
    assert sum(slept) == pytest.approx(2.5)


def command(redis_url: str, postgres_url: str, *words: str, data: str = "") -> Any:
    return subprocess.run(
        [sys.executable, "-m", "processors", *words],
        env={
            **{name: text for name, text in os.environ.items() if not name.startswith("ENGINE_")},
            "PYTHONPATH": str(ROOT),
            "ENGINE_REDIS_URL": redis_url,
            "ENGINE_POSTGRES_URL": postgres_url,
        },
        input=data,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_commands_say_what_the_services_say(
    redis_url: str, postgres_url: str, writer: QueueWriter
) -> None:
    asyncio.run(migrate(postgres_url))
    bury_some(writer)
    health = command(redis_url, postgres_url, "health", "--json")
    assert health.returncode == 1, health.stderr
    assert json.loads(health.stdout)["outbox"]["jobs"] == 0
    plain = command(redis_url, postgres_url, "health")
    assert "no live engine serves queue message-delivery" in plain.stdout
    assert "not healthy" in plain.stdout

    failed = command(redis_url, postgres_url, "failed", "--json")
    assert json.loads(failed.stdout)["permanent"] == 4
    assert "10 dead jobs, 4 of which" in command(redis_url, postgres_url, "failed").stdout

    planned = command(redis_url, postgres_url, "retry-failed", "--dry-run", "--json")
    assert json.loads(planned.stdout)["retried"] == 6
    done = command(redis_url, postgres_url, "retry-failed", DELIVERY, "--type", "send-message")
    assert done.stdout.splitlines() == ["6 jobs came back", "  message-delivery: 6"]
    assert "4 would only die again" in done.stderr


def test_bulk_command_takes_json_lines(redis_url: str, postgres_url: str) -> None:
    good = {"type": "indexing", "data": {"action": "index", "messageIds": [str(uuid4())]}}
    lines = [json.dumps(good), "", "no json", json.dumps({"type": "indexing", "data": {}})]

    plain = command(redis_url, postgres_url, "bulk", "-", data="\n".join(lines))
    assert plain.returncode == 1
    assert plain.stdout == "1 accepted, 1 refused, 1 no jobs\n"
    assert "line 3" in plain.stderr
    assert "line 4: refused: data-schema" in plain.stderr

    as_json = command(redis_url, postgres_url, "bulk", "-", "--json", data=lines[0] + "\n")
    assert as_json.returncode == 0, as_json.stderr
    (told,) = map(json.loads, as_json.stdout.splitlines())
    assert (told["line"], told["status"]) == (1, "accepted")
    server = QueueWriter(redis_url, INDEXING)
    ids = {fields[fields.index(b"id") + 1] for _, fields in server.lane()}
    assert ids == {told["id"].encode()}, "the same line again has the same id"
    assert server.call("EXISTS", QueueKeys(INDEXING).dead) == 0
    server.close()

"""Charts, percentiles and paces from what engines wrote, over a real server."""

from __future__ import annotations

from typing import Any

import pytest

from engine.admin import Admin
from engine.core.numbers import levels_text
from engine.errors import EngineError
from engine.store.redis import RedisStore
from engine.testing import ManualClock
from schemas.numbers import HOUR_MS, MINUTE_MS, QUARTER_MS, Levels
from schemas.stats import QueueLoad
from tests.support.queue_writer import QUEUE, TYPE, QueueWriter


class Book:
    """Writes minutes, counted back from the last one that is over."""

    def __init__(self, queue: QueueWriter) -> None:
        self.queue = queue
        self.now_ms = queue.now_ms()
        self.last = (self.now_ms - 10_000) // MINUTE_MS - 1

    def minute(self, minute: int, levels: Levels | None = None, **fields: Any) -> None:
        key = self.queue.keys.minutes(minute * MINUTE_MS)
        named = {name.replace("_", ":", 1): value for name, value in fields.items()}
        if levels is not None:
            named["levels"] = levels_text(levels)
        flat = [part for name, value in named.items() for part in (f"{minute}:{name}", value)]
        self.queue.call("HSET", key, *flat)
        for name, value in named.items():
            if name.startswith(("done:", "dead:", "retried:")):
                self.queue.call("HINCRBY", self.queue.keys.stats, name, value)


@pytest.fixture
def book(queue: QueueWriter) -> Book:
    """Give what writes minutes as engines do."""
    return Book(queue)


async def test_an_hour_is_told_by_the_minute_with_gaps(admin: Admin, book: Book) -> None:
    book.minute(book.last - 3, Levels(waiting=10), done_a=7)
    book.minute(book.last - 2, Levels(waiting=30, oldest_ms=800), done_a=7, done_b=3, dead_a=2)
    book.minute(book.last, Levels(waiting=5), done_a=50, wait_low="0,0,0,100")
    book.minute(book.last + 1, Levels(waiting=999), done_a=999)

    series = await admin.series(QUEUE, "1h")

    columns = series.columns
    assert (series.step_ms, len(columns.done)) == (MINUTE_MS, 60)
    assert series.from_ms + 60 * MINUTE_MS == (book.last + 1) * MINUTE_MS
    assert columns.done[-4:] == [7, 10, None, 50]
    assert columns.dead[-4:] == [0, 2, None, 0]
    assert columns.waiting[-4:] == [10, 30, None, 5]
    assert columns.oldest_ms[-4:] == [0, 800, None, 0]
    assert columns.came[-4:] == [None, 32, None, None]
    assert columns.wait_p50_ms[-4:] == [None, None, None, 17.5]
    assert set(columns.done[:-4]) == {None}


async def test_a_day_is_told_by_quarters_kept_or_not(
    admin: Admin, book: Book, redis_url: str
) -> None:
    """Goal: it makes no difference whether an engine has summed a quarter up already."""
    quarter = (book.now_ms - 10_000) // QUARTER_MS
    for back in range(1, 9):
        book.minute((quarter - back) * 15 + 7, Levels(waiting=back), done_a=back)
    before = (await admin.series(QUEUE, "24h")).columns
    store = RedisStore.from_url(redis_url, consumer="e1")
    await store.sum_up(QUEUE, book.now_ms + 30_000)
    await store.close()
    admin._shelf.kept.clear()

    after = (await admin.series(QUEUE, "24h")).columns

    assert after.done[-8:] == [8, 7, 6, 5, 4, 3, 2, 1]
    assert before.done[-8:] == after.done[-8:]
    assert after.came[-7:] == [6, 5, 4, 3, 2, 1, 0]
    assert after.done[:-8] == [None] * 88


async def test_a_week_is_told_from_what_was_kept(admin: Admin, book: Book) -> None:
    hour = (book.now_ms - 10_000) // HOUR_MS
    for back, count in ((1, 5), (100, 6), (168, 7), (169, 8)):
        for part in (0, 3):
            quarter = (hour - back) * 4 + part
            record = f'{{"ends":{{"done":{{"a":{count}}}}},"wait":{{"low":[0,0,0,{count}]}}}}'
            book.queue.call("HSET", book.queue.keys.quarters(quarter * QUARTER_MS), quarter, record)

    series = await admin.series(QUEUE, "7d")

    done = series.columns.done
    assert (series.step_ms, len(done)) == (HOUR_MS, 168)
    assert {at: count for at, count in enumerate(done) if count is not None} == {
        0: 14,
        68: 12,
        167: 10,
    }
    assert series.columns.wait_p50_ms[68] == 17.5


async def test_all_queues_are_added_up(admin: Admin, book: Book, redis_url: str) -> None:
    other = QueueWriter(redis_url, "other")
    other.open()
    book.minute(book.last, Levels(waiting=3, oldest_ms=10), done_a=1)
    book.minute(book.last - 1, Levels(waiting=3, oldest_ms=10), done_a=1)
    Book(other).minute(book.last, Levels(waiting=4, oldest_ms=90), done_z=2)
    other.beat("e2", queues={"other": _load()})
    other.close()

    columns = (await admin.series()).columns

    assert columns.done[-2:] == [1, 3]
    assert columns.waiting[-2:] == [3, 7]
    assert columns.oldest_ms[-1] == 90
    # What a queue held when it was first seen did not come in just then.
    assert columns.came[-1] == 1


async def test_what_people_did_is_marked(admin: Admin, book: Book) -> None:
    await admin.pause(QUEUE, reason="provider down")
    await admin.resume(QUEUE)
    await admin.pause("elsewhere")
    book.queue.beat()

    marks = (await admin.series(QUEUE)).marks

    assert [(mark.what, mark.who, mark.reason) for mark in marks] == [
        ("pause", "ada@here", "provider down"),
        ("resume", "ada@here", ""),
        ("version", "0", ""),
    ]


async def test_a_range_or_queue_that_is_none_is_refused(admin: Admin) -> None:
    with pytest.raises(EngineError, match="must match"):
        await admin.series("no queue")


async def test_percentiles_are_those_of_all_minutes_together(admin: Admin, book: Book) -> None:
    book.minute(book.last, run_a="0,0,0,90", done_a=90, retried_a=10, wait_low="4")
    book.minute(book.last - 59, run_a="0,0,0,0,0,0,0,0,0,0,10", done_b=1)
    book.minute(book.last - 60, run_a="10000")

    told = await admin.percentiles(QUEUE)

    assert told.types["a"].run.count == 100
    assert told.types["a"].run.p50_ms == pytest.approx(10 + 15 * 50 / 90, abs=0.01)
    assert told.types["a"].run.p95_ms == 3_750
    assert told.types["a"].failing == 0.1
    assert (told.types["b"].done, told.types["b"].run.p50_ms) == (1, None)
    assert told.waits["low"].count == 4


async def test_a_glance_reads_minutes_once(redis_url: str, queue: QueueWriter, book: Book) -> None:
    """Goal: asked once a second, a glance costs the server next to nothing."""
    queue.enqueue()
    queue.beat()
    for back in range(70):
        book.minute(book.last - back, Levels(), done_a=back)
    async with Admin(redis_url, who="ada", types={QUEUE: [TYPE]}, clock=ManualClock()) as admin:
        stats = await admin.queues()
        first = (await admin.glance(stats))[QUEUE]
        ran = _commands(queue)
        again = (await admin.glance(stats))[QUEUE]
        # What tells it runs itself.
        assert _commands(queue) == ran + 1

    assert first.spark.done == list(range(59, -1, -1))
    assert again.spark is first.spark
    assert (first.empty_in_ms, first.empty) == (None, "never")


async def test_deaths_are_told_by_group_over_a_day(admin: Admin, book: Book) -> None:
    quarter = book.now_ms // QUARTER_MS
    book.minute(quarter * 15, deaths_abc=2)
    record = '{"deaths":{"abc":5,"old":1}}'
    back = quarter - 90
    book.queue.call("HSET", book.queue.keys.quarters(back * QUARTER_MS), back, record)

    rates = await admin.death_rates(QUEUE)

    assert (rates["abc"].hour, rates["abc"].deaths[-1], sum(rates["abc"].deaths)) == (2, 2, 7)
    assert rates["abc"].deaths[5] == 5
    assert (rates["old"].hour, sum(rates["old"].deaths)) == (0, 1)
    assert len(rates["old"].deaths) == 96


def _commands(queue: QueueWriter) -> int:
    info = queue.call("INFO", "stats")
    told = dict(line.split(b":") for line in info.split() if b":" in line)
    return int(told[b"total_commands_processed"])


def _load() -> Any:
    return QueueLoad(running=0, buffered=0, concurrency=1, types=["z"])

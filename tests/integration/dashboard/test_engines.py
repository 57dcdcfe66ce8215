"""The routes about engines, and about what is sent to them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from engine.admin import Admin
from engine.errors import StoreUnavailable
from engine.store.operator.in_flight import is_of
from engine.wire.codec import META, encode_meta
from schemas.engines import Setting
from schemas.job import AttemptRecord, ErrorRecord, Meta
from tests.support.page import Open, Visited, engine
from tests.support.queue_writer import QUEUE, TYPE, QueueWriter, job_fields


async def got(page: Visited, path: str, status: int = 200) -> Any:
    answer, text = await page.ask(path)
    assert answer.status == status, text
    return json.loads(text)


async def test_an_engine_shows_the_jobs_that_it_has_and_no_others(
    redis_url: str, site: Open
) -> None:
    """
    Goal: what one engine has taken, by each start's own name, whatever others have.

    Method: three consumers take jobs of two lanes; one of them is of an engine whose name begins
    alike.
    """
    queue = QueueWriter(redis_url)
    queue.open()
    for name in ("eng-1", "eng-1-b"):
        queue.beat(name, types=(TYPE,))
    for number in range(4):
        queue.enqueue(job_fields(id=f"a{number}"), lane="high" if number % 2 else "normal")
    error = ErrorRecord(kind="ValueError", message="secret")
    failed = AttemptRecord(number=1, at_ms=1, run_ms=1, engine="e", outcome="failed", error=error)
    meta = encode_meta(Meta(id="other", enqueued_ms=1, attempts=1, history=(failed,)))
    queue.enqueue([*job_fields(id="other"), META, meta], lane="low")
    queue.call(
        "XREADGROUP", "GROUP", "engine", "eng-1-7fc3", "STREAMS", queue.keys.lane("high"), ">"
    )
    queue.call(
        *("XREADGROUP", "GROUP", "engine", "eng-1-91aa", "STREAMS", queue.keys.lane("normal"), ">")
    )
    queue.call(
        *("XREADGROUP", "GROUP", "engine", "eng-1-b-7fc3", "STREAMS", queue.keys.lane("low"), ">")
    )
    async with Admin(redis_url, who="ada", types={QUEUE: [TYPE]}) as admin:
        page = await site(admin=admin)
        sealing = await site(admin=admin, redact={TYPE: "@error"})

        mine = await got(page, "/api/engines/eng-1")
        other = await got(page, "/api/engines/eng-1-b")
        every = await got(page, "/api/engines")
        sealed = await got(sealing, "/api/engines/eng-1-b")

        assert {job["id"] for job in mine["inFlight"]["jobs"]} == {"a0", "a1", "a2", "a3"}
        assert mine["inFlight"]["total"] == 4
        assert [job["id"] for job in other["inFlight"]["jobs"]] == ["other"]
        assert other["inFlight"]["jobs"][0]["note"] == "eng-1-b-7fc3"
        assert "secret" in other["inFlight"]["jobs"][0]["error"]
        assert "secret" not in sealed["inFlight"]["jobs"][0]["error"]
        assert set(every["order"]) == {"eng-1", "eng-1-b"}
        assert "no engine 'gone'" in (await got(page, "/api/engines/gone", 404))["detail"]


@pytest.mark.parametrize(
    ("consumer", "name", "holds"),
    [
        ("eng-1", "eng-1", True),
        ("eng-1-7fc3", "eng-1", True),
        ("eng-1-b-7fc3", "eng-1", False),
        ("eng-12", "eng-1", False),
    ],
)
def test_a_consumer_is_of_the_engine_that_its_name_says(
    consumer: str, name: str, holds: bool
) -> None:
    assert is_of(consumer, name) is holds


async def test_settings_are_shown_of_the_engine_that_answers_alone(site: Open) -> None:
    told = Setting(name="ENGINE_LEASE_MS", value="30000", meaning="Time after which …")
    page = await site(settings=[told])
    page.reads.engines_found = [engine("eng-1"), engine("eng-2")]

    assert [each["name"] for each in (await got(page, "/api/engines/eng-1"))["settings"]] == [
        "ENGINE_LEASE_MS"
    ]
    assert (await got(page, "/api/engines/eng-2"))["settings"] == []


async def test_readers_are_told_no_settings(site: Open) -> None:
    url = Setting(name="ENGINE_REDIS_URL", value="redis://queues.example", meaning="Where …")
    reader = "the-token-of-a-reader-of-the-page"
    page = await site(settings=[url], tokens={"rita": f"read:{reader}"})

    for path in ("/api/engines/eng-1", "/api/about"):
        answer, text = await page.ask(path, headers={"Authorization": f"Bearer {reader}"})
        assert (answer.status, "queues.example" in text) == (200, False)


async def test_about_tells_what_is_sent_also_while_the_server_is_away(site: Open) -> None:
    schema = {"title": "greet", "x-queue": "hall", "x-version": 2, "type": "object"}
    schema |= {"properties": {"name": {"type": "string"}}, "required": ["name"]}
    page = await site(schemas={"greet": schema})

    found = await got(page, "/api/about")
    page.reads.trouble = StoreUnavailable("connection", "refused")
    away = await got(page, "/api/about")

    (told,) = found["types"]
    assert (told["type"], told["queue"], told["version"]) == ("greet", "hall", 2)
    assert told["example"] == {"name": "text"}
    assert (found["server"], found["versions"]) == ("valkey 9.1.2", {"0.1.0": 1})
    assert (away["server"], away["types"]) == ("", found["types"])

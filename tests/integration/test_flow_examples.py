"""What engine/FLOW.md shows in Python and with bare commands works as it stands there."""

from __future__ import annotations

import ast
import inspect
import logging
import re
import shlex
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import redis

from engine import Client, Exponential, Job, Registry
from engine.admin import Admin
from engine.wire.keys import QueueKeys
from tests.support.engines import NO_WAIT, Server, serving
from tests.tidy.sources import ROOT

pytestmark = pytest.mark.servers

FLOW = (ROOT / "engine" / "FLOW.md").read_text()
REDIS = ("XADD", "XLEN", "HSET", "HDEL", "HMGET")


def part(heading: str) -> str:
    found = re.search(
        rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", FLOW, re.MULTILINE | re.DOTALL
    )
    assert found
    return found[1]


def bare(heading: str) -> list[list[str]]:
    """List the commands of Redis that a part shows."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", part(heading), re.MULTILINE | re.DOTALL)
    lines = [
        line
        for language, text in fenced
        if not language
        for line in re.findall(r"^(?:'[^']*'|[^'\n])+$", text, re.MULTILINE)
        if line.startswith(REDIS)
    ]
    return [shlex.split(line.replace("'{…}'", "'{}'")) for line in lines]


async def show(heading: str, number: int, url: str = "", **names: Any) -> dict[str, Any]:
    """Run one example in Python and return its names."""
    text = re.findall(r"```python\n(.*?)```", part(heading), re.DOTALL)[number]
    text = text.replace("redis://localhost", url)
    code = compile(text, heading, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    names |= {"__name__": __name__, "url": url}
    running = eval(code, names)
    if inspect.isawaitable(running):
        await running
    return names


def entries(url: str, queue: str, lane: str = "normal") -> list[dict[bytes, bytes]]:
    with redis.Redis.from_url(url) as client:
        return [fields for _, fields in client.xrange(QueueKeys(queue).lane(lane))]


@pytest.mark.parametrize("heading", re.findall(r"^## (.+)$", FLOW, re.MULTILINE))
def test_bare_commands_are_taken_by_the_server(redis_url: str, heading: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        for words in bare(heading):
            client.execute_command(*words)


async def test_order_by_key(redis_url: str) -> None:
    class Message(msgspec.Struct):
        conversation_id: int

    async with Client(redis_url, queues={"send-message": "message-delivery"}) as client:
        await show("Order by key", 0, client=client, message=Message(7))

    (shown, _) = bare("Order by key")
    (entry,) = entries(redis_url, "message-delivery")
    assert entry[b"key"].decode() == shown[-1] == "conversation-7"


async def test_limits(redis_url: str) -> None:
    class Sms(msgspec.Struct):
        text: str = ""

    answers = [SimpleNamespace(status=200), SimpleNamespace(status=429, retry_after_ms=200)]

    class provider:  # noqa: N801 - a name of the example
        @staticmethod
        async def send(_payload: Sms) -> SimpleNamespace:
            return answers.pop()

    registry = Registry()
    await show("Limits", 0, registry=registry, Job=Job, Sms=Sms, provider=provider)
    async with Server(redis_url, QueueKeys("notification")) as server:
        await server.call(*bare("Limits")[0])
        async with serving(registry, redis_url):
            await server.until_ended(1)
        assert len(await server.done()) == 1
    assert answers == []

    await show("Limits", 1, redis_url)
    async with Admin(redis_url, who="test") as admin:
        (limit,) = await admin.limits("shop")
    assert limit.name == "provider:sms"


async def test_schedules(redis_url: str) -> None:
    registry = Registry()
    for name in ("cleanup", "notification"):
        registry.job(name, queue="maintenance")(takes_anything)
    await show("Schedules", 0, registry=registry)
    assert set(registry.schedules) == {"nightly-cleanup", "pulse", "launch"}

    await show("Schedules", 1, redis_url)

    (job,) = entries(redis_url, "billing")
    assert job[b"type"] == b"invoice"
    async with Admin(redis_url, who="test") as admin:
        assert await admin.schedules(["billing"]) == []
        with redis.Redis.from_url(redis_url) as client:
            client.execute_command(*bare("Schedules")[0])
        (written,) = await admin.schedules(["maintenance"])
    assert written.when == "every day at 03:00 Europe/Berlin"


async def takes_anything(_job: Job, _payload: dict[str, Any]) -> None: ...


async def test_uniqueness(redis_url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with Client(redis_url, queues={"indexing": "indexing"}) as client:
        for _ in range(2):
            await show("Uniqueness", 0, client=client, payload={}, log=logging.getLogger("x"))

    told = [record.getMessage() for record in caplog.records if record.name == "x"]
    assert len(told) == 1
    assert told[0].startswith("under way already as n-")


async def test_flows_from_bare_xadd(redis_url: str) -> None:
    """The comments of the example say what the parent sees."""
    registry = Registry()
    seen: list[Any] = []

    class Report(msgspec.Struct):
        month: str

    @registry.around
    async def watched(job: Job, _payload: Any, call_next: Any) -> Any:
        seen.append(job.children)
        return await call_next()

    @registry.job("sum-up", queue="billing")
    async def sum_up(_job: Job, _payload: dict[str, Any]) -> int:
        return 420

    @registry.job("count", queue="usage", retry=NO_WAIT)
    async def count(_job: Job, _payload: dict[str, Any]) -> None:
        raise RuntimeError("no such month")

    @registry.job("fetch-rates", queue="reports")
    async def fetch_rates(_job: Job, _payload: dict[str, Any]) -> dict[str, float]:
        return {"eur": 1.08}

    registry.job("log-in", queue="reports")(takes_anything)
    await show("Flows", 0, registry=registry, Job=Job, Report=Report)
    async with Server(redis_url, QueueKeys("reports")) as server:
        await server.call(*bare("Flows")[0])
        async with serving(registry, redis_url):
            await server.until_ended(3)

    children = seen[-1]
    shown = re.findall(r"^    (children\..+?)  # (.+)$", part("Flows"), re.MULTILINE)
    assert len(shown) == 3
    for expression, comment in shown:
        told = comment.removesuffix(", in their order")
        assert eval(expression, {"children": children}) == ast.literal_eval(told)


async def test_flows_from_python(redis_url: str) -> None:
    registry = Registry()
    for name in ("sum-up", "yearly-report", "render", "mail"):
        registry.job(name, queue="reports", retry=Exponential(attempts=1))(takes_anything)
    await show("Flows", 1, redis_url, registry=registry)

    async with Server(redis_url, QueueKeys("reports")) as server, serving(registry, redis_url):
        await server.until_ended(15)


async def test_cancelling(redis_url: str) -> None:
    async with Server(redis_url, QueueKeys("shop")) as server:
        await server.add("type", "order", "data", "{}", "id", "order-4711")
        registry = Registry()
        registry.job("order", queue="shop")(takes_anything)
        await server.call("HSET", server.keys.control, "paused", "{}")
        await show("Cancel, reschedule, run now, change priority", 0, redis_url)
        assert await server.call("XLEN", server.keys.lane("critical")) == 1
        await server.call("DEL", server.keys.control)

        async with serving(registry, redis_url):
            await server.until_ended(1)
        ((record, _),) = await server.letters()

    assert (record.id, record.reason) == ("order-4711", "cancelled")


async def test_backpressure(redis_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    keys = QueueKeys("notification")
    with redis.Redis.from_url(redis_url) as client:
        for told in ("", "queue notification has 8 of 10 jobs, and lane low is"):
            names = await show("Backpressure", 0, redis_url)
            assert capsys.readouterr().out.startswith(told)
            for _ in range(7 - client.xlen(keys.lane("normal"))):
                client.xadd(keys.lane("normal"), {"type": "push", "data": "{}"})
            client.hset(keys.control, "jobs_max", "10")
    assert isinstance(names["job"], names["Shed"])
    assert len(entries(redis_url, "notification", "low")) == 1


async def test_why_a_job_is_not_running(redis_url: str) -> None:
    async with Server(redis_url, QueueKeys("shop")) as server:
        await server.add("type", "order", "data", "{}", "id", "order-4711")

    names = await show('"Why is this job not running?"', 0, redis_url)

    assert "no engine" in names["story"].why

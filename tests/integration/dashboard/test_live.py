"""Values that are followed live."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
import pytest

from engine.dashboard import live as live_module
from engine.dashboard.live import SAME, change_of, is_sayable, merge_patch
from engine.errors import StoreUnavailable
from engine.testing import ManualClock
from tests.support.page import Open, Visited, queue


@pytest.mark.parametrize(
    ("before", "after", "patch"),
    [
        ({"a": 1}, {"a": 1}, SAME),
        ({"a": 1, "b": 2}, {"a": 1, "b": 3}, {"b": 3}),
        ({"a": 1, "b": 2}, {"a": 1}, {"b": None}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}, {"a": {"c": 3}}),
        ({"a": [1, 2]}, {"a": [1]}, {"a": [1]}),
        ({"a": {}}, {"a": []}, {"a": []}),
        ({}, {"a": {"b": 1}}, {"a": {"b": 1}}),
        ([1], [1], SAME),
    ],
)
def test_a_patch_holds_what_changed(before: Any, after: Any, patch: Any) -> None:
    assert merge_patch(before, after) == patch


@pytest.mark.parametrize(
    ("before", "after", "sayable"),
    [
        ({"a": 1}, {"a": None}, True),
        ({"a": 1}, {}, True),
        ({"a": None}, {"a": {"b": 1}}, True),
        ({"a": None}, {"a": [{"b": None}]}, True),
        ({"a": None}, {"a": {"b": None}}, False),
        ({}, {"a": {"b": {"c": None}}}, False),
        ({"a": {"b": 1}}, {"a": {"b": 1, "c": None}}, False),
    ],
)
def test_a_patch_does_not_bring_null(before: Any, after: Any, sayable: bool) -> None:
    assert is_sayable(before, merge_patch(before, after)) is sayable


class Stream:
    """One stream of events."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self.answer = answer

    async def next(self) -> tuple[str, Any]:
        async with asyncio.timeout(10):
            name = (await self.answer.content.readline()).decode().removeprefix("event: ").strip()
            data = (await self.answer.content.readline()).removeprefix(b"data: ")
            await self.answer.content.readline()
        return name, msgspec.json.decode(data)

    async def until(self, wanted: str) -> Any:
        while True:
            name, data = await self.next()
            if name == wanted:
                return data


@asynccontextmanager
async def following(opened: Visited, of: str = "/api/overview") -> AsyncIterator[Stream]:
    url = f"http://{opened.address}/api/live"
    async with opened.session.get(url, params={"of": of}) as answer:
        assert answer.status == 200, await answer.text()
        assert answer.content_type == "text/event-stream"
        yield Stream(answer)


async def test_a_stream_begins_with_everything_and_goes_on_with_what_changed(site: Open) -> None:
    clock = ManualClock()
    opened = await site(clock=clock)

    async with following(opened) as stream:
        name, data = await stream.next()
        assert name == "snapshot"
        assert data["queues"]["message-delivery"]["stats"]["waiting"] == 321

        opened.reads.queues_found = [queue(waiting=322)]
        await clock.advance(live_module.EVERY_S)
        patch = await stream.until("patch")
        assert patch == {
            "queues": {"message-delivery": {"stats": {"waiting": 322}}},
            "totals": {"waiting": 322},
        }


async def test_nothing_is_sent_again_while_nothing_happens(site: Open) -> None:
    """
    Goal: numbers that tremble, as memory and beats do, cost no event.

    Method: the engine beats again, half a second later, with a little more memory.
    """
    clock = ManualClock()
    opened = await site(clock=clock)

    async with following(opened) as stream:
        await stream.next()
        (before,) = opened.reads.engines_found
        beat = msgspec.structs.replace(before.beat, rss_bytes=before.beat.rss_bytes + 4_096)
        opened.reads.engines_found = [
            msgspec.structs.replace(before, beat=beat, silent_ms=before.silent_ms + 400)
        ]
        await clock.advance(live_module.EVERY_S)
        assert (await stream.next())[0] == "same"


async def test_what_a_patch_cannot_say_comes_whole(site: Open) -> None:
    clock = ManualClock()
    opened = await site(clock=clock)

    async with following(opened) as stream:
        await stream.next()
        opened.reads.queues_found = [queue(), queue("another", paused_by=None)]
        await clock.advance(live_module.EVERY_S)

        data = await stream.until("snapshot")
        assert data["queues"]["another"]["stats"]["pausedBy"] is None


async def test_what_takes_the_loop_long_is_asked_for_less_often(
    site: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Goal: somebody who looks at a job of a megabyte does not hold up the jobs that run."""
    clock = ManualClock()
    opened = await site(clock=clock)

    def slow(before: Any, after: Any) -> bytes:
        clock.move(0.1)
        return change_of(before, after)

    monkeypatch.setattr(live_module, "change_of", slow)
    async with following(opened) as stream:
        await stream.next()
        asked = opened.reads.asked

        await clock.advance(live_module.REST * 0.1 - 0.01)
        assert opened.reads.asked == asked
        await clock.advance(0.02)
        await stream.next()
        assert opened.reads.asked == asked + 1


async def test_trouble_is_told_and_passes(site: Open) -> None:
    clock = ManualClock()
    opened = await site(clock=clock)
    opened.reads.trouble = StoreUnavailable("connection", "refused")

    async with following(opened) as stream:
        name, data = await stream.next()
        assert (name, data["status"]) == ("trouble", 503)

        opened.reads.trouble = None
        await clock.advance(live_module.EVERY_S)
        assert await stream.until("snapshot")


async def test_numbers_of_any_length_are_told(site: Open) -> None:
    opened = await site(clock=ManualClock())
    opened.reads.queues_found = [queue(concurrency=2**70)]

    async with following(opened) as stream:
        name, _ = await stream.next()
    answer, text = await opened.ask("/api/overview")

    assert (name, answer.status, str(2**70) in text) == ("snapshot", 200, True)


async def test_what_cannot_be_told_does_not_end_the_stream(site: Open) -> None:
    clock = ManualClock()
    opened = await site(clock=clock)
    opened.reads.queues_found = [queue(engines=["\ud800"])]

    async with following(opened) as stream:
        assert (await stream.next())[0] == "trouble"
        opened.reads.queues_found = [queue()]
        await clock.advance(live_module.EVERY_S)
        assert await stream.until("snapshot")


async def test_ten_followers_cost_one_reading(site: Open) -> None:
    opened = await site(clock=ManualClock())

    async with following(opened) as first:
        await first.next()
        asked = opened.reads.asked
        for _ in range(9):
            async with following(opened) as another:
                assert (await another.next())[0] == "snapshot"
        assert opened.reads.asked == asked


@pytest.mark.parametrize("of", ["/metrics", "/api/nothing", "", "/api/overview/../me"])
async def test_what_is_not_live_cannot_be_followed(of: str, site: Open) -> None:
    answer, _ = await (await site()).ask("/api/live", params={"of": of})

    assert answer.status == 404


async def test_streams_beyond_the_bound_are_refused(
    site: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_module, "STREAMS_MAX", 1)
    opened = await site()

    async with following(opened):
        answer, _ = await opened.ask("/api/live", params={"of": "/api/overview"})
        assert answer.status == 503


async def test_stopping_the_server_ends_streams(site: Open) -> None:
    opened = await site()

    async with following(opened) as stream:
        await stream.next()
        await opened.server.stop()
        assert await stream.answer.content.read() is not None


async def test_a_reader_that_never_reads_loses_its_place(
    site: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_module, "SILENT_S_MAX", 0.05)
    clock = ManualClock()
    opened = await site(clock=clock)
    loop = asyncio.get_running_loop()
    host, _, port = opened.address.rpartition(":")
    with socket.socket() as stuck:
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        stuck.setblocking(False)
        await loop.sock_connect(stuck, (host, int(port)))
        asked = b"GET /api/live?of=%2Fapi%2Foverview HTTP/1.1\r\nHost: localhost\r\n\r\n"
        await loop.sock_sendall(stuck, asked)
        streams = opened.server._live._streams
        while not streams.total():  # noqa: ASYNC110 - what is waited for has no signal
            await asyncio.sleep(0)

        number = 0
        while streams.total():
            number += 1
            opened.reads.queues_found = [
                queue(f"{'q' * 40}-{number}-{each}") for each in range(2_000)
            ]
            await clock.advance(live_module.EVERY_S)

"""The HTTP/2 client, against servers that use what the protocol allows, and what it does not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import h2.config
import h2.connection
import h2.events
import pytest
from h2.settings import SettingCodes

from processors.senders.http2 import Http2Client, Lost, Response
from processors.senders.http2_connection import Frames
from tests.peers.apns import goaway

SETTINGS = b"\0\0\0\x04\0\0\0\0\0"


class Server:
    """
    One HTTP/2 server without TLS, steered by hand.

    Attributes:
        bodies: What came, by stream; of one connection after the other.
        ended: Streams whose requests are whole, in their order.
        resets: Streams that the client took back.
    """

    def __init__(self, settings: dict[SettingCodes, int], *, answers: bool) -> None:
        self.settings = settings
        self.answers = answers
        self.bodies: dict[int, bytes] = {}
        self.ended: list[int] = []
        self.resets: list[int] = []
        self.connections = 0
        self.open_now: set[int] = set()
        self.open_most = 0
        self.changed = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writer = writer
        config = h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        self.h2 = h2.connection.H2Connection(config=config)
        self.h2.initiate_connection()
        if self.settings:
            self.h2.update_settings(self.settings)
        self.flush()
        with contextlib.suppress(ConnectionResetError):
            while data := await reader.read(65_536):
                for event in self.h2.receive_data(data):
                    self.on(event)
                self.flush()
                self.changed.set()
        writer.close()

    def on(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.RequestReceived(stream_id=int(stream)):
                self.bodies[stream] = b""
                self.open_now.add(stream)
                self.open_most = max(self.open_most, len(self.open_now))
            case h2.events.DataReceived(stream_id=int(stream)):
                self.bodies[stream] += event.data or b""
                if self.answers:
                    self.h2.acknowledge_received_data(event.flow_controlled_length or 0, stream)
            case h2.events.StreamEnded(stream_id=int(stream)):
                self.ended.append(stream)
                if self.answers:
                    self.answer(stream)
            case h2.events.StreamReset(stream_id=int(stream)):
                self.open_now.discard(stream)
                self.resets.append(stream)

    def answer(self, stream: int) -> None:
        self.open_now.discard(stream)
        self.h2.send_headers(stream, [(":status", "200"), ("n", str(stream))], end_stream=True)

    def flush(self) -> None:
        self.writer.write(self.h2.data_to_send())

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(30):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


@asynccontextmanager
async def serving(
    *, answers: bool = True, timeout_s: float = 30, ping_s: float = 30, **settings: int
) -> AsyncIterator[tuple[Server, Http2Client]]:
    named = {SettingCodes[name.upper()]: value for name, value in settings.items()}
    server = Server(named, answers=answers)
    async with await asyncio.start_server(server.serve, "127.0.0.1") as listening:
        port = listening.sockets[0].getsockname()[1]
        client = Http2Client(
            f"http://127.0.0.1:{port}", timeout_s=timeout_s, ping_s=ping_s, streams_max=500
        )
        try:
            yield server, client
        finally:
            await client.close()


def ask(client: Http2Client, body: bytes = b"") -> asyncio.Task[Response]:
    return asyncio.create_task(client.request("POST", "/x", [], body))


async def test_a_body_larger_than_the_windows_arrives_whole() -> None:
    body = bytes(range(256)) * 16
    async with serving(initial_window_size=100) as (server, client):
        answers = await asyncio.gather(*(ask(client, body) for _ in range(20)))

    assert {answer.status for answer in answers} == {200}
    assert list(server.bodies.values()) == [body] * 20


async def test_no_more_requests_are_open_than_the_server_allows() -> None:
    async with serving(max_concurrent_streams=3) as (server, client):
        answers = await asyncio.gather(*(ask(client, b"x") for _ in range(60)))

    assert len(answers) == len(server.ended) == 60
    assert server.open_most <= 3
    assert server.connections == 1


async def test_a_server_may_allow_more_and_fewer_as_it_goes() -> None:
    async with serving(answers=False, max_concurrent_streams=1) as (server, client):
        tasks = [ask(client, b"x") for _ in range(12)]
        await server.until(lambda: len(server.ended) == 1)
        server.h2.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: 5})
        server.flush()
        await server.until(lambda: len(server.ended) == 5)
        server.h2.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: 2})
        server.open_most = 0
        for stream in server.ended[:]:
            server.answer(stream)
        server.answers = True
        server.flush()
        await asyncio.gather(*tasks)

    assert server.open_most <= 2
    assert len(server.ended) == 12


async def test_a_request_that_is_given_up_leaves_its_place() -> None:
    async with serving(answers=False, max_concurrent_streams=1) as (server, client):
        first = ask(client, b"x")
        await server.until(lambda: server.ended)
        first.cancel()
        second = ask(client, b"y")
        await server.until(lambda: server.resets == [1] and 3 in server.ended)
        server.answer(3)
        server.flush()

        assert (await second).headers["n"] == "3"


async def test_requests_without_an_answer_leave_their_places() -> None:
    """Goal: a server that once was slow is asked as much as before."""
    async with serving(answers=False, timeout_s=0.2, max_concurrent_streams=2) as (server, client):
        late = await asyncio.gather(*(ask(client, b"x") for _ in range(2)), return_exceptions=True)
        server.answers = True
        again = await asyncio.gather(*(ask(client, b"y") for _ in range(2)))

    assert [type(each) for each in late] == [Lost, Lost]
    assert [answer.status for answer in again] == [200, 200]
    assert server.resets == [1, 3]
    assert server.connections == 1


async def test_an_answer_that_comes_before_the_request_is_whole_ends_it() -> None:
    async with serving(answers=False, initial_window_size=10) as (server, client):
        tasks = [ask(client, bytes(100))]
        await server.until(lambda: server.bodies.get(1))
        server.h2.send_headers(1, [(":status", "413")], end_stream=True)
        server.flush()
        answer = await tasks[0]
        await server.until(lambda: server.resets == [1])

    assert answer.status == 413


async def test_a_server_that_says_goodbye_twice_answers_what_it_took() -> None:
    """Goal: first it names no stream, then the last that it took; the others go out again."""
    async with serving(answers=False) as (server, client):
        tasks = [ask(client, b"%d" % n) for n in range(6)]
        await server.until(lambda: len(server.ended) == 6)
        old = server.writer
        old.write(goaway(0x7FFF_FFFF))
        server.answer(1)
        server.answer(3)
        old.write(server.h2.data_to_send())
        await asyncio.gather(*tasks[:2])
        # Answers that come after the first goodbye were taken. The rest it never saw.
        server.ended.clear()
        server.answers = True
        old.write(goaway(3))
        answers = await asyncio.gather(*tasks[2:])

    assert server.connections == 2
    assert [answer.status for answer in answers] == [200] * 4


async def test_a_server_that_falls_silent_is_left_before_the_time_limit() -> None:
    """Goal: the PING that is not answered ends the request, not its limit of ten minutes."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(SETTINGS)
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1") as listening:
        port = listening.sockets[0].getsockname()[1]
        client = Http2Client(f"http://127.0.0.1:{port}", timeout_s=600, ping_s=0.05)
        with pytest.raises(Lost, match="no sign of the server"):
            await client.request("POST", "/x", [], b"")
        await client.close()


async def test_a_frame_longer_than_may_be_ends_the_connection() -> None:
    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(SETTINGS)
        await reader.read(1)
        writer.write(b"\xff\xff\xff" + bytes(6))
        await reader.read()
        writer.close()

    async with await asyncio.start_server(flood, "127.0.0.1") as listening:
        port = listening.sockets[0].getsockname()[1]
        client = Http2Client(f"http://127.0.0.1:{port}", timeout_s=30)
        with pytest.raises(Lost, match="broke the protocol"):
            await client.request("POST", "/x", [], b"x")
        await client.close()


def test_frames_are_whole_however_they_are_cut() -> None:
    whole = SETTINGS + goaway(7) + SETTINGS
    for size in (1, 2, 9, 10, 100):
        frames = Frames()
        found = [
            frame
            for start in range(0, len(whole), size)
            for frame in frames.take(whole[start : start + size])
        ]
        assert found == [SETTINGS, goaway(7), SETTINGS]

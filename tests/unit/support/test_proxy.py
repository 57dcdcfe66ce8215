"""The fault proxy breaks connections as it says, and only then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from engine.embedded import unused_port
from tests.support.proxy import FaultProxy


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1024):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


@pytest.fixture
async def proxy() -> AsyncIterator[FaultProxy]:
    port = unused_port()
    server = await asyncio.start_server(echo, "127.0.0.1", port)
    async with FaultProxy(port) as proxy:
        yield proxy
    server.close()


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, question: bytes) -> bytes:
        self.writer.write(question)
        return await self.reader.readexactly(len(question))


@pytest.fixture
async def client(proxy: FaultProxy) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    yield Client(reader, writer)
    writer.close()


async def test_passes_bytes_both_ways(client: Client) -> None:
    assert await client.ask(b"hello") == b"hello"


async def test_slices_what_the_server_answers(proxy: FaultProxy, client: Client) -> None:
    proxy.to_client.slice_bytes = 2
    proxy.to_client.latency_s = 0.001

    assert await client.ask(b"hello, world") == b"hello, world"


async def test_a_held_reply_arrives_once_healed(proxy: FaultProxy, client: Client) -> None:
    proxy.to_client.blackhole()
    answer = asyncio.create_task(client.ask(b"late"))

    # The request passes: the server has answered, the answer stays in the proxy.
    done, _ = await asyncio.wait({answer}, timeout=0.05)
    assert not done

    await proxy.heal()
    assert await answer == b"late"


async def test_cuts_the_named_reply_in_the_middle(proxy: FaultProxy, client: Client) -> None:
    proxy.rst_on_reply(b"secret", nth=2)
    assert await client.ask(b"plain") == b"plain"
    assert await client.ask(b"first secret") == b"first secret"

    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await client.ask(b"second secret")
    assert proxy.was_reset.is_set()


async def test_cuts_the_reply_to_the_named_request(proxy: FaultProxy, client: Client) -> None:
    proxy.rst_on_reply(request=b"XADD")
    assert await client.ask(b"PING") == b"PING"

    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await client.ask(b"XADD lane")


async def test_refuses_and_accepts_on_the_same_port(proxy: FaultProxy, client: Client) -> None:
    await proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", proxy.port)
    assert await client.ask(b"still open") == b"still open"

    await proxy.heal()
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    assert await Client(reader, writer).ask(b"again") == b"again"
    writer.close()


async def test_closes_at_the_limit(proxy: FaultProxy, client: Client) -> None:
    proxy.to_client.limit_bytes = 3
    client.writer.write(b"hello")

    assert await client.reader.read() == b"hel"


async def test_resets_every_connection(proxy: FaultProxy, client: Client) -> None:
    assert await client.ask(b"open") == b"open"
    proxy.reset_all()

    with pytest.raises(ConnectionResetError):
        await client.reader.readexactly(1)


@pytest.mark.parametrize(
    ("url", "through"),
    [
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:{}/0"),
        ("postgresql://me:pw@db.example:5432/data", "postgresql://me:pw@127.0.0.1:{}/data"),
    ],
)
def test_takes_the_place_of_the_server_in_a_url(url: str, through: str) -> None:
    proxy = FaultProxy(1)

    assert proxy.url(url) == through.format(proxy.port)

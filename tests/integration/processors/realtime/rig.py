"""Gateways, a relay and clients over real servers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from uuid import UUID

import orjson
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_socket
from websockets.exceptions import ConnectionClosed
from websockets.typing import Origin

from engine import SystemClock
from processors.realtime.backing import Backing, open_backing
from processors.realtime.gateway import Gateway
from processors.realtime.hub import Hub
from processors.services.redis_link import connect
from processors.services.relay import OutboxRelay
from processors.services.tickets import TicketService
from processors.settings import from_env
from tests.integration.processors.world import World

LIMIT_S = 30.0


class Chat:
    """
    A client that keeps everything it was told.

    Attributes:
        ws: The connection.
        frames: What came, except what was taken by :meth:`next`.
        hello: The gateway's first frame.
    """

    def __init__(self, ws: ClientConnection) -> None:
        self.ws = ws
        self.frames: list[dict[str, Any]] = []
        self.hello: dict[str, Any] = {}

    async def tell(self, kind: str, **fields: Any) -> None:
        """Send a frame."""
        await self.ws.send(orjson.dumps({"type": kind, **fields}).decode())

    async def next(self, *kinds: str) -> dict[str, Any]:
        """Return the next frame of these kinds; others before it are kept."""
        async with asyncio.timeout(LIMIT_S):
            while True:
                frame = orjson.loads(await self.ws.recv())
                if not kinds or frame["type"] in kinds:
                    return dict(frame)
                self.frames.append(frame)

    async def follow(self, conversation_id: UUID, after_seq: int | None = None) -> dict[str, Any]:
        """Subscribe, and return the answer."""
        more = {} if after_seq is None else {"afterSeq": after_seq}
        await self.tell("subscribe", conversationId=conversation_id, **more)
        return await self.next("subscribed", "error")

    async def seqs(self, until: int) -> list[int]:
        """Return the places of messages as they are told, up to one of them."""
        told: list[int] = []
        while not told or told[-1] < until:
            frame = await self.next("message.created", "messages")
            found = frame["messages"] if frame["type"] == "messages" else [frame]
            told += [message["seq"] for message in found]
        return told

    async def settled(self) -> list[dict[str, Any]]:
        """Return what was told before the answer to a frame sent now."""
        await self.tell("ping", id="settled")
        await self.next("pong")
        frames, self.frames = self.frames, []
        return frames

    async def end(self) -> tuple[int, str]:
        """Wait for the gateway to close; returns code and reason."""
        async with asyncio.timeout(LIMIT_S):
            with contextlib.suppress(ConnectionClosed):
                while True:
                    self.frames.append(orjson.loads(await self.ws.recv()))
        return self.ws.close_code or 0, self.ws.close_reason or ""


class Rig:
    """
    Everything around gateways.

    Attributes:
        world: The services over the database.
        redis_url: The server.
        postgres_url: The database, for other processes.
    """

    def __init__(
        self, world: World, redis_url: str, stack: AsyncExitStack, *, postgres_url: str = ""
    ) -> None:
        self.world = world
        self.postgres_url = postgres_url
        self.redis_url = redis_url
        self._stack = stack

    async def gateway(self, **variables: str) -> RunningGateway:
        """Start a gateway in this process, with settings of its own."""
        running = RunningGateway(self, variables)
        await self._stack.enter_async_context(running.serving())
        return running

    async def relay(self) -> OutboxRelay:
        """Publish what is committed."""
        client = await self._stack.enter_async_context(connect(self.redis_url))
        settings = from_env({"PROCESSORS_OUTBOX_POLL_MS": "50"})
        relay = OutboxRelay(self.world.database, client, settings, draw=lambda: 0.0)
        self.world.listeners.append(relay.wake)
        task = asyncio.create_task(relay.run())
        self._stack.push_async_callback(_cancel, task)
        return relay

    async def ticket(self, user_id: UUID, session_id: str = "") -> str:
        """Issue a ticket."""
        async with connect(self.redis_url) as client:
            return await TicketService(client, ttl_ms=30_000).issue_ticket(user_id, session_id)

    async def dial(self, url: str, *, origin: str | None = None, **options: Any) -> Chat:
        """Open a socket, and show nothing."""
        given = None if origin is None else Origin(origin)
        ws = await open_socket(url, origin=given, max_size=None, **options)
        self._stack.push_async_callback(_hang_up, ws)
        return Chat(ws)

    async def chat(
        self, at: RunningGateway | str, user_id: UUID, session_id: str = "", **options: Any
    ) -> Chat:
        """Open a socket as a user."""
        chat = await self.dial(at if isinstance(at, str) else at.url, **options)
        await chat.tell("auth", ticket=await self.ticket(user_id, session_id))
        chat.hello = await chat.next("hello")
        return chat


class RunningGateway:
    """
    A gateway in this process.

    Attributes:
        gateway: It.
        backing: What it stands on.
        url: Where clients connect.
        http: Where its HTTP side is.
    """

    gateway: Gateway
    backing: Backing
    url: str
    http: str

    def __init__(self, rig: Rig, variables: dict[str, str]) -> None:
        self._rig = rig
        named = {f"PROCESSORS_{name}": value for name, value in variables.items()}
        self._settings = from_env(named)
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Serve within the block."""
        world = self._rig.world
        async with open_backing(
            self._settings, world.database, self._rig.redis_url, world.encryption, SystemClock()
        ) as self.backing:
            self.gateway = Gateway(self.backing, "127.0.0.1:0")
            self._task = asyncio.create_task(self.gateway.run(self._stop))
            await asyncio.wait({self._task, self.gateway.address}, return_when="FIRST_COMPLETED")
            if self._task.done():
                self._task.result()
            self.http = f"http://{self.gateway.address.result()}"
            self.url = f"ws://{self.gateway.address.result()}/ws"
            try:
                yield
            finally:
                await self.stop()

    @property
    def hub(self) -> Hub:
        """Its channels and sockets."""
        assert self.gateway.hub is not None
        return self.gateway.hub

    async def stop(self) -> None:
        """Stop it in order."""
        assert self._task is not None
        self._stop.set()
        if not self._task.cancelled():
            await self._task

    async def cancel(self) -> None:
        """Stop it as an engine does with its background work."""
        assert self._task is not None
        await _cancel(self._task)


async def until(condition: Callable[[], Any], what: str) -> None:
    """Wait until something is true that is told by nothing else."""
    async with asyncio.timeout(LIMIT_S):
        while not condition():  # noqa: ASYNC110 - nobody sets an event for it
            await asyncio.sleep(0.01)
    assert condition(), what


async def _hang_up(ws: ClientConnection) -> None:
    ws.transport.abort()
    await ws.wait_closed()


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled() and task.exception() is not None:
        task.result()

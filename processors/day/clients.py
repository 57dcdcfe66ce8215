"""A chat client over a WebSocket, as far as the demo needs one."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import UUID

import aiohttp
import orjson

from processors.day.cast import Person

READ_EVERY = 5
"""Messages after which a client tells that it has read them."""


class Connected:
    """
    One person at a client.

    Attributes:
        person: Who.
        events: What came, by type.
        seen: The last message seen, by conversation.
    """

    def __init__(
        self,
        person: Person,
        socket: aiohttp.ClientWebSocketResponse,
        on_message: Callable[[], None],
    ) -> None:
        self.person = person
        self.events: Counter[str] = Counter()
        self.seen: dict[str, int] = {}
        self._socket = socket
        self._on_message = on_message
        self._hello = asyncio.Event()

    async def say(self, frame: str, **fields: Any) -> None:
        """Send one frame."""
        await self._socket.send_str(orjson.dumps({"type": frame, **fields}).decode())

    async def listen(self) -> None:
        """Take what comes, and read now and then, until the socket closes."""
        async for message in self._socket:
            if message.type is aiohttp.WSMsgType.TEXT:
                await self._take(orjson.loads(message.data))

    async def ready(self) -> None:
        """Wait until the ticket was accepted."""
        await self._hello.wait()

    async def _take(self, event: dict[str, Any]) -> None:
        kind = str(event.get("type"))
        self.events[kind] += 1
        if kind == "hello":
            self._hello.set()
        elif kind == "messages":
            for message in event["messages"]:
                await self._saw(message)
        elif kind == "message.created":
            await self._saw(event)

    async def _saw(self, message: dict[str, Any]) -> None:
        place, seq = message["conversationId"], message["seq"]
        if seq <= self.seen.get(place, 0):
            return
        self.seen[place] = seq
        self.events["messages seen"] += 1
        self._on_message()
        if seq % READ_EVERY == 0:
            await self.say("read", conversationId=place, seq=seq)


@contextlib.asynccontextmanager
async def connected(
    session: aiohttp.ClientSession,
    url: str,
    person: Person,
    *,
    ticket: str,
    places: list[UUID],
    on_message: Callable[[], None],
) -> AsyncIterator[Connected]:
    """Connect a person and follow conversations from their beginning."""
    async with session.ws_connect(url, heartbeat=20) as socket:
        client = Connected(person, socket, on_message)
        listening = asyncio.create_task(client.listen())
        try:
            await client.say("auth", ticket=ticket)
            async with asyncio.timeout(10):
                await client.ready()
            for place in places:
                await client.say("subscribe", conversationId=str(place), afterSeq=0)
            yield client
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

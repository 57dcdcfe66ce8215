"""Presence of this gateway's sockets, written in batches and kept alive."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

import structlog
from redis.exceptions import RedisError

from engine import Clock
from processors.realtime.socket import Socket
from processors.services.presence import Here, PresenceService

log = structlog.get_logger("processors.gateway")

RETRY_S: Final = 1.0
Outage = (RedisError, OSError, TimeoutError)


class Attendance:
    """
    Says in Redis which sockets are open here, and what is in front there.

    Args:
        presence: Where it is said.
        clock: Gives time.
        ttl_ms: How long what was said holds; it is said again three times as often.
    """

    def __init__(self, presence: PresenceService, clock: Clock, *, ttl_ms: int) -> None:
        self._presence = presence
        self._clock = clock
        self._every_s = ttl_ms / 3_000
        self._wanted: dict[str, Here] = {}
        self._said: dict[str, set[Here]] = {}
        self._changed: set[str] = set()
        self._bell = asyncio.Event()
        self._turn = asyncio.Lock()

    def open(self, socket: Socket) -> None:
        """Take a socket in, or what is in front there."""
        self._wanted[socket.socket_id] = socket.here
        self._change(socket.socket_id)

    def close(self, socket: Socket) -> None:
        """Take a socket out."""
        if self._wanted.pop(socket.socket_id, None) is not None:
            self._change(socket.socket_id)

    def repeat(self) -> None:
        """Say everything again, as after Redis was lost."""
        self._changed.update(self._wanted)
        self._bell.set()

    async def run(self) -> None:
        """Say what changes, and all of it now and then, until cancelled."""
        said_s = self._clock.monotonic()
        while True:
            rest_s = max(0.0, said_s + self._every_s - self._clock.monotonic())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(rest_s):
                    await self._bell.wait()
            self._bell.clear()
            if self._clock.monotonic() - said_s >= self._every_s:
                said_s = self._clock.monotonic()
                self._changed.update(self._wanted)
            try:
                await self.flush()
            except Outage as error:
                log.debug("gateway_presence_waits", error=type(error).__name__)
                await self._clock.sleep(RETRY_S * (0.5 + self._clock.draw()))
                self._bell.set()

    async def flush(self) -> None:
        """
        Say what has changed.

        Raises:
            RedisError: It could not be said, and is kept.
        """
        async with self._turn:
            await self._flush()

    async def _flush(self) -> None:
        changed, self._changed = self._changed, set()
        here = {name: self._wanted[name] for name in changed if name in self._wanted}
        gone = {each for name in changed for each in self._said.get(name, ())}
        try:
            await self._presence.change(gone=gone.difference(here.values()), here=here.values())
        except BaseException:
            self._changed |= changed
            # It may have been said in part.
            for name, each in here.items():
                self._said.setdefault(name, set()).add(each)
            raise
        for name in changed:
            self._said.pop(name, None)
        self._said.update({name: {each} for name, each in here.items()})

    def _change(self, socket_id: str) -> None:
        self._changed.add(socket_id)
        self._bell.set()

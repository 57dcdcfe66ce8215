"""The gateway: its parts put together, its start and its orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any, Final

import structlog

from processors.realtime.attendance import Attendance
from processors.realtime.backing import Backing
from processors.realtime.channels import DatabaseTrouble
from processors.realtime.confirming import Confirmations
from processors.realtime.counters import Counters
from processors.realtime.feed import Feed, Outage
from processors.realtime.hub import Hub
from processors.realtime.listener import PATH, Listener
from processors.realtime.parts import Parts
from processors.realtime.socket import Code, End
from processors.realtime.watching import Watch
from processors.realtime.webhooks import webhook_routes
from processors.services.preferences import PreferenceService
from schemas.realtime import Reconnect

log = structlog.get_logger("processors.gateway")

DRAIN_S: Final = 4.0
HURRIED_DRAIN_S: Final = 0.8
"""Within an engine, which ends a second after it has cancelled its background work."""

TELL_S: Final = 300.0
LOOK_S: Final = 5.0


class Gateway:
    """
    Serves WebSockets; any number may run side by side.

    Args:
        backing: The services that it stands on.
        listen: Where, as host:port.
        sock: A socket that is bound to it already.
        shares_port: Let several processes listen on the same port.
    """

    def __init__(
        self,
        backing: Backing,
        listen: str,
        *,
        sock: socket.socket | None = None,
        shares_port: bool = False,
    ) -> None:
        self._backing = backing
        self._settings = backing.settings.gateway
        self._clock = backing.clock
        self._listen = listen
        self._sock = sock
        self._shares_port = shares_port
        self._trouble = ""
        self.counters = Counters()
        self.hub: Hub | None = None
        """Its channels and sockets, while it runs."""

        self.address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Where it listens, as host:port, once it does."""

    async def run(self, stop: asyncio.Event | None = None) -> None:
        """
        Serve until told to stop, or cancelled, which leaves less time to part.

        Raises:
            ConfigurationError: Nothing can listen there, or the server does not say what it is.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                await self._serve(tasks, stop or asyncio.Event())
        except ExceptionGroup as group:
            # Of several, the first is the cause.
            raise group.exceptions[0] from None

    async def _serve(self, tasks: asyncio.TaskGroup, stop: asyncio.Event) -> None:
        parts = self._parts(tasks)
        self.hub = parts.hub
        watch = Watch(
            parts.hub,
            parts.sync,
            parts.revocations,
            self._settings,
            self._clock,
            counters=self.counters,
        )

        def restored() -> None:
            parts.hub.restore()
            parts.attendance.repeat()
            watch.forget()

        feed = parts.hub.feed = Feed(
            self._backing.client,
            self._backing.settings.pubsub,
            self._clock,
            hear=parts.hub.hear,
            restored=restored,
        )
        listener = self._listener(parts, feed)
        beside = [
            tasks.create_task(work)
            for work in (
                feed.run(),
                watch.run(),
                parts.attendance.run(),
                parts.confirmations.run(),
                listener.tick(),
                self._look_at_database(),
                self._tell(parts),
            )
        ]
        limit_s = HURRIED_DRAIN_S
        try:
            where = await listener.start(self._sock)
            log.info("gateway_started", address=f"ws://{where}{PATH}")
            self.address.set_result(where)
            await stop.wait()
            limit_s = DRAIN_S
        finally:
            await self._drain(parts, listener, limit_s)
            parts.hub.close()
            for task in beside:
                task.cancel()
            log.info("gateway_stopped", **self.counters.shown())

    def _parts(self, tasks: asyncio.TaskGroup) -> Parts:
        backing, settings, clock = self._backing, self._settings, self._clock
        return Parts(
            settings=settings,
            clock=clock,
            counters=self.counters,
            hub=Hub(backing.sync, settings, clock, counters=self.counters, tasks=tasks),
            attendance=Attendance(backing.presence, clock, ttl_ms=settings.presence_ms),
            confirmations=Confirmations(
                backing.producer, clock, wait_ms=settings.confirm_ms, counters=self.counters
            ),
            client=backing.producer,
            conversations=backing.conversations,
            sync=backing.sync,
            tickets=backing.tickets,
            revocations=backing.revocations,
            websockets=backing.websockets,
        )

    def _listener(self, parts: Parts, feed: Feed) -> Listener:
        def ready() -> str:
            return self._trouble or ("" if feed.is_up else "Redis: pub/sub is not connected")

        def status() -> dict[str, Any]:
            self.counters.lost = feed.losses
            return {
                "ready": not ready(),
                "connections": listener.open,
                "sockets": sum(1 for _ in parts.hub.sockets()),
                "users": len(parts.hub.users),
                "conversations": len(parts.hub.channels),
                "framesWaiting": sum(socket.waiting for socket in parts.hub.sockets()),
                "confirmationsWaiting": parts.confirmations.waiting,
                "totals": self.counters.shown(),
            }

        backing = self._backing
        routes = webhook_routes(
            backing.settings,
            producer=backing.producer,
            unsubscribe=PreferenceService(backing.database).unsubscribe,
        )
        listener = Listener(
            parts,
            self._listen,
            ready=ready,
            status=status,
            routes=routes,
            shares_port=self._shares_port,
        )
        return listener

    async def _drain(self, parts: Parts, listener: Listener, limit_s: float) -> None:
        """Send all sockets elsewhere, spread over a while, and write down what is left."""
        listener.drain()
        for each in list(parts.hub.sockets()):
            each.tell(Reconnect(after_ms=int(self._clock.draw() * self._settings.reconnect_ms)))
            each.end(End(Code.RESTART, "restart"))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s * 0.6):
                await listener.idle.wait()
        with contextlib.suppress(*Outage):
            async with asyncio.timeout(limit_s * 0.3):
                await parts.confirmations.flush()
                await parts.attendance.flush()
        await listener.stop()

    async def _look_at_database(self) -> None:
        while True:
            try:
                await self._backing.database.fetchrow("SELECT 1")
                self._trouble = ""
            except (*DatabaseTrouble, OSError) as error:
                self._trouble = f"PostgreSQL: {type(error).__name__}"
            await self._clock.sleep(LOOK_S)

    async def _tell(self, parts: Parts) -> None:
        while True:
            await self._clock.sleep(TELL_S)
            log.info(
                "gateway_status",
                sockets=sum(1 for _ in parts.hub.sockets()),
                conversations=len(parts.hub.channels),
                **self.counters.shown(),
            )

"""
Which channels the gateway hears, and who follows them.

A channel is heard as long as somebody here needs it. Whoever joins waits for the subscription and
for what the database holds by then, so that nothing lies between the two.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final
from uuid import UUID

import msgspec
import structlog

from engine import Clock
from processors.database import outbox
from processors.errors import Refused
from processors.realtime.channels import (
    FILLS_MAX,
    REMOVED,
    Channel,
    DatabaseTrouble,
    Heard,
)
from processors.realtime.counters import Counters
from processors.realtime.feed import Feed
from processors.realtime.socket import Code, End, Socket
from processors.services.sessions import Revocation
from processors.services.sync import SyncService
from processors.services.websockets import REVOKE
from processors.settings.gateway import GatewaySettings
from schemas.realtime import Resync

log = structlog.get_logger("processors.gateway")

CONVERSATION: Final = outbox.channel("conversation", "")[:-1]
USER: Final = outbox.channel("user", "")[:-1]

_decoder = msgspec.json.Decoder(Heard)


class Hub:
    """
    Keeps channels and sockets together.

    Args:
        sync: Reads what events leave out.
        settings: The gateway's.
        clock: Gives time and chance.
        counters: What is counted.
        tasks: Owns what runs beside.
    """

    def __init__(
        self,
        sync: SyncService,
        settings: GatewaySettings,
        clock: Clock,
        *,
        counters: Counters,
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._sync = sync
        self._settings = settings
        self._clock = clock
        self._counters = counters
        self._tasks = tasks
        self._turn = asyncio.Semaphore(FILLS_MAX)
        self._restoring: asyncio.Task[None] | None = None
        self.feed: Feed
        self.channels: dict[UUID, Channel] = {}
        self.users: dict[UUID, set[Socket]] = {}

    def sockets(self) -> Iterable[Socket]:
        """All sockets that showed a ticket."""
        return (socket for sockets in self.users.values() for socket in sockets)

    async def enter(self, socket: Socket) -> None:
        """Count a socket in, and return once its user's events are heard."""
        self.users.setdefault(socket.user_id, set()).add(socket)
        await self.feed.subscribe(user_channel(socket.user_id))

    def leave(self, socket: Socket) -> None:
        """Count a socket out."""
        sockets = self.users.get(socket.user_id, set())
        sockets.discard(socket)
        if not sockets and self.users.pop(socket.user_id, None) is not None:
            self.feed.unsubscribe(user_channel(socket.user_id))

    async def open(self, conversation_id: UUID) -> Channel:
        """
        Need a channel, and return it once its events are heard and its last place is known.

        Whatever comes of it, :meth:`release` is to be called.

        Raises:
            Refused: There is no such conversation.
            DatabaseError: PostgreSQL does not say.
        """
        channel = self.channels.get(conversation_id)
        if channel is None:
            channel = self.channels[conversation_id] = Channel(
                conversation_id,
                self._sync,
                self._clock,
                reorder_ms=self._settings.reorder_ms,
                missed_max=self._settings.resume_max,
                turn=self._turn,
                tasks=self._tasks,
                counters=self._counters,
            )
        channel.refs += 1
        await self.feed.subscribe(conversation_channel(conversation_id))
        if channel.last_seq is None:
            found = await self._sync.last_seqs([conversation_id])
            if conversation_id not in found:
                raise Refused("unknown-conversation", f"there is no conversation {conversation_id}")
            channel.begin(found[conversation_id])
        return channel

    def release(self, conversation_id: UUID) -> None:
        """Need a channel no more."""
        channel = self.channels[conversation_id]
        channel.refs -= 1
        if channel.refs == 0:
            del self.channels[conversation_id]
            channel.close()
            self.feed.unsubscribe(conversation_channel(conversation_id))

    def hear(self, name: str, frame: bytes) -> None:
        """Take an event from Redis."""
        self._counters.events += 1
        try:
            heard = _decoder.decode(frame)
        except msgspec.DecodeError:
            log.warning("gateway_event_unreadable", channel=name)
            return
        if name.startswith(CONVERSATION):
            channel = self.channels.get(_id_of(name))
            if channel is not None:
                channel.hear(heard, frame)
        elif name.startswith(USER):
            self._hear_user(_id_of(name), heard, frame)

    def revoke(self, revoked: Revocation) -> None:
        """Close the sockets of sessions that ended."""
        for socket in list(self.users.get(revoked.user_id, ())):
            if revoked.covers(socket.grant.session_id, socket.grant.issued_ms):
                self._counters.revoked += 1
                socket.end(End(Code.UNAUTHENTICATED, "revoked"))

    def restore(self) -> None:
        """After a connection to Redis was lost: tell clients, and read what went by."""
        if self._restoring is not None:
            self._restoring.cancel()
        self._restoring = self._tasks.create_task(self._restore())

    def close(self) -> None:
        """Stop what runs beside."""
        if self._restoring is not None:
            self._restoring.cancel()
        for channel in self.channels.values():
            channel.close()

    def _hear_user(self, user_id: UUID, heard: Heard, frame: bytes) -> None:
        if heard.type == REVOKE:
            at_ms = heard.at if isinstance(heard.at, int) else 0
            self.revoke(Revocation(user_id, heard.session_id or "", at_ms))
        if heard.type.startswith("control."):
            return
        for socket in self.users.get(user_id, ()):
            socket.put(frame)
        if heard.type == REMOVED and heard.conversation_id in self.channels:
            self.channels[heard.conversation_id].remove(user_id)

    async def _restore(self) -> None:
        for socket in self.sockets():
            socket.tell(Resync())
            self._counters.resyncs += 1
        while True:
            try:
                found = await self._sync.last_seqs(list(self.channels))
            except DatabaseTrouble as error:
                log.debug("gateway_restore_failed", error=type(error).__name__)
                await self._clock.sleep(1.0 + self._clock.draw())
                continue
            break
        for conversation_id, last_seq in found.items():
            if conversation_id in self.channels:
                self.channels[conversation_id].reach(last_seq)


def conversation_channel(conversation_id: UUID) -> str:
    """Name the pub/sub channel of a conversation."""
    return outbox.channel("conversation", str(conversation_id))


def user_channel(user_id: UUID) -> str:
    """Name the pub/sub channel of a user."""
    return outbox.channel("user", str(user_id))


def _id_of(name: str) -> UUID:
    return UUID(name[name.index("{") + 1 : -1])

"""
Conversations that sockets here follow: every message in order, once, without gaps.

A channel hears its conversation's events. Messages carry their place; one that comes early waits a
moment for those that were overtaken, and what does not come by itself is read from the database.
Events without a place are passed on as they come.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple
from uuid import UUID

import asyncpg
import msgspec
import structlog

from engine import Clock
from processors.errors import DatabaseError
from processors.realtime.counters import Counters
from processors.realtime.socket import Socket
from processors.rules.pauses import reconnect_delay_s
from processors.services.sync import SyncService
from schemas.realtime import Message, Resync, Unsubscribed

log = structlog.get_logger("processors.gateway")

EARLY_MAX: Final = 512
"""Messages that may wait for those that they overtook; beyond, the database has them too."""

PAGE: Final = 200
FILLS_MAX: Final = 4
"""Channels that read from the database at a time."""

CREATED: Final = "message.created"
REMOVED: Final = "member.removed"
DELETED: Final = "conversation.deleted"

DatabaseTrouble = (DatabaseError, asyncpg.PostgresError, asyncpg.InterfaceError)

_encoder = msgspec.json.Encoder()


class Heard(msgspec.Struct, frozen=True, rename="camel"):
    """
    As much of an event as the gateway looks at.

    Attributes:
        type: Its kind.
        conversation_id: Its conversation.
        seq: Place of the message that it is about.
        user_id: The user that it is about.
        session_id: The session that it ends.
        at: When, Unix ms, where it is an order to the gateways.
    """

    type: str
    conversation_id: UUID | None = None
    seq: int | None = None
    user_id: UUID | None = None
    session_id: str | None = None
    at: int | str | None = None


class Telling(NamedTuple):
    """
    An event on its way to sockets.

    Attributes:
        frame: As it is sent.
        seq: Place of the message that it is about, if any.
        is_message: It brings that message.
    """

    frame: bytes
    seq: int | None = None
    is_message: bool = False


class Subscription:
    """
    One socket that follows one conversation.

    While it is joining, what comes is kept; once what came before was told, the rest follows. What
    it cannot keep it forgets, and reads again.

    Args:
        socket: The socket.
        forget: Called when the subscription is ended from here.
    """

    def __init__(self, socket: Socket, forget: Callable[[], None]) -> None:
        self.socket = socket
        self.forget = forget
        self.told_seq = 0
        self.joined_seq = 0
        self.dropped = ""
        """Why it was ended from here, if it was."""

        self._kept: list[Telling] | None = []
        self._has_forgotten = False

    @property
    def is_joining(self) -> bool:
        """Whether what comes is kept."""
        return self._kept is not None

    def offer(self, telling: Telling) -> None:
        """Pass an event on, or keep it; a message that was told already is left out."""
        if self._kept is None:
            self._pass(telling)
        elif len(self._kept) < EARLY_MAX:
            self._kept.append(telling)
        else:
            self._has_forgotten = True

    def skip_to(self, seq: int) -> None:
        """Count everything up to here as told."""
        self.told_seq = max(self.told_seq, seq)

    def join(self) -> bool:
        """Pass on what was kept, and all that comes; False where something was forgotten."""
        kept, self._kept = self._kept, []
        assert kept is not None
        if self._has_forgotten:
            self._has_forgotten = False
            return False
        self._kept = None
        for telling in kept:
            self._pass(telling)
        return True

    def _pass(self, telling: Telling) -> None:
        if telling.seq is not None and telling.seq <= self.joined_seq:
            # From before the member's time, also where it is edited only now.
            return
        if telling.is_message:
            assert telling.seq is not None
            if telling.seq <= self.told_seq:
                return
            self.told_seq = telling.seq
        self.socket.put(telling.frame)


class Channel:
    """
    One conversation.

    Args:
        conversation_id: The conversation.
        sync: Reads what events left out.
        clock: Gives time and chance.
        reorder_ms: How long a message may be overtaken.
        missed_max: More than these are left to the clients to read.
        turn: Bounds how many channels read at a time.
        tasks: Owns what runs beside.
        counters: What is counted.
    """

    def __init__(
        self,
        conversation_id: UUID,
        sync: SyncService,
        clock: Clock,
        *,
        reorder_ms: int,
        missed_max: int,
        turn: asyncio.Semaphore,
        tasks: asyncio.TaskGroup,
        counters: Counters,
    ) -> None:
        self.conversation_id = conversation_id
        self.refs = 0
        self.subscriptions: dict[Socket, Subscription] = {}
        self.last_seq: int | None = None
        self._sync = sync
        self._clock = clock
        self._reorder_ms = reorder_ms
        self._missed_max = missed_max
        self._turn = turn
        self._tasks = tasks
        self._counters = counters
        self._early: dict[int, bytes] = {}
        self._later: list[Telling] = []
        self._target = 0
        self._filling: asyncio.Task[None] | None = None

    def begin(self, last_seq: int) -> None:
        """Take the conversation's last place as read after its events began to be heard."""
        if self.last_seq is None:
            self.last_seq = last_seq
            self._follow_on()

    def hear(self, heard: Heard, frame: bytes) -> None:
        """Pass an event on."""
        if heard.type == CREATED and heard.seq is not None:
            self._hear_message(heard.seq, frame)
            return
        telling = Telling(frame, heard.seq)
        if self._is_ahead(telling) and len(self._later) < EARLY_MAX:
            # News of a message that is not told yet.
            self._later.append(telling)
            return
        self._tell(telling, except_user=heard.user_id if heard.type == REMOVED else None)
        if heard.type == REMOVED and heard.user_id is not None:
            self.remove(heard.user_id)
        elif heard.type == DELETED:
            for socket in list(self.subscriptions):
                self._drop(socket, "conversation-deleted")

    def remove(self, user_id: UUID) -> None:
        """End the subscriptions of a user who is no member any more."""
        for socket in [each for each in self.subscriptions if each.user_id == user_id]:
            self._drop(socket, "removed")

    def reach(self, last_seq: int) -> None:
        """Tell that messages up to here exist, whose events may have been lost."""
        if self.last_seq is not None and last_seq > self.last_seq:
            self._target = max(self._target, last_seq)
            self._fill(0)

    def close(self) -> None:
        """Stop."""
        if self._filling is not None:
            self._filling.cancel()

    def _drop(self, socket: Socket, code: str) -> None:
        subscription = self.subscriptions.pop(socket)
        subscription.dropped = code
        self._counters.removed += 1
        if not subscription.is_joining:
            # One that is joining finds out by itself.
            socket.tell(Unsubscribed(conversation_id=self.conversation_id, code=code))
            subscription.forget()

    def _hear_message(self, seq: int, frame: bytes) -> None:
        if self.last_seq is not None and seq <= self.last_seq:
            self._counters.repeated += 1
            return
        self._target = max(self._target, seq)
        if self.last_seq is not None and seq == self.last_seq + 1:
            self._tell_message(seq, frame)
            self._follow_on()
            return
        if len(self._early) < EARLY_MAX:
            self._early[seq] = frame
        if self.last_seq is not None:
            self._fill(self._reorder_ms)

    def _tell_message(self, seq: int, frame: bytes) -> None:
        self.last_seq = seq
        self._tell(Telling(frame, seq, is_message=True))

    def _tell(self, telling: Telling, *, except_user: UUID | None = None) -> None:
        for subscription in self.subscriptions.values():
            if except_user is None or subscription.socket.user_id != except_user:
                subscription.offer(telling)

    def _is_ahead(self, telling: Telling) -> bool:
        if telling.seq is None:
            return False
        return self.last_seq is None or telling.seq > self.last_seq

    def _follow_on(self) -> None:
        """Pass on what waited for the messages before it."""
        assert self.last_seq is not None
        while (frame := self._early.pop(self.last_seq + 1, None)) is not None:
            self._tell_message(self.last_seq + 1, frame)
        for seq in [seq for seq in self._early if seq <= self.last_seq]:
            del self._early[seq]
        if self._later:
            later, self._later = self._later, []
            for telling in later:
                if self._is_ahead(telling):
                    self._later.append(telling)
                else:
                    self._tell(telling)
        if self._target > self.last_seq:
            self._fill(self._reorder_ms)

    def _fill(self, wait_ms: int) -> None:
        if self._filling is None or self._filling.done():
            self._filling = self._tasks.create_task(self._fill_gap(wait_ms))

    async def _fill_gap(self, wait_ms: int) -> None:
        """Read what does not come by itself, until nothing is missing."""
        if wait_ms:
            await self._clock.sleep(wait_ms / 1_000)
        failures = 0
        while self.last_seq is not None and self.last_seq < self._target:
            if self._target - self.last_seq - len(self._early) > self._missed_max:
                self._give_up()
                break
            try:
                async with self._turn:
                    await self._read_page(self.last_seq, self._target)
                failures = 0
            except DatabaseTrouble as error:
                failures += 1
                log.debug("gateway_fill_failed", error=type(error).__name__, failures=failures)
                await self._clock.sleep(
                    reconnect_delay_s(failures, self._clock.draw(), base_s=0.2, cap_s=5.0)
                )

    async def _read_page(self, after_seq: int, target: int) -> None:
        found = await self._sync.missed(self.conversation_id, after_seq, target, PAGE)
        for message in found:
            assert self.last_seq is not None
            if message.seq <= self.last_seq:
                continue  # it came by itself meanwhile
            early = self._early.pop(message.seq, None)
            self._counters.filled += early is None
            self._tell_message(message.seq, early or as_event(message))
        through = found[-1].seq if len(found) == PAGE else target
        assert self.last_seq is not None
        # Places that are empty, as retention leaves them, are not waited for.
        self.last_seq = max(self.last_seq, through)
        self._follow_on()

    def _give_up(self) -> None:
        """Leave a gap that is too long to the clients, each of which knows its own place."""
        self.last_seq = self._target
        self._early.clear()
        self._counters.resyncs += 1
        told = Resync(conversation_id=self.conversation_id, seq=self.last_seq)
        self._tell(Telling(_encoder.encode(told)))
        for subscription in self.subscriptions.values():
            subscription.skip_to(self.last_seq)
        self._follow_on()


def as_event(message: Message) -> bytes:
    """Write a message from the database as its event would have told it."""
    text = _encoder.encode(message)
    return b'{"type":"message.created",' + text[1:]

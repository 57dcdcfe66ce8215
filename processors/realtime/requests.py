"""What the frames of a client do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, assert_never
from uuid import UUID

import asyncpg
import msgspec
import structlog
from redis.exceptions import RedisError

from engine import Client, Clock, EngineError, JobRefused, Shed
from processors.errors import ProcessorError, Refused
from processors.realtime.confirming import Confirmations
from processors.realtime.counters import Counters
from processors.realtime.joining import Follower, fault_of
from processors.realtime.socket import Socket
from processors.services.websockets import WebSocketService
from schemas.messages import SendMessage
from schemas.realtime import (
    Accepted,
    Ack,
    Active,
    Auth,
    Fault,
    Frame,
    Ping,
    Pong,
    Read,
    Resume,
    Send,
    Subscribe,
    Sync,
    Typing,
    Unsubscribe,
    Unsubscribed,
)

log = structlog.get_logger("processors.gateway")

SEND_JOB: Final = "send-message"
TYPING_S: Final = 1.0
"""A client says that its user is typing at most this often per conversation."""

TYPING_KEPT: Final = 100

Trouble = (
    ProcessorError,
    EngineError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    RedisError,
    OSError,
    TimeoutError,
)

_decoder = msgspec.json.Decoder(Frame)


class BadFrame(ValueError):
    """A client sent what is no frame."""


def read_frame(text: str | bytes) -> Frame:
    """
    Read what a client sent.

    Raises:
        BadFrame: It is no frame; the message says why.
    """
    try:
        frame: Frame = _decoder.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise BadFrame(str(error)[:300]) from None
    return frame


class Requests:
    """
    Follows the frames of one socket.

    Args:
        socket: The socket.
        follower: What it follows.
        confirmations: Take acks and reads.
        client: Takes messages.
        websockets: Tells others that somebody is typing.
        clock: Gives time.
        counters: What is counted.
    """

    def __init__(
        self,
        socket: Socket,
        follower: Follower,
        *,
        confirmations: Confirmations,
        client: Client,
        websockets: WebSocketService,
        clock: Clock,
        counters: Counters,
    ) -> None:
        self._socket = socket
        self._follower = follower
        self._confirmations = confirmations
        self._client = client
        self._websockets = websockets
        self._clock = clock
        self._counters = counters
        self._typed_s: dict[UUID, float] = {}

    async def follow(self, frame: Frame) -> None:
        """Do what a frame asks for; what cannot be done is told as an error."""
        conversation_id = getattr(frame, "conversation_id", None)
        try:
            await self._follow(frame)
        except Refused as refused:
            self._socket.tell(fault_of(refused, conversation_id, request_id=frame.id))
        except Trouble as error:
            log.debug(
                "gateway_request_failed", request=type(frame).__name__, error=type(error).__name__
            )
            self._fault(frame, "unavailable", "try again later", conversation_id)

    async def _follow(self, frame: Frame) -> None:
        match frame:
            case Subscribe(conversation_id=conversation_id, after_seq=after_seq):
                await self._follower.follow(conversation_id, after_seq, request_id=frame.id)
            case Resume(conversations=conversations):
                await self._resume(conversations, frame.id)
            case Sync(conversation_id=conversation_id, after_seq=after_seq, limit=limit):
                await self._follower.page(conversation_id, after_seq, limit, request_id=frame.id)
            case Send(message=message):
                await self._send(message, frame.id)
            case Typing(conversation_id=conversation_id):
                await self._type(conversation_id)
            case Ack() | Read():
                await self._confirm(frame)
            case _:
                self._note(frame)

    def _note(self, frame: Unsubscribe | Active | Ping | Auth) -> None:
        """Follow a frame for which nothing is waited for."""
        match frame:
            case Unsubscribe(conversation_id=conversation_id):
                self._unsubscribe(conversation_id, frame.id)
            case Active(conversation_id=conversation_id):
                self._follower.activate(conversation_id)
            case Ping():
                self._socket.tell(Pong(id=frame.id, server_ms=self._clock.now_ms()))
            case Auth():
                raise Refused("already-authenticated", "a ticket was shown already")
            case _:
                assert_never(frame)

    def _unsubscribe(self, conversation_id: UUID, request_id: str | None) -> None:
        if not self._follower.leave(conversation_id):
            raise Refused("not-subscribed", "this socket does not follow the conversation")
        self._socket.tell(
            Unsubscribed(id=request_id, conversation_id=conversation_id, code="asked")
        )

    async def _resume(self, conversations: Mapping[UUID, int], request_id: str | None) -> None:
        for conversation_id, after_seq in conversations.items():
            if self._socket.ended.done():
                return
            # One that cannot be followed does not keep the others from it.
            await self.follow(
                Subscribe(id=request_id, conversation_id=conversation_id, after_seq=after_seq)
            )

    async def _confirm(self, frame: Ack | Read) -> None:
        if frame.conversation_id is not None:
            # Else it would be a job that can only end dead.
            await self._follower.require(frame.conversation_id)
        taken = self._confirmations.add(
            self._socket.user_id,
            frame.conversation_id,
            frame.seq,
            frame.message_ids,
            is_read=isinstance(frame, Read),
        )
        if not taken:
            raise Refused("busy", "too many confirmations wait; send it again later")

    async def _send(self, message: Mapping[str, object], request_id: str | None) -> None:
        try:
            if "senderId" in message:
                raise msgspec.ValidationError("Object contains unknown field `senderId`")
            payload = msgspec.convert(
                {**message, "senderId": str(self._socket.user_id)}, SendMessage
            )
        except msgspec.ValidationError as error:
            raise Refused("bad-message", str(error)[:300]) from None
        try:
            accepted = await self._client.enqueue(
                SEND_JOB,
                payload,
                # What one user writes into one conversation stays in its order.
                key=f"{payload.conversation_id}:{payload.sender_id}",
                when_full="fail",
            )
        except JobRefused as error:
            raise Refused("bad-message", str(error)[:300]) from None
        if isinstance(accepted, Shed):
            raise Refused("busy", "the queue is full; send it again later")
        self._counters.sent += 1
        self._socket.tell(
            Accepted(id=request_id, job_id=accepted.id, client_message_id=payload.client_message_id)
        )

    async def _type(self, conversation_id: UUID) -> None:
        if conversation_id not in self._follower.followed:
            raise Refused("not-subscribed", "this socket does not follow the conversation")
        now_s = self._clock.monotonic()
        if now_s - self._typed_s.get(conversation_id, -TYPING_S) < TYPING_S:
            return
        if len(self._typed_s) >= TYPING_KEPT:
            self._typed_s.clear()
        self._typed_s[conversation_id] = now_s
        event = {"type": "typing.started", "userId": self._socket.user_id}
        await self._websockets.to_conversation(conversation_id, event)

    def _fault(self, frame: Frame, code: str, detail: str, conversation_id: UUID | None) -> None:
        self._socket.tell(
            Fault(id=frame.id, code=code, detail=detail, conversation_id=conversation_id)
        )

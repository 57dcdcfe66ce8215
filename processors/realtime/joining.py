"""
Following a conversation: first hear its events, then read the database, then pass on what came.

In this order nothing is missed in between, and what both have is told once, by its place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final
from uuid import UUID

import msgspec

from processors.errors import Refused
from processors.realtime.attendance import Attendance
from processors.realtime.channels import Channel, Subscription
from processors.realtime.hub import Hub
from processors.realtime.socket import Socket
from processors.services.conversations import ConversationService, Standing
from processors.services.sync import Page, SyncService
from processors.settings.gateway import GatewaySettings
from schemas.realtime import Fault, Message, Messages, Resync, Subscribed, Unsubscribed

JOIN_S_MAX: Final = 10.0
PAGE: Final = 100
FRAME_BYTES: Final = 131_072
"""Size from which a page is told in further frames."""

_encoder = msgspec.json.Encoder()


class Follower:
    """
    The conversations that one socket follows.

    Args:
        socket: The socket.
        hub: Where channels are.
        conversations: Says who may follow.
        sync: Reads what came before.
        attendance: Learns that a conversation is in front no more.
        settings: The gateway's.
    """

    def __init__(
        self,
        socket: Socket,
        hub: Hub,
        conversations: ConversationService,
        sync: SyncService,
        *,
        attendance: Attendance,
        settings: GatewaySettings,
    ) -> None:
        self._socket = socket
        self._hub = hub
        self._conversations = conversations
        self._sync = sync
        self._attendance = attendance
        self._settings = settings
        self.followed: dict[UUID, Subscription] = {}

    async def follow(
        self, conversation_id: UUID, after_seq: int | None, *, request_id: str | None
    ) -> None:
        """
        Follow a conversation, from a place or from now on.

        Raises:
            Refused: The user may not, or the socket follows it, or too many, already.
            TimeoutError: Redis does not confirm it.
            DatabaseError: PostgreSQL does not say.
        """
        if conversation_id in self.followed:
            raise Refused("already-subscribed", "this socket follows the conversation already")
        if len(self.followed) >= self._settings.subscriptions_max:
            raise Refused(
                "too-many-subscriptions",
                f"a socket may follow {self._settings.subscriptions_max} conversations",
            )
        subscription = Subscription(self._socket, lambda: self._forget(conversation_id))
        self.followed[conversation_id] = subscription
        try:
            async with asyncio.timeout(JOIN_S_MAX):
                channel = await self._hub.open(conversation_id)
            channel.subscriptions[self._socket] = subscription
            await self._join(channel, subscription, after_seq, request_id)
        except BaseException:
            self.leave(conversation_id)
            raise

    def leave(self, conversation_id: UUID) -> bool:
        """Follow a conversation no more; False where it was not followed."""
        if self.followed.pop(conversation_id, None) is None:
            return False
        if self._socket.active == conversation_id:
            self.activate(None)
        self._hub.channels[conversation_id].subscriptions.pop(self._socket, None)
        self._hub.release(conversation_id)
        return True

    async def require(self, conversation_id: UUID) -> None:
        """
        Insist on a conversation of the user's; one that is followed is not looked up.

        Raises:
            Refused: It is none.
            DatabaseError: PostgreSQL does not say.
        """
        if conversation_id not in self.followed:
            await self._conversations.require_member(conversation_id, self._socket.user_id)

    def activate(self, conversation_id: UUID | None) -> None:
        """
        Take note of what is in front of the user.

        Raises:
            Refused: The socket does not follow that conversation.
        """
        if conversation_id is not None and conversation_id not in self.followed:
            raise Refused("not-subscribed", "this socket does not follow the conversation")
        if self._socket.active != conversation_id:
            self._socket.active = conversation_id
            self._attendance.open(self._socket)

    def _forget(self, conversation_id: UUID) -> None:
        """The channel has ended the subscription."""
        self.leave(conversation_id)

    def leave_all(self) -> None:
        """Follow nothing."""
        for conversation_id in list(self.followed):
            self.leave(conversation_id)

    async def page(
        self, conversation_id: UUID, after_seq: int, limit: int, *, request_id: str | None
    ) -> None:
        """
        Tell a page of messages, whether or not the conversation is followed.

        Raises:
            Refused: The user may not.
            DatabaseError: PostgreSQL does not say.
            ServiceUnavailable: The keys cannot be had now.
        """
        page = await self._sync.sync(conversation_id, self._socket.user_id, after_seq, limit)
        await self._tell(conversation_id, page, request_id)

    async def _tell(self, conversation_id: UUID, page: Page, request_id: str | None) -> None:
        """Tell a page as fast as the client reads; it is not what makes a client slow."""
        for frame in _frames(conversation_id, page, request_id):
            await self._socket.room()
            self._socket.put(frame)

    async def _join(
        self,
        channel: Channel,
        subscription: Subscription,
        after_seq: int | None,
        request_id: str | None,
    ) -> None:
        """Tell where the socket stands, then what it missed, then what came meanwhile."""
        floor = channel.last_seq
        assert floor is not None
        # Asked after events are heard: a removal from now on is heard, one before is seen.
        standing = await self._conversations.require_member(
            channel.conversation_id, self._socket.user_id
        )
        subscription.joined_seq = standing.joined_seq
        # A client may have heard more than this gateway, yet not more than there is.
        position = floor if after_seq is None else min(after_seq, standing.last_seq)
        subscription.skip_to(position)
        self._socket.tell(_subscribed(channel.conversation_id, position, standing, request_id))
        while not self._socket.ended.done():
            try:
                await self._bring(channel, subscription, standing)
            except Refused:
                subscription.dropped = subscription.dropped or "removed"
            if subscription.dropped:
                # Removed since it was told to be in.
                self.leave(channel.conversation_id)
                told = Unsubscribed(
                    conversation_id=channel.conversation_id, code=subscription.dropped
                )
                self._socket.tell(told)
                return
            if subscription.join():
                return

    async def _bring(
        self, channel: Channel, subscription: Subscription, standing: Standing
    ) -> None:
        """Tell what the socket has not been told up to where the channel has come."""
        floor = channel.last_seq
        assert floor is not None
        seen = max(subscription.told_seq, standing.joined_seq, standing.purged_through_seq)
        if floor - seen > self._settings.resume_max:
            self._socket.tell(Resync(conversation_id=channel.conversation_id, seq=floor))
            subscription.skip_to(floor)
        while subscription.told_seq < floor:
            if self._socket.ended.done():
                return
            page = await self._sync.sync(
                channel.conversation_id,
                self._socket.user_id,
                subscription.told_seq,
                PAGE,
                last_seq=floor,
            )
            await self._tell(channel.conversation_id, page, None)
            subscription.skip_to(max(page.through_seq, subscription.told_seq + 1))


def _subscribed(
    conversation_id: UUID, position: int, standing: Standing, request_id: str | None
) -> Subscribed:
    return Subscribed(
        id=request_id,
        conversation_id=conversation_id,
        seq=position,
        last_seq=standing.last_seq,
        purged_through_seq=standing.purged_through_seq,
        joined_seq=standing.joined_seq,
        delivered_up_to_seq=standing.watermarks.delivered,
        read_up_to_seq=standing.watermarks.read,
    )


def _frames(conversation_id: UUID, page: Page, request_id: str | None) -> Iterator[bytes]:
    """Write a page as frames of moderate size, each of which says how far it goes."""
    part: list[Message] = []
    size = 0
    for message in page.messages:
        length = len(message.content or "") * 2 + 400
        if part and size + length > FRAME_BYTES:
            yield _frame(conversation_id, page, part, request_id, is_last=False)
            part, size = [], 0
        part.append(message)
        size += length
    yield _frame(conversation_id, page, part, request_id, is_last=True)


def _frame(
    conversation_id: UUID,
    page: Page,
    part: list[Message],
    request_id: str | None,
    *,
    is_last: bool,
) -> bytes:
    return _encoder.encode(
        Messages(
            id=request_id,
            conversation_id=conversation_id,
            messages=part,
            through_seq=page.through_seq if is_last else part[-1].seq,
            has_more=page.has_more or not is_last,
            purged_through_seq=page.purged_through_seq,
        )
    )


def fault_of(refused: Refused, conversation_id: UUID | None, *, request_id: str | None) -> Fault:
    """Say why something was refused; strangers do not learn which conversations there are."""
    if refused.code in {"unknown-conversation", "not-a-member"}:
        return Fault(
            id=request_id,
            code="not-a-member",
            detail="the user is no member of this conversation",
            conversation_id=conversation_id,
        )
    return Fault(
        id=request_id,
        code=refused.code,
        detail=str(refused).partition(": ")[2],
        conversation_id=conversation_id,
    )

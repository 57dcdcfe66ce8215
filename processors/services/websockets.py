"""What the rest of the back end tells clients that are connected, whichever gateway has them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal
from uuid import UUID

import msgspec

from processors.database import outbox
from processors.services.protocols import Presence, Present
from processors.services.pubsub import Publisher
from processors.services.sessions import ALL, RevocationService

REVOKE: Final = "control.revoke"
"""Type of the event that ends sessions; gateways keep all of ``control.`` to themselves."""

AT_ONCE: Final = 500


class WebSocketService:
    """
    Publishes to conversations and users, beside the outbox.

    What must not be lost goes through the outbox, in the transaction of its cause; this is for
    what is of use at this moment or never, and for orders to the gateways.

    Args:
        publisher: Publishes in the way in which gateways listen.
        presence: Says who is connected.
        revocations: Records which sessions ended.
    """

    def __init__(
        self, publisher: Publisher, presence: Presence, revocations: RevocationService
    ) -> None:
        self._publisher = publisher
        self._presence = presence
        self._revocations = revocations

    async def to_conversation(self, conversation_id: UUID, event: Mapping[str, Any]) -> None:
        """
        Tell whoever has subscribed to a conversation.

        Args:
            conversation_id: The conversation.
            event: JSON; ``type`` is its kind, ``conversationId`` is added.

        Raises:
            RedisError: Nobody may have been told.
        """
        text = msgspec.json.encode({**event, "conversationId": conversation_id})
        await self._publisher.publish(
            [(outbox.channel("conversation", str(conversation_id)), text)]
        )

    async def to_users(self, user_ids: Iterable[UUID], event: Mapping[str, Any]) -> None:
        """
        Tell users, at all their sockets.

        Raises:
            RedisError: Nobody, or not all, may have been told.
        """
        text = msgspec.json.encode(event)
        events = [(outbox.channel("user", str(user_id)), text) for user_id in user_ids]
        for start in range(0, len(events), AT_ONCE):
            await self._publisher.publish(events[start : start + AT_ONCE])

    async def control(
        self, user_id: UUID, order: Literal["revoke"], *, session_id: str = ALL
    ) -> None:
        """
        End one session of a user, or all: sockets close at once, tickets work no more.

        Raises:
            RedisError: It may not be recorded; asking again does no harm.
        """
        assert order == "revoke"
        revoked = await self._revocations.revoke(user_id, session_id)
        event = {"type": REVOKE, "sessionId": session_id, "at": revoked.at_ms}
        await self.to_users([user_id], event)

    async def present(self, user_id: UUID) -> Present:
        """Say whether a user is connected."""
        return (await self._presence.look([user_id])).get(user_id, Present())

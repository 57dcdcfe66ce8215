"""Messages on their way into the database: sealed where they must be, parted where they must."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import structlog

from engine import Clock
from processors.errors import ConfigurationError, ProcessorError, ServiceUnavailable
from processors.rules.content import body_hash, described
from processors.rules.ids import uuid_v7
from processors.services.protocols import Envelope, Place, Sealer
from schemas.messages import SendMessage

log = structlog.get_logger("processors.messages")

KEYS_WAIT_MS: Final = 30_000
"""How long a message waits whose conversation's keys are not set up."""

SEAL_S_MAX: Final = 8.0
"""Time for all messages of a call to be sealed, well below the time limit of their jobs."""

STUCK_S: Final = 30.0
"""How long a conversation that was in the way of others is sent to by itself."""


@dataclass(slots=True)
class Draft:
    """
    A message on its way into the database.

    Attributes:
        place: Its place in the call, from 0.
        message: What is to be sent.
        fingerprints: By which the same message sent again is told from another: as it is written
            now, and as it was before its conversation was encrypted.
        id: Made here for encrypted messages, whose ciphertext is bound to it; else None.
        envelope: The ciphertext, in encrypted conversations.
    """

    place: int
    message: SendMessage
    fingerprints: tuple[bytes, ...]
    id: UUID | None = None
    envelope: Envelope | None = None

    @property
    def key(self) -> tuple[UUID, UUID, str]:
        """By what a message is sent once."""
        message = self.message
        return message.conversation_id, message.sender_id, message.client_message_id


def text_of(message: SendMessage) -> str:
    """Put together what makes two messages the same."""
    return described(message.kind.value, message.content, message.attachments)


def by_conversation(drafts: Iterable[Draft]) -> list[list[Draft]]:
    """Part drafts by their conversation, in their order."""
    groups: dict[UUID, list[Draft]] = {}
    for draft in drafts:
        groups.setdefault(draft.message.conversation_id, []).append(draft)
    return list(groups.values())


class Stuck:
    """Remembers conversations that other work keeps locked, so that they stand in nobody's way."""

    def __init__(self) -> None:
        self._until_s: dict[UUID, float] = {}

    def note(self, conversation_id: UUID, now_s: float) -> None:
        """Remember one for a while."""
        self._until_s[conversation_id] = now_s + STUCK_S

    def groups(self, drafts: Sequence[Draft], now_s: float) -> list[list[Draft]]:
        """Part drafts: all that go together, and those of each stuck conversation by themselves."""
        if self._until_s:
            self._until_s = {each: at for each, at in self._until_s.items() if at > now_s}
        stuck = [draft for draft in drafts if draft.message.conversation_id in self._until_s]
        rest = [draft for draft in drafts if draft.message.conversation_id not in self._until_s]
        return [*([rest] if rest else []), *by_conversation(stuck)]


class Sealing:
    """
    Seals messages of encrypted conversations, side by side and within a time.

    Args:
        sealer: Encrypts.
        clock: Time, for ids.
    """

    def __init__(self, sealer: Sealer, clock: Clock) -> None:
        self._sealer = sealer
        self._clock = clock

    async def drafts(
        self, wanted: Sequence[tuple[int, SendMessage]]
    ) -> tuple[list[Draft], dict[int, Exception]]:
        """Seal messages; returns drafts, and by place why others could not be sealed."""
        groups: dict[UUID, list[tuple[int, SendMessage]]] = {}
        for place, message in wanted:
            groups.setdefault(message.conversation_id, []).append((place, message))
        drafts: list[Draft] = []
        faults: dict[int, Exception] = {}
        for made, failed in await asyncio.gather(*map(self._conversation, groups.values())):
            drafts += made
            faults |= failed
        return sorted(drafts, key=lambda draft: draft.place), faults

    async def _conversation(
        self, wanted: Sequence[tuple[int, SendMessage]]
    ) -> tuple[list[Draft], dict[int, Exception]]:
        """Seal the messages of one conversation; its first trouble is that of all that follow."""
        made: list[Draft] = []
        try:
            async with asyncio.timeout(SEAL_S_MAX):
                for place, message in wanted:
                    made.append(await self._draft(place, message))
        except TimeoutError:
            fault: Exception = ServiceUnavailable("key-provider", f"silent for {SEAL_S_MAX:g} s")
        except ConfigurationError as error:
            # Held as a type, plain messages would wait for a key that they do not need.
            log.error("message_waits_for_keys", detail=str(error))
            fault = ServiceUnavailable("key-provider", str(error), retry_after_ms=KEYS_WAIT_MS)
        except ProcessorError as error:
            fault = error
        else:
            return made, {}
        return made, {place: fault for place, _ in wanted[len(made) :]}

    async def _draft(self, place: int, message: SendMessage) -> Draft:
        text = text_of(message)
        message_id = uuid_v7(self._clock.now_ms(), os.urandom)
        where = Place(message.conversation_id, message_id)
        return Draft(
            place,
            message,
            # A plain hash of a short text, if it were stored, would give the text away.
            (
                await self._sealer.fingerprint(message.conversation_id, text.encode()),
                body_hash(text),
            ),
            message_id,
            await self._sealer.seal(where, message.content.encode()),
        )

"""
What services ask of each other, so that each can be built and tested by itself.

The classes that keep these promises are named in each docstring; ``app`` puts them together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Envelope:
    """
    Something encrypted, as a row keeps it.

    Attributes:
        key_id: The data key, a row of ``encryption_keys``.
        ciphertext: The record: format version, nonce, ciphertext and tag.
    """

    key_id: UUID
    ciphertext: bytes


@dataclass(frozen=True, slots=True)
class Place:
    """
    Where a plaintext belongs; all of it is authenticated with the ciphertext.

    Attributes:
        conversation_id: Its conversation.
        message_id: Its message.
        version: The message's version.
        field: Which of its fields.
    """

    conversation_id: UUID
    message_id: UUID
    version: int = 1
    field: str = "body"


class Sealer(Protocol):
    """Encrypts and decrypts contents; ``services.encryption.EncryptionService``."""

    async def seal(self, place: Place, plaintext: bytes) -> Envelope:
        """Encrypt with the conversation's present data key, which is made where there is none."""

    async def open(self, place: Place, envelope: Envelope) -> bytes:
        """
        Decrypt.

        Raises:
            Refused: ``undecryptable``: the record is damaged or belongs elsewhere.
            ServiceUnavailable: The key provider cannot serve now.
            ConfigurationError: The key is missing or disabled.
        """

    async def fingerprint(self, conversation_id: UUID, data: bytes) -> bytes:
        """
        Return a keyed hash of 32 bytes, the same for the same data and conversation for ever.

        It stands in for a plain hash, which would give short contents away. Of a message, the data
        is ``rules.content.described``, also where it was encrypted after it was sent.
        """

    async def blind(self, conversation_id: UUID, terms: Iterable[str]) -> list[bytes]:
        """Return keyed hashes of 8 bytes of search terms, in the terms' order."""


@dataclass(frozen=True, slots=True)
class Present:
    """
    Whether a user looks at a client right now.

    Attributes:
        is_online: At least one socket is open.
        is_active: At least one of them has the conversation asked about in front.
    """

    is_online: bool = False
    is_active: bool = False


class Presence(Protocol):
    """Who is there; ``services.presence.PresenceService``."""

    async def look(
        self, user_ids: Sequence[UUID], conversation_id: UUID | None = None
    ) -> dict[UUID, Present]:
        """Look several users up; one who is not listed is away. Trouble with Redis: all away."""

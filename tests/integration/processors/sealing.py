"""Encryption for tests that have none."""

# ruff: noqa: ARG002 - the protocol names the arguments

from __future__ import annotations

from collections.abc import Iterable
from typing import NoReturn
from uuid import UUID

from processors.errors import ConfigurationError
from processors.services.protocols import Envelope, Place


class NoKeys:
    """A :class:`Sealer` that refuses."""

    async def seal(self, place: Place, plaintext: bytes) -> Envelope:
        _refuse()

    async def open(self, place: Place, envelope: Envelope) -> bytes:
        _refuse()

    async def fingerprint(self, conversation_id: UUID, data: bytes) -> bytes:
        _refuse()

    async def blind(self, conversation_id: UUID, terms: Iterable[str]) -> list[bytes]:
        _refuse()


def _refuse() -> NoReturn:
    raise ConfigurationError("a conversation is encrypted, but no keys are set up")

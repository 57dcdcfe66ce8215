"""Encryption services over a world, and what its conversations hold."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

from engine import Clock
from engine.testing import ManualClock
from processors.services.encryption import EncryptionService
from processors.services.keys import KeyProvider, LocalKeyring
from processors.services.protocols import Envelope, Place
from processors.settings import from_env
from tests.integration.processors.world import World

KEK = bytes(32)
"""That of the world's own service too."""


def service(
    world: World,
    *,
    keys: KeyProvider | None = None,
    clock: Clock | None = None,
    index_elsewhere: bool = False,
    **settings: Any,
) -> EncryptionService:
    """Build a service as a process of its own has one."""
    variables = {f"PROCESSORS_ENCRYPTION_{name.upper()}": str(v) for name, v in settings.items()}
    return EncryptionService(
        world.database,
        keys or LocalKeyring({"a": KEK}),
        from_env(variables).encryption,
        clock=clock or ManualClock(),
        committed=lambda: world.commits.append(None),
        index_elsewhere=index_elsewhere,
    )


async def place(world: World, conversation: UUID | None = None) -> Place:
    """Name a message that need not be there."""
    if conversation is None:
        conversation, _ = await world.conversation(1)
    return Place(conversation, uuid4())


async def contents(world: World, conversation: UUID) -> list[tuple[str, str]]:
    """Read a conversation: ``plain`` or ``sealed`` and the content of each message in order."""
    rows = await world.database.fetch(
        "SELECT * FROM messages WHERE conversation_id = $1 ORDER BY seq", conversation
    )
    sealer = service(world)
    found = []
    for row in rows:
        if row["body"] is not None:
            found.append(("plain", row["body"]))
        else:
            where = Place(conversation, row["id"], row["version"])
            opened = await sealer.open(where, Envelope(row["key_id"], row["ciphertext"]))
            found.append(("sealed", opened.decode()))
    return found


async def jobs(world: World) -> list[dict[str, Any]]:
    """List the data of jobs that wait in the outbox, in order, with their queues."""
    rows = await world.database.fetch(
        "SELECT key, payload FROM outbox WHERE topic = 'job' AND key IN ('encryption', 'indexing') "
        "ORDER BY id"
    )
    found = []
    for row in rows:
        delay = {"delay": row["payload"]["delay"]} if "delay" in row["payload"] else {}
        found.append({"queue": row["key"], **delay, **row["payload"]["data"]})
    return found


async def audited(world: World) -> list[str]:
    """List what the audit log tells of encryption, in order."""
    return await world.values(
        "SELECT action FROM audit_log WHERE action LIKE 'encryption.%' ORDER BY id"
    )

"""An encryption job that is killed anywhere and run again leaves what one run leaves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import pytest

from processors.database.migrations import migrate
from processors.services.encryption import EncryptionService
from processors.services.keys import LocalKeyring, WrappedKey
from schemas.messages import Decrypt, Encrypt, ReEncrypt, Rewrap, Rotate, Shred, TurnOn
from tests.integration.processors.encrypted import KEK, audited, contents, jobs, service
from tests.integration.processors.world import World, open_world
from tests.support.steps import kill_at_each_step, step

pytestmark = pytest.mark.servers

WHO = {"actor": "ada", "reason": "test"}


class Keys(LocalKeyring):
    """A keyring whose every use is a step, as a call to a key provider is."""

    async def generate(self, context: Mapping[str, str]) -> tuple[bytes, WrappedKey]:
        step()
        return await super().generate(context)

    async def wrap(self, key: bytes, context: Mapping[str, str]) -> WrappedKey:
        step()
        return await super().wrap(key, context)

    async def unwrap(self, wrapped: WrappedKey, context: Mapping[str, str]) -> bytes:
        step()
        return await super().unwrap(wrapped, context)


def crypto(world: World, *, keys: Keys | None = None, **settings: Any) -> EncryptionService:
    return service(world, keys=keys or Keys({"a": KEK}), **settings)


class Scenario:
    """Three messages; a job in a process of its own; what is there afterwards."""

    encrypted = True
    rotated = False

    async def prepare(self) -> dict[str, Any]:
        async with open_world() as world:
            conversation, (ada, _) = await world.conversation(2)
            sent = [await world.send(conversation, ada, content=f"m{n}") for n in range(3)]
            ids = tuple(each.message_id for each in sent)
            prepared = service(world)
            if self.encrypted:
                await prepared.turn_on(TurnOn(conversation_id=conversation))
                await prepared.encrypt(Encrypt(message_ids=ids), job_id=f"prepare-{conversation}")
            if self.rotated:
                rotate = Rotate(conversation_id=conversation)
                await prepared.rotate(rotate, job_id=f"rotate-{conversation}")
            await self.arrange(world, conversation)
            for table in ("outbox", "audit_log"):
                await world.database.execute(f"DELETE FROM {table}")
            return {"conversation": str(conversation), "ids": [str(each) for each in ids]}

    async def arrange(self, world: World, conversation: UUID) -> None:
        """Put in place what this scenario needs besides."""

    async def run(self, scene: dict[str, Any]) -> None:
        async with open_world() as world:
            await self.work(world, UUID(scene["conversation"]), [UUID(e) for e in scene["ids"]])

    async def work(self, world: World, conversation: UUID, ids: list[UUID]) -> None:
        """Deliver the job once."""
        raise NotImplementedError

    async def observe(self, scene: dict[str, Any]) -> Any:
        async with open_world() as world:
            return await self.seen(world, UUID(scene["conversation"]))

    async def seen(self, world: World, conversation: UUID) -> list[Any]:
        """What is there, without ids and times."""
        states = await world.values(
            "SELECT purpose || epoch || state || kek_id FROM encryption_keys "
            "WHERE conversation_id = $1 ORDER BY purpose, epoch",
            conversation,
        )
        found = [f"{job['queue']} {job['action']}" for job in await jobs(world)]
        return [await self.read(world, conversation), states, found, await audited(world)]

    async def read(self, world: World, conversation: UUID) -> Any:
        epochs = await world.values(
            "SELECT k.epoch FROM messages m LEFT JOIN encryption_keys k ON k.id = m.key_id "
            "WHERE m.conversation_id = $1 ORDER BY m.seq",
            conversation,
        )
        return [
            [*content, epoch]
            for content, epoch in zip(await contents(world, conversation), epochs, strict=True)
        ]


class TurnsOn(Scenario):
    """A plain conversation is encrypted from now on."""

    encrypted = False

    async def work(self, world: World, conversation: UUID, ids: list[UUID]) -> None:
        await crypto(world).turn_on(TurnOn(conversation_id=conversation))


class Encrypts(Scenario):
    """The first two of three messages are encrypted, and a job is left for the third."""

    encrypted = False

    async def arrange(self, world: World, conversation: UUID) -> None:
        await crypto(world).turn_on(TurnOn(conversation_id=conversation))

    async def work(self, world: World, conversation: UUID, ids: list[UUID]) -> None:
        await crypto(world, chunk_rows=2).encrypt(
            Encrypt(conversation_id=conversation), job_id=f"job-{conversation}"
        )


class Rotates(Scenario):
    """A new epoch begins, and a job is left to bring messages to it."""

    async def work(self, world: World, conversation: UUID, ids: list[UUID]) -> None:
        rotate = Rotate(conversation_id=conversation)
        await crypto(world).rotate(rotate, job_id=f"job-{conversation}")


class ReEncrypts(Scenario):
    """Two of three messages come to the present key, and a job is left for the third."""

    rotated = True

    async def work(self, world: World, conversation: UUID, ids: list[UUID]) -> None:
        await crypto(world, chunk_rows=2).re_encrypt(
            ReEncrypt(conversation_id=conversation), job_id=f"job-{conversation}"
        )


class Rewraps(Scenario):
    """Both keys of the conversation are wrapped anew."""

    def keys(self) -> Keys:
        return Keys({"b": bytes([1]) * 32, "a": KEK})

    async def arrange(self, world: World, conversation: UUID) -> None:
        # The table is shared with the runs before, whose keys are of no interest here.
        await world.database.execute(
            "DELETE FROM encryption_keys WHERE conversation_id <> $1", conversation
        )

    async def work(self, world: World, conversation: UUID, ids: list[UUID]) -> None:
        await crypto(world, keys=self.keys()).rewrap(Rewrap(), job_id=f"job-{conversation}")

    async def read(self, world: World, conversation: UUID) -> Any:
        ids = await world.values(
            "SELECT id FROM messages WHERE conversation_id = $1 ORDER BY seq", conversation
        )
        read = Decrypt(message_ids=tuple(ids), **WHO)
        result = await service(world, keys=self.keys(), decrypt_plain=1).decrypt(
            read, job_id=f"read-{conversation}"
        )
        return [each.value for each in result.values]


class Shreds(Scenario):
    """All keys of a deleted conversation go, and what it is found by."""

    async def arrange(self, world: World, conversation: UUID) -> None:
        await world.database.execute(
            "UPDATE conversations SET deleted_at = now() WHERE id = $1", conversation
        )
        await world.database.execute(
            "INSERT INTO message_search (message_id, conversation_id, sender_id, seq, sent_at, "
            "kind, version, blind) SELECT id, $1, $1, seq, now(), kind, 1, '{x}' FROM messages "
            "WHERE conversation_id = $1",
            conversation,
        )

    async def work(self, world: World, conversation: UUID, ids: list[UUID]) -> None:
        shred = Shred(conversation_id=conversation, **WHO)
        await crypto(world).shred(shred, job_id=f"job-{conversation}")

    async def read(self, world: World, conversation: UUID) -> Any:
        return await world.value(
            "SELECT count(*) FROM message_search WHERE conversation_id = $1", conversation
        )


class Stores(Scenario):
    """A message is written back in plain, under the policy that allows it."""

    async def work(self, world: World, conversation: UUID, ids: list[UUID]) -> None:
        read = Decrypt(message_ids=(ids[0],), store=True, **WHO)
        await crypto(world, decrypt_store=1).decrypt(read, job_id=f"job-{conversation}")


SEALED = [["sealed", "m0", 1], ["sealed", "m1", 1], ["sealed", "m2", 1]]
KEYS = ["data1activelocal:a", "index1activelocal:a"]
ROTATED = ["data1retiredlocal:a", "data2activelocal:a", "index1activelocal:a"]


@pytest.mark.parametrize(
    ("scenario", "left"),
    [
        (
            "TurnsOn",
            [
                [["plain", "m0", None], ["plain", "m1", None], ["plain", "m2", None]],
                KEYS,
                ["encryption encrypt", "encryption encrypt"],
                ["encryption.turn-on"],
            ],
        ),
        (
            "Encrypts",
            [
                [["sealed", "m0", 1], ["sealed", "m1", 1], ["plain", "m2", None]],
                KEYS,
                ["indexing index", "encryption encrypt"],
                [],
            ],
        ),
        ("Rotates", [SEALED, ROTATED, ["encryption re-encrypt"] * 2, ["encryption.rotate"]]),
        (
            "ReEncrypts",
            [
                [["sealed", "m0", 2], ["sealed", "m1", 2], ["sealed", "m2", 1]],
                ROTATED,
                ["encryption re-encrypt"],
                [],
            ],
        ),
        (
            "Rewraps",
            [
                ["m0", "m1", "m2"],
                ["data1activelocal:b", "index1activelocal:b"],
                [],
                ["encryption.rewrap", "encryption.decrypt"],
            ],
        ),
        (
            "Shreds",
            [0, ["data1shreddedlocal:a", "index1shreddedlocal:a"], [], ["encryption.shred"]],
        ),
        (
            "Stores",
            [[["plain", "m0", None], *SEALED[1:]], KEYS, [], ["encryption.decrypt"]],
        ),
    ],
)
async def test_a_job_survives_a_kill_at_every_step(
    postgres_url: str, scenario: str, left: list[Any]
) -> None:
    await migrate(postgres_url)

    steps = kill_at_each_step(f"{__name__}:{scenario}", {"ENGINE_POSTGRES_URL": postgres_url})

    assert steps.unkilled == left
    assert steps.differing() == {}
    assert steps.total >= 4

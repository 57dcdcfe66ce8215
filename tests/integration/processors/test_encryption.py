"""Sealing and opening contents with data keys in PostgreSQL."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from engine.testing import ManualClock
from processors.errors import ConfigurationError, Refused
from processors.services.keys import LocalKeyring, NoKeys, WrappedKey
from processors.services.protocols import Envelope, Place, Sealer
from tests.integration.processors.encrypted import KEK, place, service
from tests.integration.processors.world import World

pytestmark = pytest.mark.servers

DAY_MS = 86_400_000


@dataclass
class CountingKeys:
    """A keyring that counts its calls."""

    ring: LocalKeyring = field(default_factory=lambda: LocalKeyring({"a": KEK}))
    calls: list[str] = field(default_factory=list)

    async def primary(self) -> str:
        return await self.ring.primary()

    async def generate(self, context: Mapping[str, str]) -> tuple[bytes, WrappedKey]:
        self.calls.append("generate")
        return await self.ring.generate(context)

    async def wrap(self, key: bytes, context: Mapping[str, str]) -> WrappedKey:
        self.calls.append("wrap")
        return await self.ring.wrap(key, context)

    async def unwrap(self, wrapped: WrappedKey, context: Mapping[str, str]) -> bytes:
        self.calls.append("unwrap")
        await asyncio.sleep(0)
        return await self.ring.unwrap(wrapped, context)


async def uses(world: World) -> dict[int, int]:
    rows = await world.database.fetch(
        "SELECT epoch, uses FROM encryption_keys WHERE purpose = 'data' ORDER BY epoch"
    )
    return {row["epoch"]: row["uses"] for row in rows}


async def test_a_content_opens_where_it_was_sealed_for(world: World) -> None:
    sealer: Sealer = service(world)
    here = await place(world)

    envelope = await sealer.seal(here, "grüße".encode())

    assert await sealer.open(here, envelope) == "grüße".encode()
    assert await service(world).open(here, envelope) == "grüße".encode()
    assert b"gr" not in envelope.ciphertext


async def test_a_content_opens_nowhere_else(world: World) -> None:
    sealer = service(world)
    here = await place(world)
    other = await place(world)
    envelope = await sealer.seal(here, b"x")
    foreign = await sealer.seal(other, b"y")

    for wrong in (
        Place(here.conversation_id, uuid4()),
        Place(other.conversation_id, here.message_id),
        Place(here.conversation_id, here.message_id, version=2),
        Place(here.conversation_id, here.message_id, field="title"),
    ):
        with pytest.raises(Refused, match="undecryptable"):
            await sealer.open(wrong, envelope)
    with pytest.raises(Refused, match="undecryptable"):
        await sealer.open(here, Envelope(foreign.key_id, envelope.ciphertext))
    with pytest.raises(Refused, match="undecryptable"):
        await sealer.open(here, Envelope(envelope.key_id, b"\x07" + envelope.ciphertext[1:]))
    with pytest.raises(Refused, match="unknown-key"):
        await sealer.open(here, Envelope(uuid4(), envelope.ciphertext))
    with pytest.raises(Refused, match="unknown-conversation"):
        await sealer.seal(Place(uuid4(), uuid4()), b"x")


async def test_one_record_that_does_not_open_leaves_the_others_readable(world: World) -> None:
    sealer = service(world)
    places = [await place(world) for _ in range(3)]
    contents = [(place, str(n).encode()) for n, place in enumerate(places)]
    sealed = await sealer.seal_many(contents)
    sealed[1] = sealed[0]

    first, second, third = await sealer.open_many(list(zip(places, sealed, strict=True)))

    assert (first, third) == (b"0", b"2")
    assert isinstance(second, Refused)
    assert second.code == "undecryptable"


async def test_many_contents_of_a_conversation_ask_for_their_key_once(world: World) -> None:
    keys = CountingKeys()
    sealer = service(world, keys=keys)
    conversation, _ = await world.conversation(1)
    contents = [(await place(world, conversation), b"x") for _ in range(100)]

    sealed = await sealer.seal_many(contents)
    await asyncio.gather(*(sealer.seal(each, b"y") for each, _ in contents))
    await sealer.open_many(
        [(each, envelope) for (each, _), envelope in zip(contents, sealed, strict=True)]
    )

    assert keys.calls == ["generate", "unwrap"]
    assert await uses(world) == {1: 1_000}


async def test_readers_of_a_conversation_ask_for_its_key_once(world: World) -> None:
    here = await place(world)
    envelope = await service(world).seal(here, b"x")
    keys = CountingKeys()
    reader = service(world, keys=keys)

    opened = await asyncio.gather(*(reader.open(here, envelope) for _ in range(20)))

    assert set(opened) == {b"x"}
    assert keys.calls == ["unwrap"]


async def test_processes_that_start_together_agree_on_a_key(world: World) -> None:
    """Goal: one data key and one index key per conversation, whoever comes first."""
    here = await place(world)
    processes = [service(world) for _ in range(8)]

    sealed = await asyncio.gather(*(each.seal(here, b"x") for each in processes))
    prints = await asyncio.gather(
        *(each.fingerprint(here.conversation_id, b"x") for each in processes)
    )

    assert len({envelope.key_id for envelope in sealed}) == 1
    assert len(set(prints)) == 1
    assert await uses(world) == {1: 8_000}
    rows = await world.values("SELECT purpose FROM encryption_keys ORDER BY 1")
    assert rows == ["data", "index"]


async def test_uses_are_booked_before_they_are_taken(world: World) -> None:
    """Goal: whatever is killed, no key seals more often than its row says."""
    here = await place(world)
    sealer = service(world, uses_block=3)

    counts = []
    for _ in range(7):
        await sealer.seal(here, b"x")
        counts.append((await uses(world))[1])
    await service(world, uses_block=3).seal(here, b"x")

    assert counts == [3, 3, 3, 6, 6, 6, 9]
    assert await uses(world) == {1: 12}


async def test_an_epoch_ends_with_its_uses(world: World) -> None:
    here = await place(world)
    sealer = service(world, uses_block=2, epoch_uses_max=5)

    sealed = [await sealer.seal(here, str(n).encode()) for n in range(9)]

    assert await uses(world) == {1: 4, 2: 4, 3: 2}
    assert [await sealer.open(here, each) for each in sealed] == [b"%d" % n for n in range(9)]
    states = await world.values(
        "SELECT state FROM encryption_keys WHERE purpose = 'data' ORDER BY epoch"
    )
    assert states == ["retired", "retired", "active"]


async def test_an_epoch_ends_with_its_days_also_in_a_process_that_holds_its_key(
    world: World,
) -> None:
    here = await place(world)
    clock = ManualClock()
    sealer = service(world, clock=clock, epoch_days_max=90, cache_ttl_s=86_400)
    first = await sealer.seal(here, b"x")
    clock.step(90 * DAY_MS - 1)
    same = await sealer.seal(here, b"x")
    clock.step(1)
    second = await sealer.seal(here, b"x")

    assert first.key_id == same.key_id != second.key_id
    assert list(await uses(world)) == [1, 2]


async def test_epochs_that_several_processes_end_are_followed_by_one(world: World) -> None:
    here = await place(world)
    clock = ManualClock()
    processes = [service(world, clock=clock) for _ in range(8)]
    await asyncio.gather(*(each.seal(here, b"x") for each in processes))
    clock.step(90 * DAY_MS)

    sealed = await asyncio.gather(*(each.seal(here, b"x") for each in processes))

    assert len({envelope.key_id for envelope in sealed}) == 1
    assert list(await uses(world)) == [1, 2]


async def test_keys_are_held_for_a_while_and_in_bounded_number(world: World) -> None:
    keys = CountingKeys()
    clock = ManualClock()
    sealer = service(world, keys=keys, clock=clock, cache_ttl_s=60, cache_keys_max=2)
    places = [await place(world) for _ in range(3)]
    sealed = [await sealer.seal(each, b"x") for each in places]
    keys.calls.clear()

    await sealer.open(places[2], sealed[2])
    assert keys.calls == []
    await sealer.open(places[0], sealed[0])
    assert keys.calls == ["unwrap"]
    await clock.advance(60)
    await sealer.open(places[0], sealed[0])
    assert keys.calls == ["unwrap", "unwrap"]


async def test_fingerprints_and_terms_differ_between_conversations_and_uses(world: World) -> None:
    sealer = service(world)
    one, _ = await world.conversation(1)
    other, _ = await world.conversation(1)

    hashes = [
        await sealer.fingerprint(one, b"word"),
        await sealer.fingerprint(other, b"word"),
        *await sealer.blind(one, ["word"]),
        *await sealer.blind(other, ["word"]),
    ]

    assert len({each[:8] for each in hashes}) == 4
    assert [len(each) for each in hashes] == [32, 32, 8, 8]
    assert await service(world).fingerprint(one, b"word") == hashes[0]
    assert await service(world).blind(one, ["a", "word", "a"]) == [
        *await sealer.blind(one, ["a"]), hashes[2], *await sealer.blind(one, ["a"]),
    ]  # fmt: skip


async def test_a_keyring_that_lacks_the_key_is_a_matter_of_configuration(world: World) -> None:
    here = await place(world)
    envelope = await service(world).seal(here, b"x")

    lacking = LocalKeyring({"b": os.urandom(32)})
    another = LocalKeyring({"a": os.urandom(32)})
    for keys in (NoKeys(), lacking, another):
        with pytest.raises(ConfigurationError):
            await service(world, keys=keys).open(here, envelope)
        with pytest.raises(ConfigurationError):
            await service(world, keys=keys).seal(here, b"x")
    assert await service(world).open(here, envelope) == b"x"


async def test_a_data_key_that_was_moved_between_rows_is_refused(world: World) -> None:
    one, other = await place(world), await place(world)
    sealer = service(world)
    envelope = await sealer.seal(one, b"x")
    foreign = await sealer.seal(other, b"x")
    await world.database.execute(
        "UPDATE encryption_keys SET wrapped = (SELECT wrapped FROM encryption_keys WHERE id = $2) "
        "WHERE id = $1", envelope.key_id, foreign.key_id,
    )  # fmt: skip

    with pytest.raises(Refused, match="undecryptable"):
        await service(world).open(one, envelope)


async def test_the_tenant_belongs_to_the_content_and_cannot_change(world: World) -> None:
    here = await place(world)
    move = "UPDATE conversations SET tenant_id = $2 WHERE id = $1"
    await world.database.execute(move, here.conversation_id, "acme")
    envelope = await service(world).seal(here, b"x")

    with pytest.raises(asyncpg.CheckViolationError):
        await world.database.execute(move, here.conversation_id, "other")
    await world.database.execute("ALTER TABLE conversations DISABLE TRIGGER USER")
    await world.database.execute(move, here.conversation_id, "other")
    with pytest.raises(Refused, match="undecryptable"):
        await service(world).open(here, envelope)


async def test_swapped_records_are_quarantined_once_and_kept(world: World) -> None:
    sealer = service(world)
    conversation, (ada, _) = await world.conversation(2)
    sent = [await world.send(conversation, ada) for _ in range(2)]
    places = [Place(conversation, each.message_id) for each in sent]
    sealed = await sealer.seal_many([(each, b"x") for each in places])
    swap = "UPDATE messages SET body = NULL, ciphertext = $2, key_id = $3 WHERE id = $1"
    for here, envelope in zip(places, reversed(sealed), strict=True):
        await world.database.execute(swap, here.message_id, envelope.ciphertext, envelope.key_id)

    for _ in range(2):
        for here, envelope in zip(places, reversed(sealed), strict=True):
            with pytest.raises(Refused, match="undecryptable"):
                await sealer.open(here, envelope)
    with pytest.raises(Refused, match="undecryptable"):
        # Not what the message holds: nothing is known to be wrong with it.
        await sealer.open(places[0], Envelope(sealed[0].key_id, sealed[0].ciphertext + b"x"))

    rows = await world.database.fetch("SELECT message_id, version, code FROM encryption_quarantine")
    assert {tuple(row) for row in rows} == {
        (each.message_id, 1, "undecryptable") for each in places
    }
    audited: list[Any] = await world.values(
        "SELECT subject->>'messageId' FROM audit_log WHERE action = 'encryption.quarantine'"
    )
    assert sorted(audited) == sorted(str(each.message_id) for each in places)
    kept = await world.values(
        "SELECT ciphertext FROM messages WHERE conversation_id = $1 ORDER BY seq", conversation
    )
    assert kept == [envelope.ciphertext for envelope in reversed(sealed)]

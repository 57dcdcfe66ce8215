"""Reading what was missed, and who may; joining and leaving conversations."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from uuid import UUID, uuid4

import pytest

from processors.errors import Refused, ServiceUnavailable
from processors.services.conversations import ConversationService
from processors.services.protocols import Envelope, Place
from processors.services.sync import SyncService
from tests.integration.processors.world import World

pytestmark = pytest.mark.servers


class ReversingSealer:
    """Opens what is its own reverse, refuses what is marked as damaged, fails when told."""

    def __init__(self) -> None:
        self.opened: list[Place] = []
        self.is_away = False

    async def seal(self, place: Place, plaintext: bytes) -> Envelope:
        return Envelope(UUID(int=7), plaintext[::-1])

    async def open(self, place: Place, envelope: Envelope) -> bytes:
        if self.is_away:
            raise ServiceUnavailable("key-provider", "away")
        if envelope.ciphertext == b"damaged":
            raise Refused("undecryptable", "the record is damaged")
        self.opened.append(place)
        return envelope.ciphertext[::-1]

    async def fingerprint(self, conversation_id: UUID, data: bytes) -> bytes:
        return bytes(32)

    async def blind(self, conversation_id: UUID, terms: Iterable[str]) -> list[bytes]:
        return []


@pytest.fixture
def sync(world: World) -> SyncService:
    return SyncService(world.database, world.conversations)


async def seal_row(world: World, conversation_id: UUID, seq: int, ciphertext: bytes) -> None:
    await world.database.execute(
        "UPDATE messages SET body = NULL, ciphertext = $3, key_id = gen_random_uuid(), version = 2 "
        "WHERE conversation_id = $1 AND seq = $2",
        conversation_id,
        seq,
        ciphertext,
    )


async def test_pages_say_up_to_where_nothing_is_missing(world: World, sync: SyncService) -> None:
    conversation_id, (ada, bob) = await world.conversation(2)
    sent = [await world.send(conversation_id, ada, content=f"m{n}") for n in range(1, 8)]

    first = await sync.sync(conversation_id, bob, 0, 3)
    second = await sync.sync(conversation_id, bob, first.through_seq, 3)
    last = await sync.sync(conversation_id, bob, second.through_seq, 3)

    assert [message.content for message in first.messages] == ["m1", "m2", "m3"]
    assert (first.through_seq, first.has_more) == (3, True)
    assert [message.seq for message in second.messages] == [4, 5, 6]
    assert ([message.message_id for message in last.messages]) == [sent[-1].message_id]
    assert (last.through_seq, last.has_more) == (7, False)
    exact = await sync.sync(conversation_id, bob, 4, 3)
    assert (exact.through_seq, exact.has_more) == (7, False)
    upto = await sync.sync(conversation_id, bob, 0, 100, last_seq=2)
    assert ([message.seq for message in upto.messages], upto.through_seq) == ([1, 2], 2)
    beyond = await sync.sync(conversation_id, bob, 10**9)
    assert (beyond.messages, beyond.through_seq, beyond.has_more) == ([], 7, False)


async def test_purged_and_deleted_messages_are_no_gap(world: World, sync: SyncService) -> None:
    conversation_id, (ada, bob) = await world.conversation(2)
    for _ in range(6):
        await world.send(conversation_id, ada)
    await world.database.execute(
        "DELETE FROM messages WHERE conversation_id = $1 AND seq IN (1, 2, 3, 5)", conversation_id
    )
    await world.database.execute(
        "UPDATE conversations SET purged_through_seq = 3 WHERE id = $1", conversation_id
    )
    await world.database.execute(
        "UPDATE messages SET deleted_at = now(), body = NULL "
        "WHERE conversation_id = $1 AND seq = 4",
        conversation_id,
    )

    page = await sync.sync(conversation_id, bob, 0)

    assert [(m.seq, m.deleted, m.content) for m in page.messages] == [
        (4, True, None),
        (6, False, "hello"),
    ]
    assert (page.through_seq, page.purged_through_seq, page.has_more) == (6, 3, False)
    await world.database.execute(
        "UPDATE conversations SET purged_through_seq = 6 WHERE id = $1", conversation_id
    )
    assert (await sync.sync(conversation_id, bob, 2)).through_seq == 6


async def test_encrypted_messages_come_opened(world: World) -> None:
    sealer = ReversingSealer()
    service = SyncService(world.database, world.conversations, sealer=sealer)
    conversation_id, (ada, bob) = await world.conversation(2)
    for _ in range(3):
        await world.send(conversation_id, ada)
    await seal_row(world, conversation_id, 2, b"terces")
    await seal_row(world, conversation_id, 3, b"damaged")

    plain, opened, damaged = (await service.sync(conversation_id, bob, 0)).messages

    assert (plain.content, plain.encrypted) == ("hello", False)
    assert (opened.content, opened.encrypted, opened.unreadable) == ("secret", True, False)
    assert (damaged.content, damaged.encrypted, damaged.unreadable) == (None, True, True)
    assert sealer.opened == [Place(conversation_id, opened.message_id, 2)]
    missed = await service.missed(conversation_id, 0, 3, 10)
    assert [(m.seq, m.content, m.encrypted) for m in missed] == [
        (1, "hello", False),
        (2, None, True),
        (3, None, True),
    ]
    sealer.is_away = True
    with pytest.raises(ServiceUnavailable):
        await service.sync(conversation_id, bob, 0)


async def test_only_active_members_read(world: World, sync: SyncService) -> None:
    conversation_id, (ada, bob) = await world.conversation(2)
    await world.send(conversation_id, ada)
    with pytest.raises(Refused, match="not-a-member"):
        await sync.sync(conversation_id, uuid4(), 0)
    with pytest.raises(Refused, match="unknown-conversation"):
        await sync.sync(uuid4(), bob, 0)
    assert await world.conversations.remove_member(conversation_id, bob)
    with pytest.raises(Refused, match="left"):
        await sync.sync(conversation_id, bob, 0)
    await world.database.execute("UPDATE conversations SET deleted_at = now()")
    with pytest.raises(Refused, match="conversation-deleted"):
        await sync.sync(conversation_id, ada, 0)


async def test_a_new_member_sees_what_comes_from_then_on(world: World, sync: SyncService) -> None:
    conversation_id, (ada, _) = await world.conversation(2)
    late, early = await world.user(), await world.user()
    for _ in range(3):
        await world.send(conversation_id, ada)

    assert await world.conversations.add_member(conversation_id, late, role="admin")
    assert await world.conversations.add_member(conversation_id, early, sees_history=True)
    await world.send(conversation_id, ada)

    assert [m.seq for m in (await sync.sync(conversation_id, late, 0)).messages] == [4]
    assert len((await sync.sync(conversation_id, early, 0)).messages) == 4
    standing = await world.conversations.standing(conversation_id, late)
    assert (standing.joined_seq, standing.watermarks) == (3, (3, 3))
    assert await world.value(
        "SELECT role FROM conversation_members WHERE user_id = $1", late
    ) == "admin"  # fmt: skip


async def test_one_who_comes_back_does_not_see_what_was_said_meanwhile(
    world: World, sync: SyncService
) -> None:
    conversation_id, (ada, bob) = await world.conversation(2)
    await world.send(conversation_id, ada)
    assert await world.conversations.remove_member(conversation_id, bob)
    assert not await world.conversations.remove_member(conversation_id, bob)
    await world.send(conversation_id, ada)
    assert await world.conversations.add_member(conversation_id, bob)
    assert not await world.conversations.add_member(conversation_id, bob)
    await world.send(conversation_id, ada)

    assert [m.seq for m in (await sync.sync(conversation_id, bob, 0)).messages] == [3]


async def test_membership_changes_are_told_to_members_and_user(world: World) -> None:
    conversation_id, (_, bob) = await world.conversation(2)
    woken: list[None] = []
    service = ConversationService(world.database, committed=lambda: woken.append(None))
    await service.remove_member(conversation_id, bob)
    await service.remove_member(conversation_id, bob)
    await service.add_member(conversation_id, bob)

    rows = await world.database.fetch("SELECT topic, key, payload FROM outbox ORDER BY id")

    assert sorted((row["payload"]["type"], row["topic"], row["key"]) for row in rows) == [
        ("member.added", "conversation", str(conversation_id)),
        ("member.added", "user", str(bob)),
        ("member.removed", "conversation", str(conversation_id)),
        ("member.removed", "user", str(bob)),
    ]
    assert all(row["payload"]["userId"] == str(bob) for row in rows)
    assert len(woken) == 2


async def test_nobody_joins_what_is_not_there(world: World) -> None:
    conversation_id, (_, _) = await world.conversation(2)
    disabled = await world.user()
    await world.database.execute("UPDATE users SET disabled_at = now() WHERE id = $1", disabled)
    with pytest.raises(Refused, match="unknown-conversation"):
        await world.conversations.add_member(uuid4(), disabled)
    for nobody in (uuid4(), disabled):
        with pytest.raises(Refused, match="unknown-user"):
            await world.conversations.add_member(conversation_id, nobody)
    await world.database.execute("UPDATE conversations SET deleted_at = now()")
    with pytest.raises(Refused, match="conversation-deleted"):
        await world.conversations.add_member(conversation_id, await world.user())


async def test_joining_among_sends_leaves_no_message_in_between(
    world: World, sync: SyncService
) -> None:
    """Goal: each message is either before the joining or seen, for every joiner."""
    conversation_id, (ada, _) = await world.conversation(2)
    joiners = [await world.user() for _ in range(10)]
    await asyncio.gather(
        *(world.send(conversation_id, ada) for _ in range(60)),
        *(world.conversations.add_member(conversation_id, user) for user in joiners),
    )
    for user in joiners:
        joined = (await world.conversations.standing(conversation_id, user)).joined_seq
        page = await sync.sync(conversation_id, user, 0)
        assert [m.seq for m in page.messages] == list(range(joined + 1, 61))


async def test_gateways_find_who_is_gone(world: World, sync: SyncService) -> None:
    conversation_id, (ada, bob) = await world.conversation(2)
    other, (cleo,) = await world.conversation(1)
    await world.conversations.remove_member(conversation_id, bob)
    await world.database.execute("UPDATE users SET disabled_at = now() WHERE id = $1", cleo)
    await world.send(conversation_id, ada)
    stranger = uuid4()

    pairs = [(conversation_id, ada), (conversation_id, bob), (other, cleo), (other, stranger)]
    assert await sync.gone_members(pairs) == [(conversation_id, bob), (other, stranger)]
    assert set(await sync.gone_users([ada, bob, cleo, stranger])) == {cleo, stranger}
    assert await sync.last_seqs([conversation_id, other, stranger]) == {
        conversation_id: 1,
        other: 0,
    }
    assert await sync.gone_members([]) == []

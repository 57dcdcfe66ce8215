"""What encryption jobs do to stored messages and keys."""

from __future__ import annotations

import asyncio
import base64
import os
from typing import Any, Literal
from uuid import UUID, uuid4

import pytest

from processors.errors import ConfigurationError, Refused
from processors.rules.content import described
from processors.rules.replies import opened, public_of
from processors.services import encrypting
from processors.services.keys import LocalKeyring
from processors.services.protocols import Place
from schemas.messages import Decrypt, Encrypt, ReEncrypt, Rewrap, Rotate, Shred, TurnOn
from tests.integration.processors.encrypted import KEK, audited, contents, jobs, service
from tests.integration.processors.world import World

pytestmark = pytest.mark.servers

PRIVATE = bytes(range(1, 33))
PUBLIC = base64.b64encode(public_of(PRIVATE)).decode()
WHO = {"actor": "ada", "reason": "ticket 7"}


async def talk(world: World, count: int, *, encrypted: bool = False) -> tuple[UUID, list[UUID]]:
    """Make a conversation of messages ``m0``, ``m1`` … and encrypt it where asked."""
    conversation, (ada, _) = await world.conversation(2)
    sent = [await world.send(conversation, ada, content=f"m{n}") for n in range(count)]
    ids = [each.message_id for each in sent]
    if encrypted:
        crypto = service(world)
        await crypto.turn_on(TurnOn(conversation_id=conversation))
        await crypto.encrypt(Encrypt(message_ids=tuple(ids)), job_id=str(uuid4()))
        await world.database.execute("DELETE FROM outbox")
        await world.database.execute("DELETE FROM audit_log")
    return conversation, ids


def sealed(count: int) -> list[tuple[str, str]]:
    return [("sealed", f"m{n}") for n in range(count)]


def plain(count: int) -> list[tuple[str, str]]:
    return [("plain", f"m{n}") for n in range(count)]


async def epochs(world: World, conversation: UUID) -> list[int]:
    """Epochs of the keys that messages are sealed with, in order of messages."""
    return await world.values(
        "SELECT k.epoch FROM messages m JOIN encryption_keys k ON k.id = m.key_id "
        "WHERE m.conversation_id = $1 ORDER BY m.seq", conversation,
    )  # fmt: skip


async def delete(world: World, conversation: UUID) -> None:
    await world.database.execute(
        "UPDATE conversations SET deleted_at = now() WHERE id = $1", conversation
    )


async def misplace(world: World, source: UUID, target: UUID) -> None:
    """Put one message's record into another's row."""
    await world.database.execute(
        "UPDATE messages SET ciphertext = (SELECT ciphertext FROM messages WHERE id = $1) "
        "WHERE id = $2",
        source,
        target,
    )


async def index(world: World, conversation: UUID, message: UUID) -> None:
    """Have a message found by its words."""
    await world.database.execute(
        "INSERT INTO message_search (message_id, conversation_id, sender_id, seq, sent_at, "
        "kind, version, tsv, body_trgm) "
        "VALUES ($1, $2, $1, 1, now(), 'text', 1, to_tsvector('m0'), 'm0')",
        message,
        conversation,
    )


async def test_a_conversation_is_encrypted_from_its_first_message_on(world: World) -> None:
    """Goal: turning encryption on leaves jobs by which all that was plain becomes sealed."""
    conversation, ids = await talk(world, 5)
    other, _ = await talk(world, 1)
    await world.database.execute("DELETE FROM outbox")
    crypto = service(world, chunk_rows=2)

    turned = await crypto.turn_on(TurnOn(conversation_id=conversation, actor="ada"))
    again = await crypto.turn_on(TurnOn(conversation_id=conversation))
    assert (turned.changed, again.changed) == (True, False)
    assert [(job["conversationId"], job.get("delay", 0)) for job in await jobs(world)] == [
        (str(conversation), 0),
        (str(conversation), 300_000),
    ]

    after, more, counts = 0, True, []
    while more:
        payload = Encrypt(conversation_id=conversation, after_seq=after)
        result = await crypto.encrypt(payload, job_id=f"walk-{after}")
        counts.append(result.encrypted)
        after, more = after + 2, result.more

    assert counts == [2, 2, 1]
    assert await contents(world, conversation) == sealed(5)
    assert await contents(world, other) == plain(1)
    found = await jobs(world)
    assert [job["afterSeq"] for job in found if job["queue"] == "encryption"] == [0, 0, 2, 4]
    indexed = [job["messageIds"] for job in found if job["queue"] == "indexing"]
    assert [each for chunk in indexed for each in chunk] == [str(each) for each in ids]
    assert await audited(world) == ["encryption.turn-on"]


async def test_a_job_that_finds_nothing_looks_at_a_stretch_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Goal: a second walk over a long conversation stays within the time limit of statements."""
    monkeypatch.setattr(encrypting, "STRETCH", 2)
    conversation, ids = await talk(world, 5, encrypted=True)
    await world.database.execute(
        "UPDATE messages SET body = 'edited', ciphertext = NULL, key_id = NULL, version = 2 "
        "WHERE id = $1",
        ids[4],
    )

    after, told = 0, []
    for n in range(3):
        payload = Encrypt(conversation_id=conversation, after_seq=after)
        result = await service(world).encrypt(payload, job_id=f"walk-{n}")
        told.append((result.encrypted, result.more))
        after += 2

    assert told == [(0, True), (0, True), (1, False)]
    assert [job["afterSeq"] for job in await jobs(world) if job["action"] == "encrypt"] == [2, 4]
    assert (await contents(world, conversation))[4] == ("sealed", "edited")


async def test_nothing_plain_is_left_of_an_encrypted_message(world: World) -> None:
    """Goal: neither the body, nor its hash, nor the words that it was found by."""
    conversation, (message,) = await talk(world, 1)
    await index(world, conversation, message)
    crypto = service(world)
    await crypto.turn_on(TurnOn(conversation_id=conversation, search="none"))
    await world.database.execute("DELETE FROM outbox")

    await crypto.encrypt(Encrypt(message_ids=(message,)), job_id="j")

    row = await world.database.fetchrow("SELECT * FROM messages WHERE id = $1", message)
    assert row is not None
    assert row["body"] is None
    assert row["version"] == 1
    assert row["body_hash"] == await crypto.fingerprint(
        conversation, described("text", "m0", []).encode()
    )
    assert await world.values("SELECT message_id FROM message_search") == []
    assert await jobs(world) == []


@pytest.mark.parametrize(("search", "action"), [("none", "delete"), ("blind", "index")])
async def test_an_index_elsewhere_is_told_of_what_was_encrypted(
    world: World, search: Literal["none", "blind"], action: str
) -> None:
    """Goal: it keeps no words in plain. An index job takes out what moves to the blind index."""
    conversation, ids = await talk(world, 2)
    crypto = service(world, index_elsewhere=True)
    await crypto.turn_on(TurnOn(conversation_id=conversation, search=search))
    await world.database.execute("DELETE FROM outbox")

    await crypto.encrypt(Encrypt(message_ids=tuple(ids)), job_id="j")

    assert await jobs(world) == [
        {"queue": "indexing", "action": action, "messageIds": [str(each) for each in ids]}
    ]


async def test_an_index_elsewhere_is_told_of_what_was_shredded(world: World) -> None:
    conversation, _ = await talk(world, 1, encrypted=True)
    await delete(world, conversation)
    await world.database.execute("DELETE FROM outbox")

    for _ in range(2):
        await service(world, index_elsewhere=True).shred(
            Shred(conversation_id=conversation, **WHO), job_id="s"
        )

    (job,) = await jobs(world)
    assert (job["action"], job["conversationId"]) == ("reindex", str(conversation))


async def test_a_message_sent_before_and_again_after_is_sent_once(world: World) -> None:
    """Goal: a client that repeats itself hears the same, also once its words are sealed."""
    conversation, (ada, _) = await world.conversation(2)
    crypto = service(world)
    before = await world.send(conversation, ada, client_id="c", content="hi")
    await crypto.turn_on(TurnOn(conversation_id=conversation))
    plain_still = await world.send(conversation, ada, client_id="c", content="hi")
    await crypto.encrypt(Encrypt(conversation_id=conversation), job_id="j")

    after = await world.send(conversation, ada, client_id="c", content="hi")

    assert [each.message_id for each in (plain_still, after)] == [before.message_id] * 2
    with pytest.raises(Refused, match="client-message-id-reused"):
        await world.send(conversation, ada, client_id="c", content="other")
    assert await contents(world, conversation) == [("sealed", "hi")]


async def test_words_of_a_late_index_job_go_at_the_end_of_the_walk(world: World) -> None:
    conversation, (message,) = await talk(world, 1)
    crypto = service(world)
    await crypto.turn_on(TurnOn(conversation_id=conversation))
    await crypto.encrypt(Encrypt(message_ids=(message,)), job_id="a")
    await index(world, conversation, message)
    await world.database.execute("DELETE FROM outbox")

    await crypto.encrypt(Encrypt(conversation_id=conversation), job_id="b")

    assert await world.values("SELECT message_id FROM message_search") == []
    assert [job["messageIds"] for job in await jobs(world)] == [[str(message)]]


async def test_only_what_should_be_encrypted_is(world: World) -> None:
    open_one, (plain_id,) = await talk(world, 1)
    conversation, ids = await talk(world, 1, encrypted=True)

    result = await service(world).encrypt(
        Encrypt(message_ids=(plain_id, *ids, uuid4())), job_id="j"
    )

    assert (result.encrypted, result.more) == (0, False)
    assert await contents(world, open_one) == plain(1)
    assert await contents(world, conversation) == sealed(1)


async def test_an_edit_between_reading_and_writing_is_read_again(world: World) -> None:
    """
    Goal: an edit is never overwritten by what the message held before.

    Method: the key provider edits the message when it is first asked, after the job has read it.
    """
    conversation, (message,) = await talk(world, 1)
    await world.database.execute(
        "UPDATE conversations SET encrypted = true, search_mode = 'none' WHERE id = $1",
        conversation,
    )

    class EditingKeys(LocalKeyring):
        async def unwrap(self, *arguments: Any) -> bytes:
            await world.database.execute(
                "UPDATE messages SET body = 'edited', version = 2 WHERE id = $1", message
            )
            return await super().unwrap(*arguments)

    crypto = service(world, keys=EditingKeys({"a": KEK}))
    result = await crypto.encrypt(Encrypt(message_ids=(message,)), job_id="j")

    assert result.encrypted == 1
    assert await contents(world, conversation) == [("sealed", "edited")]


async def test_a_second_delivery_of_a_job_returns_the_first_result(world: World) -> None:
    conversation, _ = await talk(world, 3, encrypted=True)
    crypto, other = service(world, chunk_rows=2), service(world, chunk_rows=2)

    rotated = [
        await each.rotate(Rotate(conversation_id=conversation), job_id="r")
        for each in (crypto, other)
    ]
    walked = [
        await each.re_encrypt(ReEncrypt(conversation_id=conversation), job_id="e")
        for each in (crypto, other)
    ]
    await delete(world, conversation)
    shredded = [
        await each.shred(Shred(conversation_id=conversation, **WHO), job_id="s")
        for each in (crypto, other)
    ]

    assert rotated[0] == rotated[1]
    assert walked[0] == walked[1]
    assert shredded[0] == shredded[1]
    assert (rotated[0].epoch, walked[0].re_encrypted, walked[0].more) == (2, 2, True)
    assert [(job["afterSeq"], job.get("delay", 0)) for job in await jobs(world)] == [
        (0, 0), (0, 360_000), (2, 0),
    ]  # fmt: skip
    assert await audited(world) == ["encryption.rotate", "encryption.shred"]


async def test_rotation_brings_old_messages_to_the_new_key(world: World) -> None:
    conversation, ids = await talk(world, 5, encrypted=True)
    crypto = service(world, chunk_rows=2)
    late = service(world, chunk_rows=2)
    await late.seal(Place(conversation, ids[0]), b"holds the old key")

    await crypto.rotate(Rotate(conversation_id=conversation), job_id="r")
    first = await late.re_encrypt(ReEncrypt(conversation_id=conversation), job_id="1")
    assert await epochs(world, conversation) == [2, 2, 1, 1, 1]
    rest = await late.re_encrypt(ReEncrypt(conversation_id=conversation, after_seq=2), job_id="2")
    last = await late.re_encrypt(ReEncrypt(conversation_id=conversation, after_seq=4), job_id="3")

    assert [each.more for each in (first, rest, last)] == [True, True, False]
    assert await epochs(world, conversation) == [2] * 5
    assert await contents(world, conversation) == sealed(5)


async def test_rotations_of_one_conversation_at_the_same_time_follow_each_other(
    world: World,
) -> None:
    conversation, _ = await talk(world, 1, encrypted=True)

    results = await asyncio.gather(
        *(
            service(world).rotate(Rotate(conversation_id=conversation), job_id=f"r{n}")
            for n in range(6)
        )
    )

    assert sorted(each.epoch for each in results) == [2, 3, 4, 5, 6, 7]
    states = await world.values(
        "SELECT state FROM encryption_keys WHERE purpose = 'data' ORDER BY epoch"
    )
    assert states == ["retired"] * 6 + ["active"]


async def test_re_encryption_of_everything_goes_by_conversation(world: World) -> None:
    conversations = []
    for _ in range(3):
        conversation, _ = await talk(world, 1, encrypted=True)
        conversations.append(conversation)
        await service(world).rotate(
            Rotate(conversation_id=conversation, re_encrypt=False), job_id=str(conversation)
        )
    await talk(world, 1, encrypted=True)
    await world.database.execute("DELETE FROM outbox")
    crypto = service(world, chunk_rows=2)

    first = await crypto.re_encrypt(ReEncrypt(), job_id="1")
    (_, _, follows) = await jobs(world)
    second = await crypto.re_encrypt(ReEncrypt(after_key=UUID(follows["afterKey"])), job_id="2")

    assert (first.conversations, first.more) == (2, True)
    assert (second.conversations, second.more) == (1, False)
    told = [job["conversationId"] for job in await jobs(world) if job.get("conversationId")]
    assert sorted(told) == sorted(str(each) for each in conversations)


async def test_what_does_not_open_is_left_out_of_rotation(world: World) -> None:
    conversation, ids = await talk(world, 3, encrypted=True)
    await misplace(world, ids[0], ids[1])
    before = await world.value("SELECT ciphertext FROM messages WHERE id = $1", ids[1])
    crypto = service(world)
    await crypto.rotate(Rotate(conversation_id=conversation), job_id="r")

    first = await crypto.re_encrypt(ReEncrypt(conversation_id=conversation), job_id="1")
    second = await crypto.re_encrypt(ReEncrypt(conversation_id=conversation), job_id="2")

    assert (first.re_encrypted, first.quarantined) == (2, 1)
    assert (second.re_encrypted, second.quarantined) == (0, 0)
    assert await epochs(world, conversation) == [2, 1, 2]
    assert await world.value("SELECT ciphertext FROM messages WHERE id = $1", ids[1]) == before
    assert (await audited(world)).count("encryption.quarantine") == 1


async def test_rewrapping_lets_an_old_key_go(world: World) -> None:
    talks = [await talk(world, 1, encrypted=True) for _ in range(3)]
    new = os.urandom(32)
    both = service(world, keys=LocalKeyring({"b": new, "a": KEK}), chunk_rows=4)

    first = await both.rewrap(Rewrap(actor="ada"), job_id="1")
    follows = (await jobs(world))[0]
    second = await both.rewrap(Rewrap(after_key=UUID(follows["afterKey"])), job_id="2")
    third = await both.rewrap(Rewrap(), job_id="3")

    assert [(each.rewrapped, each.more) for each in (first, second, third)] == [
        (4, True), (2, False), (0, False),
    ]  # fmt: skip
    assert set(await world.values("SELECT kek_id FROM encryption_keys")) == {"local:b"}
    assert await audited(world) == ["encryption.rewrap"] * 2
    alone = service(world, keys=LocalKeyring({"b": new}), decrypt_plain=1)
    for n, (_, ids) in enumerate(talks):
        result = await alone.decrypt(Decrypt(message_ids=tuple(ids), **WHO), job_id=f"d{n}")
        assert [each.value for each in result.values] == ["m0"]
    with pytest.raises(ConfigurationError, match="no key b"):
        await service(world, decrypt_plain=1).decrypt(
            Decrypt(message_ids=tuple(ids), **WHO), job_id="x"
        )


async def test_a_damaged_data_key_does_not_stop_the_others(world: World) -> None:
    broken, _ = await talk(world, 1, encrypted=True)
    await talk(world, 1, encrypted=True)
    await world.database.execute(
        "UPDATE encryption_keys SET wrapped = set_byte(wrapped, 30, 255 - get_byte(wrapped, 30)) "
        "WHERE conversation_id = $1 AND purpose = 'data'", broken,
    )  # fmt: skip
    kept = await world.value("SELECT wrapped FROM encryption_keys WHERE conversation_id = $1 "
                             "AND purpose = 'data'", broken)  # fmt: skip
    both = service(world, keys=LocalKeyring({"b": bytes([1]) * 32, "a": KEK}))

    result = await both.rewrap(Rewrap(), job_id="1")

    assert (result.rewrapped, result.damaged) == (3, 1)
    assert await world.values(
        "SELECT wrapped FROM encryption_keys WHERE kek_id = 'local:a'"
    ) == [kept]  # fmt: skip


async def test_a_missing_old_key_holds_rewrapping_and_changes_nothing(world: World) -> None:
    await talk(world, 1, encrypted=True)

    with pytest.raises(ConfigurationError, match="no key a"):
        await service(world, keys=LocalKeyring({"b": bytes([1]) * 32})).rewrap(Rewrap(), job_id="1")

    assert set(await world.values("SELECT kek_id FROM encryption_keys")) == {"local:a"}


async def test_a_shredded_conversation_can_never_be_read_again(world: World) -> None:
    conversation, ids = await talk(world, 2, encrypted=True)
    other, _ = await talk(world, 1, encrypted=True)
    for each in ids:
        await index(world, conversation, each)
    crypto = service(world, decrypt_plain=1)
    await delete(world, conversation)

    result = await crypto.shred(Shred(conversation_id=conversation, **WHO), job_id="s")

    assert result.keys == 2
    assert await world.values("SELECT message_id FROM message_search") == []
    for call in (
        crypto.decrypt(Decrypt(message_ids=tuple(ids), **WHO), job_id="d"),
        crypto.seal(Place(conversation, ids[0]), b"x"),
        crypto.fingerprint(conversation, b"x"),
        crypto.rotate(Rotate(conversation_id=conversation), job_id="r"),
        crypto.re_encrypt(ReEncrypt(conversation_id=conversation), job_id="e"),
    ):
        with pytest.raises(Refused, match="key-shredded"):
            await call
    assert await world.values("SELECT message_id FROM encryption_quarantine") == []
    assert await contents(world, other) == sealed(1)
    assert await audited(world) == ["encryption.shred", "encryption.decrypt"]


async def test_shredding_asks_for_a_deleted_encrypted_conversation_without_hold(
    world: World,
) -> None:
    conversation, _ = await talk(world, 1, encrypted=True)
    half, _ = await talk(world, 1)
    await delete(world, half)
    held, _ = await talk(world, 1, encrypted=True)
    await delete(world, held)
    await world.database.execute("UPDATE conversations SET legal_hold = true WHERE id = $1", held)

    for each, code in (
        (conversation, "conversation-open"),
        (half, "not-encrypted"),
        (held, "legal-hold"),
        (uuid4(), "unknown-conversation"),
    ):
        with pytest.raises(Refused, match=code):
            await service(world).shred(Shred(conversation_id=each, **WHO), job_id=str(each))
    assert await contents(world, conversation) == sealed(1)
    assert await audited(world) == []


async def test_values_are_sealed_to_a_key_of_the_settings(world: World) -> None:
    _, ids = await talk(world, 2, encrypted=True)
    crypto = service(world, reply_keys=PUBLIC)
    payload = Decrypt(message_ids=(ids[1], uuid4(), ids[0], ids[0]), reply_key=PUBLIC, **WHO)

    result = await crypto.decrypt(payload, job_id="d")
    again = await crypto.decrypt(payload, job_id="d")

    for each in (result, again):
        assert [value.message_id for value in each.values] == [ids[1], ids[0]]
        assert [value.value for value in each.values] == [None, None]
        assert [
            opened(PRIVATE, value.sealed or "", message_id=value.message_id, version=1)
            for value in each.values
        ] == [b"m1", b"m0"]
        assert each.missing == (payload.message_ids[1],)
    row = await world.database.fetchrow("SELECT actor, subject FROM audit_log")
    assert row is not None
    assert row["actor"] == "ada"
    assert row["subject"]["reason"] == "ticket 7"
    assert row["subject"]["how"] == "sealed"
    assert row["subject"]["messageIds"] == [str(each) for each in payload.message_ids]
    assert await audited(world) == ["encryption.decrypt"]
    assert await world.values("SELECT result FROM job_inbox WHERE job_id = 'd'") == [None]


async def test_the_only_reply_key_need_not_be_named(world: World) -> None:
    _, ids = await talk(world, 1, encrypted=True)

    result = await service(world, reply_keys=PUBLIC).decrypt(
        Decrypt(message_ids=tuple(ids), **WHO), job_id="d"
    )

    (value,) = result.values
    assert opened(PRIVATE, value.sealed or "", message_id=ids[0], version=1) == b"m0"


OTHER = base64.b64encode(public_of(bytes(range(2, 34)))).decode()


@pytest.mark.parametrize(
    ("settings", "asked", "said"),
    [
        ({}, {}, "reply-key new FILE"),
        ({}, {"reply_key": PUBLIC}, "not among PROCESSORS_ENCRYPTION_REPLY_KEYS"),
        ({"reply_keys": OTHER}, {"reply_key": PUBLIC}, "not among"),
        ({"decrypt_plain": 1}, {"reply_key": PUBLIC}, "not among"),
        ({"reply_keys": f"{PUBLIC},{OTHER}"}, {}, "one of several"),
        ({"reply_keys": PUBLIC, "decrypt_plain": 1}, {"store": True}, "DECRYPT_STORE=1"),
    ],
)
async def test_what_the_settings_do_not_allow_is_refused(
    world: World, settings: dict[str, Any], asked: dict[str, Any], said: str
) -> None:
    conversation, ids = await talk(world, 1, encrypted=True)

    with pytest.raises(Refused, match=said) as error:
        await service(world, **settings).decrypt(
            Decrypt(message_ids=tuple(ids), **WHO, **asked), job_id="d"
        )

    assert error.value.code == "decrypt-not-allowed"
    assert await contents(world, conversation) == sealed(1)


def test_a_reply_key_that_is_none_is_named(world: World) -> None:
    with pytest.raises(ConfigurationError, match="REPLY_KEYS: a reply key has 32 bytes, not 3"):
        service(world, reply_keys="AAAA")


async def test_storing_needs_the_policy_and_is_audited(world: World) -> None:
    conversation, ids = await talk(world, 2, encrypted=True)
    payload = Decrypt(message_ids=(ids[0],), store=True, **WHO)
    crypto = service(world, decrypt_store=1)

    results = [await crypto.decrypt(payload, job_id="d") for _ in range(2)]

    assert [(each.values, each.stored) for each in results] == [((), 1)] * 2
    assert await contents(world, conversation) == [("plain", "m0"), ("sealed", "m1")]
    subjects = await world.values("SELECT subject FROM audit_log")
    assert [each["how"] for each in subjects] == ["store"]


async def test_a_swapped_record_ends_the_job_and_is_quarantined(world: World) -> None:
    """Goal: none of the messages is given away, and none is changed, also by storing."""
    _, ids = await talk(world, 2, encrypted=True)
    await misplace(world, ids[0], ids[1])
    before = await world.values("SELECT ciphertext FROM messages ORDER BY seq")
    crypto = service(world, decrypt_plain=1, decrypt_store=1)

    for store in (False, True):
        with pytest.raises(Refused, match="undecryptable") as error:
            await crypto.decrypt(
                Decrypt(message_ids=tuple(ids), store=store, **WHO), job_id=f"{store}"
            )
        assert str(ids[1]) in error.value.detail

    assert await world.values("SELECT message_id FROM encryption_quarantine") == [ids[1]]
    assert await world.values("SELECT ciphertext FROM messages ORDER BY seq") == before


async def test_values_that_an_engine_would_not_keep_are_refused(world: World) -> None:
    conversation, (ada, _) = await world.conversation(2)
    sent = [await world.send(conversation, ada, content="x" * 16_000) for _ in range(4)]
    ids = tuple(each.message_id for each in sent)
    crypto = service(world, reply_keys=PUBLIC)

    with pytest.raises(Refused, match="result-too-large"):
        await crypto.decrypt(Decrypt(message_ids=ids, **WHO), job_id="a")
    assert len((await crypto.decrypt(Decrypt(message_ids=ids[:2], **WHO), job_id="b")).values) == 2
    assert await contents(world, conversation) == [("plain", "x" * 16_000)] * 4

"""Search in encrypted conversations: found by hashes, and nothing legible is kept."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from processors.errors import ConfigurationError, ServiceUnavailable
from processors.services.encryption import EncryptionService
from schemas.messages import IndexResult
from tests.integration.processors.searching import SearchWorld, searching
from tests.integration.processors.world import World

pytestmark = pytest.mark.servers


@pytest.fixture
async def search(world: World) -> AsyncIterator[SearchWorld]:
    async with searching(
        world, window_max=10, blind_opened_max=25, blind_conversations_max=2
    ) as found:
        yield found


async def test_words_and_runs_of_encrypted_messages_are_found(search: SearchWorld) -> None:
    conversation, (ada, bob) = await search.blind_conversation()
    horses, tokyo, russian = await search.say(
        conversation,
        ada,
        "Deliveries of horses are late",
        "明日は東京都で horses",
        "новые сообщения",
    )

    assert await search.find(bob, "delivery horse") == [horses]
    assert set(await search.find(bob, "horses")) == {horses, tokyo}
    assert await search.find(bob, '"horses are late"') == [horses]
    assert await search.find(bob, '"late horses"') == []
    assert await search.find(bob, "horse -late") == [tokyo]
    assert await search.find(bob, "東京 horse") == [tokyo]
    assert await search.find(bob, "京東") == []
    assert set(await search.find(bob, "сообщение or late")) == {horses, russian}
    assert await search.find(bob, "-horse") == []
    (hit,) = (await search.page(bob, "delivery")).hits
    assert [piece.text for piece in hit.headline if piece.is_hit] == ["Deliveries"]


async def test_nothing_legible_is_stored(search: SearchWorld) -> None:
    """Goal: of the words of an encrypted message no table holds any, in any column."""
    conversation, (ada, bob) = await search.blind_conversation()
    (message,) = await search.say(conversation, ada, "zanzibar Xylophon 東京都")
    assert await search.find(bob, "zanzibar xylophon 東京") == [message]

    tables = await search.world.values(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
    )
    assert "message_search" in tables
    for table in tables:
        for row in await search.world.values(f"SELECT to_jsonb(t)::text FROM {table} t"):
            for word in ("zanz", "xylo", "東京", "東q", *map(_hex, ("zanz", "xylo", "東京"))):
                assert word not in row.lower(), table
    (entry,) = (await search.entries([message])).values()
    assert (entry["tsv"], entry["body_trgm"]) == (None, None)
    assert [len(term) for term in entry["blind"]] == [8] * 4


def _hex(word: str) -> str:
    return word.encode().hex()


async def test_the_same_word_looks_different_in_another_conversation(search: SearchWorld) -> None:
    entries = []
    for _ in range(2):
        conversation, (ada, _) = await search.blind_conversation()
        (message,) = await search.say(conversation, ada, "zanzibar")
        entries.append((await search.entries([message]))[message]["blind"])

    assert entries[0] != entries[1]


async def test_a_repeated_index_writes_nothing(search: SearchWorld) -> None:
    conversation, (ada, _) = await search.blind_conversation()
    (message,) = await search.say(conversation, ada, "a horse")
    before = await search.entries([message])

    again = (await search.search.indexer.index([message])).result([message])

    assert again == IndexResult(indexed=1)
    assert await search.entries([message]) == before


async def test_long_encrypted_messages_are_indexed_beside_other_work(search: SearchWorld) -> None:
    """Long texts are cut into terms in a thread of their own."""
    conversation, (ada, bob) = await search.blind_conversation()
    long, short = await search.say(
        conversation, ada, " ".join(f"horse{n}s" for n in range(1_400)), "a horse7"
    )

    assert set(await search.find(bob, "horse7")) == {long, short}
    assert len((await search.entries([long]))[long]["blind"]) == 1_400


async def test_encrypting_a_conversation_replaces_its_words_by_hashes(search: SearchWorld) -> None:
    conversation, (ada, bob) = await search.world.conversation(2)
    (message,) = await search.say(conversation, ada, "a horse")
    await search.world.database.execute(
        "UPDATE conversations SET encrypted = true, search_mode = 'blind' WHERE id = $1",
        conversation,
    )
    await search.seal(message)
    assert await search.find(bob, "horse") == [], "words of an encrypted conversation are not used"

    done = await search.search.indexer.index([message])

    assert done.written == {message}
    assert (await search.entries([message]))[message]["tsv"] is None
    assert await search.find(bob, "horse") == [message]


async def test_candidates_that_only_share_hashes_are_looked_at_and_left_out(
    search: SearchWorld,
) -> None:
    """Goal: the text decides: an entry with hashes that its text does not bear is no hit."""
    conversation, (ada, bob) = await search.blind_conversation()
    horse, cow = await search.say(conversation, ada, "a horse", "a cow")
    await search.world.database.execute(
        "UPDATE message_search s SET blind = h.blind FROM message_search h "
        "WHERE h.message_id = $1 AND s.message_id = $2",
        horse,
        cow,
    )

    assert await search.find(bob, "horse") == [horse]


async def test_pages_go_on_behind_what_was_looked_at_in_vain(search: SearchWorld) -> None:
    """Goal: a search that decrypts its fill says where to go on, and the end is reached."""
    conversation, (ada, bob) = await search.blind_conversation()
    texts = ["cow horse" if n % 10 == 0 else "horse cow" for n in range(60)]
    ids = await search.say(conversation, ada, *texts)
    wanted = [id_ for id_, text in zip(ids, texts, strict=True) if text == "cow horse"]

    newest = await search.pages(bob, '"cow horse"', limit=3, order="newest")
    best = await search.pages(bob, '"cow horse"', limit=3)

    assert [id_ for page in newest for id_ in page] == wanted[::-1]
    assert sorted(id_ for page in best for id_ in page) == sorted(wanted)
    assert any(len(page) < 3 for page in newest[:-1])


async def test_plain_and_encrypted_conversations_are_searched_together(
    search: SearchWorld,
) -> None:
    blind, (ada, bob) = await search.blind_conversation()
    plain, (eve, _) = await search.world.conversation(2)
    await search.world.database.execute(
        "INSERT INTO conversation_members (conversation_id, user_id) VALUES ($1, $2)", plain, bob
    )
    ids = []
    for n in range(9):
        if n % 2:
            ids += await search.say(blind, ada, f"horse {n}")
        else:
            ids += await search.say(plain, eve, f"horse {n}")

    pages = await search.pages(bob, "horse", limit=2, order="newest")
    assert [id_ for page in pages for id_ in page] == ids[::-1]
    pages = await search.pages(bob, "horse", limit=2)
    assert sorted(id_ for page in pages for id_ in page) == sorted(ids)


async def test_visibility_holds_for_encrypted_conversations_too(search: SearchWorld) -> None:
    conversation, (ada, bob) = await search.blind_conversation()
    first, second = await search.say(conversation, ada, "horse one", "horse two")
    await search.world.database.execute(
        "UPDATE conversation_members SET joined_seq = 1 WHERE user_id = $1", bob
    )
    assert await search.find(bob, "horse") == [second]
    await search.remove(second)
    assert await search.find(bob, "horse") == []
    assert await search.find(ada, "horse") == [first]
    assert await search.find(await search.world.user(), "horse") == []


async def test_the_most_recent_conversations_are_looked_through_and_it_is_told(
    search: SearchWorld,
) -> None:
    bob = await search.world.user()
    ids: list[UUID] = []
    for _ in range(3):
        conversation, (ada, _) = await search.blind_conversation()
        await search.world.database.execute(
            "INSERT INTO conversation_members (conversation_id, user_id) VALUES ($1, $2)",
            conversation,
            bob,
        )
        ids += await search.say(conversation, ada, "a horse")

    page = await search.page(bob, "horse", order="newest")

    assert [hit.message_id for hit in page.hits] == [ids[2], ids[1]]
    assert page.is_incomplete


async def test_a_damaged_record_is_counted_and_its_neighbours_are_indexed(
    search: SearchWorld,
) -> None:
    conversation, (ada, bob) = await search.blind_conversation()
    good, bad = await search.say(conversation, ada, "a horse", "a horse, too")
    await search.world.database.execute(
        "UPDATE messages SET ciphertext = set_byte(ciphertext, 20, get_byte(ciphertext, 20) # 1) "
        "WHERE id = $1",
        bad,
    )

    done = (await search.search.indexer.index([good, bad])).result([good, bad])

    assert done == IndexResult(indexed=1, undecryptable=1)
    page = await search.page(bob, "horse")
    assert [hit.message_id for hit in page.hits] == [good]
    assert page.is_incomplete


async def test_of_shredded_contents_no_hashes_are_left(search: SearchWorld) -> None:
    conversation, (ada, bob) = await search.blind_conversation()
    (message,) = await search.say(conversation, ada, "a horse")
    await search.world.database.execute(
        "UPDATE encryption_keys SET state = 'shredded', wrapped = NULL WHERE conversation_id = $1",
        conversation,
    )
    # Another process, which holds no keys yet.
    async with searching(World(search.world.database, search.world.settings)) as later:
        done = (await later.search.indexer.index([message])).result([message])
        page = await later.page(bob, "horse")

    assert done == IndexResult(removed=1)
    assert await search.entries([message]) == {}
    assert (page.hits, page.is_incomplete) == ([], True)


@pytest.mark.parametrize(
    "error", [ServiceUnavailable("key-provider", "away"), ConfigurationError("x")]
)
async def test_without_keys_plain_conversations_are_found(
    search: SearchWorld, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    blind, (ada, bob) = await search.blind_conversation()
    plain, _ = await search.world.conversation(1)
    await search.world.database.execute(
        "INSERT INTO conversation_members (conversation_id, user_id) VALUES ($1, $2)", plain, bob
    )
    await search.say(blind, ada, "a horse")
    (message,) = await search.say(plain, bob, "a horse")

    async def away(*_: Any) -> Any:
        raise error

    monkeypatch.setattr(EncryptionService, "blind", away)

    page = await search.page(bob, "horse")
    assert [hit.message_id for hit in page.hits] == [message]
    assert page.is_incomplete


@pytest.mark.parametrize("method", ["open", "blind"])
@pytest.mark.parametrize(
    "error", [ServiceUnavailable("key-provider", "away"), ConfigurationError("no key b")]
)
async def test_a_key_that_is_away_puts_off_its_own_jobs_alone(
    search: SearchWorld, monkeypatch: pytest.MonkeyPatch, error: Exception, method: str
) -> None:
    """Goal: one conversation without its key holds up no other, plain or encrypted."""
    (lost, (ada, _)), (sealed, (bob, _)) = [await search.blind_conversation() for _ in range(2)]
    plain, (eve, _) = await search.world.conversation(2)
    jobs = [
        [(await search.world.send(conversation, user, content="a horse")).message_id]
        for conversation, user in ((lost, ada), (sealed, bob), (plain, eve))
    ]
    # Encrypted where they lie, so that they have to be opened.
    for (message,) in jobs[:2]:
        if await search.world.value("SELECT body FROM messages WHERE id = $1", message):
            await search.seal(message)
    real = getattr(EncryptionService, method)

    async def away(self: Any, where: Any, *more: Any) -> Any:
        if lost in (where, getattr(where, "conversation_id", None)):
            raise error
        return await real(self, where, *more)

    monkeypatch.setattr(EncryptionService, method, away)

    put_off, *others = await search.search.indexer.index_jobs(jobs)

    assert isinstance(put_off, ServiceUnavailable)
    assert str(error) in str(put_off)
    assert others == [IndexResult(indexed=1, written=1)] * 2
    with pytest.raises(ServiceUnavailable):
        await search.search.indexer.index(jobs[0])
    monkeypatch.undo()
    assert await search.search.indexer.index_jobs(jobs[:1]) == [IndexResult(indexed=1, written=1)]

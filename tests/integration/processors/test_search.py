"""What a user finds by words, and what stays hidden."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from processors.database.statements import search as statements
from processors.errors import Refused
from tests.integration.processors.searching import SearchWorld, searching
from tests.integration.processors.world import World

pytestmark = pytest.mark.servers


@pytest.fixture
async def search(world: World) -> AsyncIterator[SearchWorld]:
    async with searching(world, window_max=10) as found:
        yield found


async def test_words_are_found_by_their_stems(search: SearchWorld) -> None:
    conversation, (ada, bob) = await search.world.conversation(2)
    horses, other = await search.say(
        conversation, ada, "Deliveries of horses are late", "nothing of the kind"
    )

    assert await search.find(bob, "delivery horse") == [horses]
    assert await search.find(bob, '"horses are late"') == [horses]
    assert await search.find(bob, '"late horses"') == []
    assert await search.find(bob, "horse -late") == []
    assert set(await search.find(bob, "horse or kind")) == {horses, other}


async def test_sender_and_conversation_help_to_find(search: SearchWorld) -> None:
    """The author is called "user 0", the conversation "test"; what is said ranks above."""
    conversation, (ada, bob) = await search.world.conversation(2)
    about, said, by_name = await search.say(
        conversation, ada, "user tests are due", "horses", "cows"
    )

    assert await search.find(bob, "user horse test") == [said]
    assert await search.find(bob, "user") == [about, by_name, said]
    assert await search.find(bob, "user", order="newest") == [by_name, said, about]


async def test_a_hit_tells_where_it_is_and_shows_what_was_searched(search: SearchWorld) -> None:
    conversation, (ada, bob) = await search.world.conversation(2)
    (message,) = await search.say(conversation, ada, "a <b>horse\x02\x03 & others")

    (hit,) = (await search.page(bob, "horses")).hits

    assert (hit.message_id, hit.conversation_id, hit.sender_id) == (message, conversation, ada)
    assert (hit.sender_name, hit.conversation_title, hit.seq, hit.kind) == (
        "user 0", "test", 1, "text",
    )  # fmt: skip
    assert [tuple(piece) for piece in hit.headline] == [
        ("a <b>", False), ("horse", True), (" & others", False),
    ]  # fmt: skip


async def test_of_a_long_message_the_places_of_hits_are_shown(search: SearchWorld) -> None:
    conversation, (ada, bob) = await search.world.conversation(2)
    await search.say(conversation, ada, "word " * 300 + "the horse ran " + "word " * 300)

    (hit,) = (await search.page(bob, "horses")).hits

    assert [piece.text for piece in hit.headline if piece.is_hit] == ["horse"]
    assert hit.headline[0].text.endswith("word the ")
    assert len("".join(piece.text for piece in hit.headline)) < 300


async def test_each_language_is_searched_by_its_own_stems(search: SearchWorld) -> None:
    conversation, (ada, bob) = await search.world.conversation(2)
    await search.world.database.execute("UPDATE users SET locale = 'de' WHERE id = $1", ada)
    (german,) = await search.say(conversation, ada, "Die Häuser der Städte")
    (russian,) = await search.say(conversation, bob, "Новые сообщения доставлены")
    (english,) = await search.say(conversation, bob, "the houses of the cities")

    rows = await search.entries([german, russian, english])

    assert [rows[each]["lang"] for each in (german, russian, english)] == [
        "german", "russian", "english",
    ]  # fmt: skip
    assert await search.find(bob, "Haus") == [german]
    assert await search.find(bob, "сообщение") == [russian]
    assert await search.find(bob, "СООБЩЕНИЯМИ") == [russian]
    assert await search.find(bob, "city house") == [english]
    # "der" is a stop word in German alone; elsewhere it is a word that is not there.
    assert await search.find(bob, "der Haus") == [german]


async def test_scripts_without_spaces_are_found_by_any_part(search: SearchWorld) -> None:
    conversation, (ada, bob) = await search.world.conversation(2)
    japanese, thai, korean = await search.say(
        conversation, ada, "明日は東京都で会いましょう Redis", "พบกันที่กรุงเทพ", "서울에서 만나요"
    )

    assert await search.find(bob, "東京") == [japanese]
    assert await search.find(bob, "京") == [japanese]
    assert await search.find(bob, "東京都で会いましょう") == [japanese]
    assert await search.find(bob, "京東") == []
    assert await search.find(bob, "東京 redis") == [japanese]
    assert await search.find(bob, "東京 mysql") == []
    assert await search.find(bob, "redis -東京") == []
    assert await search.find(bob, "user -東京 -서울", order="newest") == [thai]
    assert await search.find(bob, "大阪 or 東京都") == [japanese]
    assert await search.find(bob, "กรุงเทพ") == [thai]
    assert await search.find(bob, "서울") == [korean]
    (hit,) = (await search.page(bob, "東京 redis")).hits
    assert [piece.text for piece in hit.headline if piece.is_hit] == ["東京", "Redis"]


async def test_stop_words_alone_find_nothing(search: SearchWorld) -> None:
    conversation, (ada, bob) = await search.world.conversation(2)
    await search.say(conversation, ada, "it is what it is")

    for query in ("it is", "the", "", " ", "-horse", "!?", '"'):
        page = await search.page(bob, query)
        assert (page.hits, page.cursor) == ([], None), query


async def test_nul_and_broken_text_in_a_query_do_no_harm(search: SearchWorld) -> None:
    conversation, (ada, bob) = await search.world.conversation(2)
    (message,) = await search.say(conversation, ada, "a horse")

    assert await search.find(bob, "hor\x00se \ud83d horse'); --") == []
    assert await search.find(bob, "\x00horse\x00") == [message]
    assert await search.find(bob, "% _ \\ ' :* & | ! <-> ( horse") == [message]


async def test_only_members_find_and_only_what_came_after_they_joined(search: SearchWorld) -> None:
    conversation, (ada, bob, late) = await search.world.conversation(3)
    outsider = await search.world.user()
    first, second = await search.say(conversation, ada, "first horse", "second horse")
    await search.world.database.execute(
        "UPDATE conversation_members SET joined_seq = 1 WHERE user_id = $1", late
    )

    assert set(await search.find(bob, "horse")) == {first, second}
    assert await search.find(late, "horse") == [second]
    assert await search.find(outsider, "horse") == []
    assert await search.find(uuid4(), "horse") == []

    await search.world.database.execute(
        "UPDATE conversation_members SET left_at = now() WHERE user_id = $1", bob
    )
    assert await search.find(bob, "horse") == []
    assert await search.find(bob, "horse", conversation_id=conversation) == []
    await search.world.database.execute("UPDATE users SET disabled_at = now() WHERE id = $1", late)
    assert await search.find(late, "horse") == []


async def test_deleted_messages_and_conversations_are_not_found(search: SearchWorld) -> None:
    """Before the index has heard of it, too."""
    conversation, (ada, bob) = await search.world.conversation(2)
    kept, removed = await search.say(conversation, ada, "kept horse", "removed horse")

    await search.remove(removed)
    assert await search.find(bob, "horse") == [kept]

    await search.world.database.execute(
        "UPDATE conversations SET deleted_at = now() WHERE id = $1", conversation
    )
    assert await search.find(bob, "horse") == []


async def test_a_conversation_that_is_not_to_be_searched_is_not(search: SearchWorld) -> None:
    conversation, (ada, bob) = await search.world.conversation(2)
    await search.say(conversation, ada, "a horse")

    await search.world.database.execute(
        "UPDATE conversations SET search_mode = 'none' WHERE id = $1", conversation
    )

    assert await search.find(bob, "horse") == []


async def test_filters_narrow_a_search(search: SearchWorld) -> None:
    one, (ada, bob) = await search.world.conversation(2)
    two, (eve, _) = await search.world.conversation(2)
    await search.world.database.execute(
        "INSERT INTO conversation_members (conversation_id, user_id) VALUES ($1, $2)", two, bob
    )
    from_ada, from_bob = (
        *await search.say(one, ada, "horse one"),
        *await search.say(one, bob, "horse two"),
    )
    (from_eve,) = await search.say(two, eve, "horse three")
    times = dict(
        await search.world.database.fetch("SELECT message_id, sent_at FROM message_search")
    )

    async def found(**filters: object) -> set[UUID]:
        return set(await search.find(bob, "horse", **filters))

    assert await found() == {from_ada, from_bob, from_eve}
    assert await found(conversation_id=one) == {from_ada, from_bob}
    assert await found(sender_id=eve) == {from_eve}
    assert await found(recipient_id=ada) == {from_bob}
    assert await found(recipient_id=bob) == {from_ada, from_eve}
    assert await found(since=times[from_bob]) == {from_bob, from_eve}
    assert await found(until=times[from_bob]) == {from_ada}
    assert await found(kinds=("notice",)) == set()
    assert await found(kinds=("notice", "text"), sender_id=ada) == {from_ada}


async def test_a_recipient_received_what_was_sent_while_they_were_a_member(
    search: SearchWorld,
) -> None:
    conversation, (ada, bob, eve) = await search.world.conversation(3)
    before, then = await search.say(conversation, ada, "horse before", "horse then")
    await search.world.database.execute(
        "UPDATE conversation_members SET joined_seq = 1, left_at = now() WHERE user_id = $1", eve
    )
    await search.say(conversation, ada, "horse afterwards")

    assert await search.find(bob, "horse", recipient_id=eve) == [then]
    assert before not in await search.find(bob, "horse", recipient_id=eve)


@pytest.mark.parametrize("order", ["best", "newest"])
async def test_pages_show_everything_once_while_messages_come_in(
    search: SearchWorld, order: str
) -> None:
    conversation, (ada, bob) = await search.world.conversation(2)
    ids = await search.say(
        conversation, ada, *(f"horse {n} horse" * (n % 3 + 1) for n in range(35))
    )
    shown: list[UUID] = []
    cursor = None
    while True:
        page = await search.page(bob, "horse", limit=4, order=order, cursor=cursor)
        shown += [hit.message_id for hit in page.hits]
        cursor = page.cursor
        if cursor is None:
            break
        await search.say(conversation, ada, "horse horse horse horse")

    assert sorted(shown) == sorted(ids)
    if order == "newest":
        assert shown == ids[::-1]
    else:
        # Windows of ten, each from its best to its worst.
        assert set(shown[:10]) == set(ids[-10:])


async def test_messages_of_one_moment_are_paged_by_their_ids(search: SearchWorld) -> None:
    conversation, (ada, bob) = await search.world.conversation(2)
    ids = [await search.insert(conversation, ada, "horse") for _ in range(7)]
    moment = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(microseconds=1)
    await search.world.database.execute("UPDATE messages SET created_at = $1", moment)
    await search.search.indexer.index(ids)

    pages = await search.pages(bob, "horse", limit=3, order="newest")

    assert [len(page) for page in pages] == [3, 3, 1]
    assert [each for page in pages for each in page] == sorted(ids, reverse=True)


async def test_a_cursor_is_good_for_its_own_search_alone(search: SearchWorld) -> None:
    conversation, (ada, bob) = await search.world.conversation(2)
    await search.say(conversation, ada, "horse", "horse", "horse")
    cursor = (await search.page(bob, "horse", limit=1)).cursor

    for user, query, options in (
        (ada, "horse", {}),
        (bob, "horses", {}),
        (bob, "horse", {"sender_id": ada}),
        (bob, "horse", {"order": "newest"}),
    ):
        with pytest.raises(Refused, match="invalid-cursor"):
            await search.page(user, query, cursor=cursor, **options)
    for broken in ("", "x", f"{cursor}x", "é"):
        with pytest.raises(Refused, match="invalid-cursor"):
            await search.page(bob, "horse", cursor=broken)


async def test_bounds_of_a_search_are_told(search: SearchWorld) -> None:
    for limit in (0, 101):
        with pytest.raises(Refused, match="invalid-limit"):
            await search.page(uuid4(), "a", limit=limit)
    with pytest.raises(Refused, match="invalid-query: the query has 501 characters"):
        await search.page(uuid4(), "x" * 501)


async def test_a_search_that_takes_too_long_says_so(
    search: SearchWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversation, (ada, bob) = await search.world.conversation(2)
    await search.say(conversation, ada, "horse")
    slow = "SELECT pg_sleep(60), $1::text, $2::text[]"
    monkeypatch.setattr(statements, "CUSTOM_PLAN", "SET LOCAL statement_timeout = '50ms'")
    monkeypatch.setattr(statements, "QUERIES", slow)

    with pytest.raises(Refused, match="query-too-broad"):
        await search.page(bob, "horse")

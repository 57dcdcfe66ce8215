"""Following conversations: history, membership, what is passed on."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest
import redis.asyncio

from processors.realtime import channels
from processors.services.pubsub import Publisher
from processors.services.redis_link import connect
from processors.services.sync import SyncService
from tests.integration.processors.realtime.rig import Rig, RunningGateway, until

pytestmark = pytest.mark.servers


class HeldSync:
    """Holds the reading of pages until it is let go."""

    def __init__(self, sync: SyncService, monkeypatch: pytest.MonkeyPatch) -> None:
        self._sync = sync.sync
        self.reached = asyncio.Event()
        self.go = asyncio.Event()
        monkeypatch.setattr(sync, "sync", self._held)

    async def _held(self, *args: Any, **kwargs: Any) -> Any:
        self.reached.set()
        await self.go.wait()
        return await self._sync(*args, **kwargs)


async def test_messages_reach_those_who_follow(rig: Rig) -> None:
    conversation_id, (ada, bob) = await rig.world.conversation(2)
    await rig.relay()
    gateway = await rig.gateway()
    chat = await rig.chat(gateway, bob)
    told = await chat.follow(conversation_id)
    assert (told["type"], told["seq"], told["lastSeq"]) == ("subscribed", 0, 0)

    sent = await rig.world.send(conversation_id, ada, content="hello")
    event = await chat.next("message.created")

    assert event["messageId"] == str(sent.message_id)
    assert (event["seq"], event["content"], event["senderId"]) == (1, "hello", str(ada))


async def test_two_gateways_tell_one_conversation(rig: Rig) -> None:
    conversation_id, (ada, bob, cleo) = await rig.world.conversation(3)
    await rig.relay()
    chats = [await rig.chat(await rig.gateway(), user) for user in (bob, cleo)]
    for chat in chats:
        await chat.follow(conversation_id)
    for _ in range(20):
        await rig.world.send(conversation_id, ada)
    for chat in chats:
        assert await chat.seqs(20) == list(range(1, 21))


async def test_strangers_do_not_learn_what_there_is(rig: Rig) -> None:
    conversation_id, _ = await rig.world.conversation(2)
    gateway = await rig.gateway()
    chat = await rig.chat(gateway, await rig.world.user())
    answers = [await chat.follow(each) for each in (conversation_id, uuid4())]
    await chat.tell("sync", conversationId=conversation_id)
    answers.append(await chat.next())
    for answer in answers:
        assert answer.pop("conversationId")
        assert answer == {
            "type": "error",
            "code": "not-a-member",
            "detail": "the user is no member of this conversation",
        }
    assert gateway.hub.channels == {}


async def test_what_was_missed_comes_first(rig: Rig) -> None:
    conversation_id, (ada, bob) = await rig.world.conversation(2)
    await rig.relay()
    for number in range(1, 251):
        await rig.world.send(conversation_id, ada, content=f"m{number}")
    chat = await rig.chat(await rig.gateway(), bob)

    told = await chat.follow(conversation_id, 20)
    assert (told["seq"], told["lastSeq"]) == (20, 250)
    assert await chat.seqs(250) == list(range(21, 251))
    await rig.world.send(conversation_id, ada, content="now")
    assert (await chat.next("message.created"))["content"] == "now"


async def test_several_conversations_are_resumed_at_once(rig: Rig) -> None:
    await rig.relay()
    first, (ada, bob) = await rig.world.conversation(2)
    second, (cleo, _) = await rig.world.conversation(2)
    await rig.world.conversations.add_member(second, bob)
    for _ in range(3):
        await rig.world.send(first, ada)
        await rig.world.send(second, cleo)
    chat = await rig.chat(await rig.gateway(), bob)
    stranger = uuid4()
    await chat.tell(
        "resume", id="r", conversations={str(first): 1, str(second): 9, str(stranger): 0}
    )

    frames = await chat.settled()

    told = [frame for frame in frames if frame["type"] == "subscribed"]
    assert [(frame["conversationId"], frame["seq"], frame["id"]) for frame in told] == [
        (str(first), 1, "r"),
        (str(second), 3, "r"),
    ]
    (page,) = [frame for frame in frames if frame["type"] == "messages"]
    assert [message["seq"] for message in page["messages"]] == [2, 3]
    assert (page["throughSeq"], page.get("hasMore", False)) == (3, False)
    (error,) = [frame for frame in frames if frame["type"] == "error"]
    assert (error["code"], error["conversationId"]) == ("not-a-member", str(stranger))


async def test_what_retention_removed_is_no_gap(rig: Rig) -> None:
    """Goal: a client that was away over a purge comes to the end, and is not sent around."""
    conversation_id, (ada, bob) = await rig.world.conversation(2)
    await rig.relay()
    for _ in range(6):
        await rig.world.send(conversation_id, ada)
    await rig.world.database.execute("DELETE FROM messages WHERE seq <= 4 OR seq = 6")
    await rig.world.database.execute("UPDATE conversations SET purged_through_seq = 4")
    gateway = await rig.gateway()
    chat = await rig.chat(gateway, bob)

    told = await chat.follow(conversation_id, 1)
    page = await chat.next("messages")
    await rig.world.send(conversation_id, ada)

    assert told["purgedThroughSeq"] == 4
    assert [message["seq"] for message in page["messages"]] == [5]
    assert (page["throughSeq"], page["purgedThroughSeq"]) == (6, 4)
    assert (await chat.next())["seq"] == 7
    assert gateway.gateway.counters.filled == 0


async def test_a_new_member_is_told_what_comes_after_the_joining(rig: Rig) -> None:
    conversation_id, (ada, _) = await rig.world.conversation(2)
    await rig.relay()
    late = await rig.world.user()
    gateway = await rig.gateway()
    chat = await rig.chat(gateway, late)
    await rig.world.send(conversation_id, ada)
    await rig.world.conversations.add_member(conversation_id, late)
    added = await chat.next()
    assert (added["type"], added["joinedSeq"]) == ("member.added", 1)
    await rig.world.send(conversation_id, ada)

    told = await chat.follow(conversation_id, 0)

    assert told["joinedSeq"] == 1
    assert await chat.seqs(2) == [2]


async def test_a_removed_member_is_told_nothing_more(rig: Rig) -> None:
    conversation_id, (ada, bob, cleo) = await rig.world.conversation(3)
    await rig.relay()
    gateway = await rig.gateway()
    bobs = [await rig.chat(gateway, bob) for _ in range(2)]
    other = await rig.chat(gateway, cleo)
    for chat in (*bobs, other):
        await chat.follow(conversation_id)

    await rig.world.conversations.remove_member(conversation_id, bob)
    for chat in bobs:
        kinds = {(await chat.next())["type"] for _ in range(2)}
        assert kinds == {"unsubscribed", "member.removed"}
    await rig.world.send(conversation_id, ada)

    assert (await other.next())["type"] == "member.removed"
    assert (await other.next())["seq"] == 1
    for chat in bobs:
        assert await chat.settled() == []
        assert (await chat.follow(conversation_id))["code"] == "left"
    assert gateway.gateway.counters.removed == 2


async def test_a_removal_whose_events_were_lost_is_found(rig: Rig) -> None:
    conversation_id, (ada, bob) = await rig.world.conversation(2)
    gateway = await rig.gateway(GATEWAY_RECHECK_MS="50")
    chat, other = await rig.chat(gateway, bob), await rig.chat(gateway, ada)
    for each in (chat, other):
        await each.follow(conversation_id)
    await rig.world.conversations.remove_member(conversation_id, bob)
    told = await chat.next()
    assert (told["type"], told["code"]) == ("unsubscribed", "removed")
    assert await other.settled() == []


async def test_a_removal_during_the_joining_is_not_missed(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversation_id, (ada, bob) = await rig.world.conversation(2)
    await rig.relay()
    await rig.world.send(conversation_id, ada)
    gateway = await rig.gateway()
    held = HeldSync(gateway.backing.sync, monkeypatch)
    chat = await rig.chat(gateway, bob)
    await chat.tell("subscribe", conversationId=conversation_id, afterSeq=0)
    await held.reached.wait()
    await rig.world.conversations.remove_member(conversation_id, bob)
    await until(lambda: gateway.gateway.counters.removed, "the removal is heard")
    held.go.set()
    assert (await chat.next("unsubscribed"))["code"] == "removed"
    assert await rig_is_empty(gateway)


async def rig_is_empty(gateway: RunningGateway) -> bool:
    await until(lambda: not gateway.hub.channels, "no channel is needed any more")
    return True


@pytest.mark.parametrize("kept", [512, 8])
async def test_what_comes_during_the_joining_is_told_after_it(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    """Goal: subscribe, then read, then pass on; also where more comes than is kept."""
    monkeypatch.setattr(channels, "EARLY_MAX", kept)
    conversation_id, (ada, bob) = await rig.world.conversation(2)
    await rig.relay()
    for _ in range(3):
        await rig.world.send(conversation_id, ada)
    gateway = await rig.gateway()
    held = HeldSync(gateway.backing.sync, monkeypatch)
    chat = await rig.chat(gateway, bob)
    await chat.tell("subscribe", conversationId=conversation_id, afterSeq=0)
    await held.reached.wait()
    for _ in range(30):
        await rig.world.send(conversation_id, ada)
    await until(lambda: gateway.gateway.counters.events >= 30, "events are heard")
    held.go.set()
    assert await chat.seqs(33) == list(range(1, 34))
    await rig.world.send(conversation_id, ada)
    assert (await chat.next())["seq"] == 34


async def test_one_too_far_behind_reads_by_itself(rig: Rig) -> None:
    conversation_id, (ada, bob) = await rig.world.conversation(2)
    await rig.relay()
    for _ in range(30):
        await rig.world.send(conversation_id, ada)
    chat = await rig.chat(await rig.gateway(GATEWAY_RESUME_MAX="10"), bob)

    await chat.follow(conversation_id, 5)
    told = await chat.next()
    assert told == {"type": "resync", "conversationId": str(conversation_id), "seq": 30}
    position, read = 5, []
    while position < told["seq"]:
        await chat.tell("sync", id="p", conversationId=conversation_id, afterSeq=position, limit=10)
        page = await chat.next("messages")
        assert page["id"] == "p"
        read += [message["seq"] for message in page["messages"]]
        position = page["throughSeq"]
    assert read == list(range(6, 31))
    await rig.world.send(conversation_id, ada)
    assert (await chat.next())["seq"] == 31


async def test_large_pages_come_in_several_frames(rig: Rig) -> None:
    conversation_id, (ada, bob) = await rig.world.conversation(2)
    for _ in range(20):
        await rig.world.send(conversation_id, ada, content="é" * 8_000)
    chat = await rig.chat(await rig.gateway(), bob)
    await chat.tell("sync", conversationId=conversation_id)
    frames = [await chat.next("messages")]
    while frames[-1].get("hasMore"):
        frames.append(await chat.next("messages"))
    assert len(frames) > 1
    assert [m["seq"] for frame in frames for m in frame["messages"]] == list(range(1, 21))
    assert [frame["throughSeq"] for frame in frames] == [
        frame["messages"][-1]["seq"] for frame in frames
    ]


async def test_encrypted_messages_are_fetched_and_come_opened(rig: Rig) -> None:
    conversation_id, (ada, bob) = await rig.world.conversation(2)
    await rig.world.database.execute(
        "UPDATE conversations SET encrypted = true, search_mode = 'none'"
    )
    await rig.relay()
    gateway = await rig.gateway()
    chat = await rig.chat(gateway, bob)
    await chat.follow(conversation_id)
    await rig.world.send(conversation_id, ada, content="for bob alone")

    event = await chat.next("message.created")
    await chat.tell("sync", conversationId=conversation_id, afterSeq=event["seq"] - 1)
    page = await chat.next("messages")

    assert (event["encrypted"], event.get("content")) == (True, None)
    (message,) = page["messages"]
    assert (message["content"], message["encrypted"]) == ("for bob alone", True)
    late = await rig.chat(gateway, bob)
    await late.follow(conversation_id, 0)
    assert (await late.next("messages"))["messages"] == [message]


async def test_edits_and_deletions_are_passed_on(rig: Rig) -> None:
    conversation_id, (ada, bob) = await rig.world.conversation(2)
    await rig.relay()
    chat = await rig.chat(await rig.gateway(), bob)
    await chat.follow(conversation_id)
    sent = await rig.world.send(conversation_id, ada)
    await rig.world.messages.edit(sent.message_id, ada, "better")
    await rig.world.messages.soft_delete(sent.message_id, ada)
    events = [await chat.next() for _ in range(3)]
    assert [event["type"] for event in events] == [
        "message.created", "message.edited", "message.deleted",
    ]  # fmt: skip
    assert {event["seq"] for event in events} == {1}
    async with connect(rig.redis_url) as client:
        await publish(client, conversation_id, "no json")
        await publish(client, conversation_id, '{"type": "conversation.deleted"}')
    assert (await chat.next())["type"] == "conversation.deleted"
    assert (await chat.next())["code"] == "conversation-deleted"
    assert await chat.settled() == []


async def publish(client: redis.asyncio.Redis, conversation_id: UUID, event: str) -> None:
    await Publisher(client).publish([(f"conv:{{{conversation_id}}}", event)])


async def next_content(chat: Any) -> str:
    """Return the next text; that a member was added may be told before or after the following."""
    while "content" not in (event := await chat.next()):
        assert event["type"] == "member.added", event
    return str(event["content"])


async def test_edits_of_what_came_before_the_joining_stay_hidden(rig: Rig) -> None:
    conversation_id, (ada, _) = await rig.world.conversation(2)
    await rig.relay()
    gateway = await rig.gateway()
    old = await rig.world.send(conversation_id, ada, content="before")
    late = await rig.world.user()
    await rig.world.conversations.add_member(conversation_id, late)
    new, early = await rig.chat(gateway, late), await rig.chat(gateway, ada)
    for chat in (new, early):
        await chat.follow(conversation_id)
    await rig.world.messages.edit(old.message_id, ada, "still from before")
    await rig.world.send(conversation_id, ada, content="after")
    assert await next_content(early) == "still from before"
    assert await next_content(new) == "after"


async def test_news_of_a_message_waits_for_the_message(rig: Rig) -> None:
    conversation_id, (_, bob) = await rig.world.conversation(2)
    chat = await rig.chat(await rig.gateway(GATEWAY_REORDER_MS="3600000"), bob)
    await chat.follow(conversation_id)
    async with connect(rig.redis_url) as client:
        for event in (
            '{"type": "message.edited", "seq": 2}',
            '{"type": "some.thing"}',
            '{"type": "message.created", "seq": 2}',
            '{"type": "message.created", "seq": 1}',
        ):
            await publish(client, conversation_id, event)
    told = [await chat.next() for _ in range(4)]
    assert [(each["type"], each.get("seq")) for each in told] == [
        ("some.thing", None),
        ("message.created", 1),
        ("message.created", 2),
        ("message.edited", 2),
    ]


async def test_channels_are_heard_as_long_as_somebody_needs_them(rig: Rig) -> None:
    conversation_id, (ada, bob) = await rig.world.conversation(2)
    gateway = await rig.gateway()
    one, two = await rig.chat(gateway, ada), await rig.chat(gateway, bob)
    name = f"conv:{{{conversation_id}}}"
    async with connect(rig.redis_url) as client:

        async def heard() -> int:
            ((_, count),) = await client.execute_command("PUBSUB SHARDNUMSUB", name)
            return int(count)

        assert await heard() == 0
        await one.follow(conversation_id)
        await two.follow(conversation_id)
        assert await heard() == 1
        await one.tell("unsubscribe", conversationId=conversation_id)
        assert (await one.next())["code"] == "asked"
        assert await heard() == 1
        await one.follow(conversation_id)
        for chat in (one, two):
            await chat.tell("unsubscribe", conversationId=conversation_id)
            await chat.next("unsubscribed")
        while await heard():  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.005)
        # Back again, and really heard.
        await one.follow(conversation_id)
        await publish(client, conversation_id, '{"type": "some.thing"}')
        assert (await one.next())["type"] == "some.thing"


async def test_subscriptions_are_bounded_and_single(rig: Rig) -> None:
    gateway = await rig.gateway(GATEWAY_SUBSCRIPTIONS_MAX="2")
    bob = await rig.world.user()
    talks = [(await rig.world.conversation(1))[0] for _ in range(3)]
    for talk in talks:
        await rig.world.conversations.add_member(talk, bob)
    chat = await rig.chat(gateway, bob)
    assert chat.hello["subscriptionsMax"] == 2
    codes = [(await chat.follow(talk)).get("code") for talk in (*talks, talks[0])]
    assert codes == [None, None, "too-many-subscriptions", "already-subscribed"]
    for talk in (talks[0], talks[0]):
        await chat.tell("unsubscribe", id="u", conversationId=talk)
    assert [(await chat.next())["code"] for _ in range(2)] == ["asked", "not-subscribed"]
    assert (await chat.follow(talks[2]))["type"] == "subscribed"


async def test_a_position_beyond_the_last_message_is_put_right(rig: Rig) -> None:
    conversation_id, (ada, bob) = await rig.world.conversation(2)
    await rig.relay()
    await rig.world.send(conversation_id, ada)
    chat = await rig.chat(await rig.gateway(), bob)
    assert (await chat.follow(conversation_id, 10**9))["seq"] == 1
    await rig.world.send(conversation_id, ada)
    assert (await chat.next())["seq"] == 2

"""Presence, tickets and revocations on a real server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import orjson
import pytest
import redis.asyncio

from engine.testing import ManualClock
from processors.errors import Refused, ServiceUnavailable
from processors.services.presence import Here, PresenceService
from processors.services.protocols import Present
from processors.services.pubsub import Publisher
from processors.services.redis_link import connect
from processors.services.sessions import Revocation, RevocationService
from processors.services.tickets import TicketService, redis_now_ms
from processors.services.websockets import REVOKE, WebSocketService
from tests.integration.processors.test_outbox_relay import listening

pytestmark = pytest.mark.servers

ADA, BOB, CLEO = (UUID(int=number) for number in (1, 2, 3))
TALK, OTHER = UUID(int=8), UUID(int=9)
TTL_MS = 60_000


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[redis.asyncio.Redis]:
    async with connect(redis_url) as opened:
        yield opened


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(now_ms=int(time.time() * 1_000))


@pytest.fixture
def presence(client: redis.asyncio.Redis, clock: ManualClock) -> PresenceService:
    return PresenceService(client, clock, ttl_ms=TTL_MS)


async def test_those_with_an_open_socket_are_present(presence: PresenceService) -> None:
    await presence.change(here=[Here(ADA, "s1", TALK), Here(ADA, "s2"), Here(BOB, "s3", OTHER)])

    assert await presence.look([ADA, BOB, CLEO, ADA], TALK) == {
        ADA: Present(is_online=True, is_active=True),
        BOB: Present(is_online=True),
    }
    assert await presence.look([ADA]) == {ADA: Present(is_online=True)}


async def test_what_is_in_front_follows_the_socket(presence: PresenceService) -> None:
    await presence.change(here=[Here(ADA, "s1")])
    await presence.change(gone=[Here(ADA, "s1")], here=[Here(ADA, "s1", TALK)])
    assert (await presence.look([ADA], TALK))[ADA].is_active
    await presence.change(gone=[Here(ADA, "s1", TALK)], here=[Here(ADA, "s1", OTHER)])
    assert not (await presence.look([ADA], TALK))[ADA].is_active
    await presence.change(gone=[Here(ADA, "s1", OTHER)])
    assert await presence.look([ADA], OTHER) == {}


async def test_sockets_of_a_dead_gateway_pass(
    presence: PresenceService, clock: ManualClock, client: redis.asyncio.Redis
) -> None:
    await presence.change(here=[Here(ADA, "dead", TALK), Here(BOB, "dead2")])
    await clock.advance(TTL_MS / 2_000)
    await presence.change(here=[Here(ADA, "alive")])
    await clock.advance(TTL_MS / 2_000)

    assert await presence.look([ADA, BOB], TALK) == {ADA: Present(is_online=True)}
    await presence.change(here=[Here(ADA, "alive")])
    assert await client.zcard(f"gateway:here:{ADA}") == 1
    assert 0 < await client.pttl(f"gateway:here:{BOB}") <= TTL_MS


async def test_thousands_are_looked_up_in_one_round_trip(
    client: redis.asyncio.Redis, presence: PresenceService
) -> None:
    people = [uuid4() for _ in range(3_000)]
    await presence.change(here=[Here(user, "s") for user in people[:2_000]])
    assert len(await presence.look(people)) == 2_000


async def test_in_an_outage_all_are_away(unused_port: int, clock: ManualClock) -> None:
    async with connect(f"redis://127.0.0.1:{unused_port}") as gone:
        assert await PresenceService(gone, clock, ttl_ms=TTL_MS).look([ADA]) == {}


async def test_a_ticket_works_once(client: redis.asyncio.Redis) -> None:
    tickets = TicketService(client, ttl_ms=30_000)
    ticket = await tickets.issue_ticket(ADA, "session-1")
    other = await tickets.issue_ticket(ADA)

    found = await asyncio.gather(*(tickets.redeem(ticket) for _ in range(20)))

    (grant,) = [each for each in found if each is not None]
    assert (grant.user_id, grant.session_id) == (ADA, "session-1")
    assert abs(grant.issued_ms - await redis_now_ms(client)) < 60_000
    assert await tickets.redeem(other) is not None
    for wrong in ("", "x", other, "é" * 43, "y" * 500):
        assert await tickets.redeem(wrong) is None


async def test_a_ticket_is_stored_hashed_and_for_a_while(client: redis.asyncio.Redis) -> None:
    ticket = await TicketService(client, ttl_ms=30_000).issue_ticket(ADA)
    (key,) = await client.keys("gateway:ticket:*")
    assert ticket.encode() not in key
    assert ticket.encode() not in await client.get(key)
    assert 0 < await client.pttl(key) <= 30_000
    assert len(ticket) == 43


async def test_a_late_ticket_is_refused(client: redis.asyncio.Redis) -> None:
    tickets = TicketService(client, ttl_ms=30_000)
    ticket = await tickets.issue_ticket(ADA)
    (key,) = await client.keys("gateway:ticket:*")
    await client.pexpireat(key, await redis_now_ms(client) - 1)
    assert await tickets.redeem(ticket) is None


async def test_odd_session_ids_are_refused(client: redis.asyncio.Redis) -> None:
    for odd in ("a|b", "a b", "x" * 129, "\n"):
        with pytest.raises(Refused, match="session-id"):
            await TicketService(client, ttl_ms=30_000).issue_ticket(ADA, odd)


async def test_tickets_say_that_redis_is_away(unused_port: int) -> None:
    async with connect(f"redis://127.0.0.1:{unused_port}") as gone:
        with pytest.raises(ServiceUnavailable):
            await TicketService(gone, ttl_ms=30_000).issue_ticket(ADA)
        with pytest.raises(ServiceUnavailable):
            await TicketService(gone, ttl_ms=30_000).redeem("x")


async def test_a_revocation_is_recorded_and_told(
    client: redis.asyncio.Redis, redis_url: str, presence: PresenceService
) -> None:
    revocations = RevocationService(client, keep_ms=60_000)
    service = WebSocketService(Publisher(client), presence, revocations)
    before = await redis_now_ms(client)
    async with listening(redis_url, f"user:{{{ADA}}}") as listener:
        await service.control(ADA, "revoke", session_id="s-1")
        _, event = await listener.hear()
    await service.control(BOB, "revoke")

    (one, every) = await revocations.since(before)
    assert event == {"type": REVOKE, "sessionId": "s-1", "at": one.at_ms}
    assert (one.user_id, one.session_id) == (ADA, "s-1")
    assert (every.user_id, every.session_id) == (BOB, "")
    assert await revocations.since(every.at_ms + 1) == []


def test_a_revocation_covers_tickets_issued_before_it() -> None:
    assert Revocation(ADA, "", 5).covers("any", 5)
    assert not Revocation(ADA, "", 5).covers("any", 6)
    assert Revocation(ADA, "s", 5).covers("s", 1)
    assert not Revocation(ADA, "s", 5).covers("t", 1)


async def test_old_revocations_are_forgotten(client: redis.asyncio.Redis) -> None:
    revocations = RevocationService(client, keep_ms=60_000)
    await client.zadd("gateway:revoked", {f"{ADA}|old": 1})
    await revocations.revoke(BOB)
    assert [each.user_id for each in await revocations.since(0)] == [BOB]


async def test_services_tell_conversations_and_users(
    client: redis.asyncio.Redis, redis_url: str, presence: PresenceService
) -> None:
    service = WebSocketService(
        Publisher(client), presence, RevocationService(client, keep_ms=1_000)
    )
    async with (
        listening(redis_url, f"conv:{{{TALK}}}") as talk,
        listening(redis_url, f"user:{{{ADA}}}") as ada,
        listening(redis_url, f"user:{{{BOB}}}") as bob,
    ):
        await service.to_conversation(TALK, {"type": "typing", "userId": ADA})
        await service.to_users([ADA, BOB], {"type": "notification.created"})
        assert (await talk.hear())[1] == orjson.loads(
            orjson.dumps({"type": "typing", "userId": ADA, "conversationId": TALK})
        )
        assert [(await each.hear())[1] for each in (ada, bob)] == [
            {"type": "notification.created"}
        ] * 2
    await presence.change(here=[Here(ADA, "s")])
    assert await service.present(ADA) == Present(is_online=True)
    assert await service.present(BOB) == Present()

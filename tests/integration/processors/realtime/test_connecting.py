"""Who gets a socket, and how it ends."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from processors.services.redis_link import connect
from processors.services.sessions import RevocationService
from processors.services.tickets import TicketService
from tests.integration.processors.realtime.rig import Chat, Rig, RunningGateway, until

pytestmark = pytest.mark.servers

PAGE = "https://chat.example.com"


async def refused(rig: Rig, url: str, **options: str) -> int:
    """Return the HTTP status of an upgrade that is refused."""
    with pytest.raises(InvalidStatus) as caught:
        await rig.dial(url, **options)
    return caught.value.response.status_code


async def shows(rig: Rig, gateway: RunningGateway, ticket: str) -> Chat:
    chat = await rig.dial(gateway.url)
    await chat.tell("auth", ticket=ticket)
    return chat


async def test_a_ticket_opens_one_socket(rig: Rig) -> None:
    gateway, ada = await rig.gateway(), await rig.world.user()
    ticket = await rig.ticket(ada, "s-1")

    first = await shows(rig, gateway, ticket)
    hello = await first.next()
    second = await shows(rig, gateway, ticket)

    assert (hello["type"], hello["userId"], hello["protocol"]) == ("hello", str(ada), 1)
    assert first.ws.protocol.extensions == []
    assert await second.end() == (4401, "ticket")


async def test_an_expired_ticket_opens_none(rig: Rig) -> None:
    gateway, ada = await rig.gateway(), await rig.world.user()
    ticket = await rig.ticket(ada)
    async with connect(rig.redis_url) as client:
        (key,) = await client.keys("gateway:ticket:*")
        assert await client.pexpire(key, 1)
        while await client.exists(key):  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.001)
    assert await (await shows(rig, gateway, ticket)).end() == (4401, "ticket")


@pytest.mark.parametrize(
    "first", ['{"type":"ping"}', "no json", '{"type":"auth","ticket":""}', b'{"type":"auth"}']
)
async def test_anything_but_a_ticket_is_turned_away(rig: Rig, first: str | bytes) -> None:
    gateway = await rig.gateway()
    chat = await rig.dial(gateway.url)
    await chat.ws.send(first)
    assert await chat.end() == (4401, "ticket")
    assert gateway.gateway.counters.refused == 1


async def test_silence_is_turned_away(rig: Rig) -> None:
    gateway = await rig.gateway(GATEWAY_AUTH_MS="50")
    assert await (await rig.dial(gateway.url)).end() == (4401, "ticket")


async def test_only_listed_pages_may_connect(rig: Rig) -> None:
    gateway = await rig.gateway(GATEWAY_ORIGINS=PAGE)
    ada = await rig.world.user()
    for origin in (
        "https://evil.example",
        PAGE + ".evil.example",
        PAGE + ":443",
        "null",
        "http" + PAGE[5:],
    ):
        assert await refused(rig, gateway.url, origin=origin) == 403
    assert (await rig.chat(gateway, ada, origin=PAGE)).hello
    assert (await rig.chat(gateway, ada)).hello, "clients that are no browsers say no origin"
    nobody = await rig.gateway()
    assert await refused(rig, nobody.url, origin=PAGE) == 403


async def test_a_ticket_in_the_address_needs_a_setting(rig: Rig) -> None:
    ada = await rig.world.user()
    strict, lax = await rig.gateway(), await rig.gateway(GATEWAY_TICKET_IN_QUERY="true")
    ticket = await rig.ticket(ada)
    assert await refused(rig, f"{strict.url}?ticket={ticket}") == 400
    chat = await rig.dial(f"{lax.url}?ticket={ticket}")
    assert (await chat.next())["type"] == "hello"
    assert await (await rig.dial(f"{lax.url}?ticket={ticket}")).end() == (4401, "ticket")


async def test_disabled_and_unknown_users_stay_outside(rig: Rig) -> None:
    gateway, ada = await rig.gateway(), await rig.world.user()
    ticket = await rig.ticket(ada)
    await rig.world.database.execute("UPDATE users SET disabled_at = now()")
    assert await (await shows(rig, gateway, ticket)).end() == (4403, "user-disabled")


async def test_a_user_disabled_later_is_put_out(rig: Rig) -> None:
    gateway = await rig.gateway(GATEWAY_RECHECK_MS="50")
    ada, bob = await rig.world.user(), await rig.world.user()
    chat, other = await rig.chat(gateway, ada), await rig.chat(gateway, bob)
    await rig.world.database.execute("UPDATE users SET disabled_at = now() WHERE id = $1", ada)
    assert await chat.end() == (4403, "user-disabled")
    assert await other.settled() == []


async def test_sockets_are_bounded_per_user_address_and_process(rig: Rig) -> None:
    ada, bob = await rig.world.user(), await rig.world.user()
    own = await rig.gateway(GATEWAY_SOCKETS_USER_MAX="2")
    kept = [await rig.chat(own, ada) for _ in range(2)]
    third = await shows(rig, own, await rig.ticket(ada))
    assert await third.end() == (4429, "too-many-sockets")
    assert (await rig.chat(own, bob)).hello
    await kept[0].ws.close()
    await until(lambda: len(kept) and users(own, ada) == 1, "the socket is counted out")
    assert (await rig.chat(own, ada)).hello

    address = await rig.gateway(GATEWAY_SOCKETS_IP_MAX="1")
    chat = await rig.chat(address, ada)
    assert await refused(rig, address.url) == 429
    await chat.ws.close()
    whole = await rig.gateway(GATEWAY_SOCKETS_MAX="1")
    await rig.chat(whole, ada)
    assert await refused(rig, whole.url) == 503


def users(gateway: RunningGateway, user_id: object) -> int:
    return len(gateway.hub.users.get(user_id, ()))  # type: ignore[call-overload]


async def test_behind_proxies_the_last_trusted_word_counts(rig: Rig) -> None:
    gateway = await rig.gateway(GATEWAY_SOCKETS_IP_MAX="1", GATEWAY_PROXIES="1")
    ada = await rig.world.user()
    for address in ("203.0.113.1", "203.0.113.2"):
        headers = {"X-Forwarded-For": f"198.51.100.9, {address}"}
        assert (await rig.chat(gateway, ada, additional_headers=headers)).hello
    with pytest.raises(InvalidStatus):
        await rig.dial(
            gateway.url, additional_headers={"X-Forwarded-For": "198.51.100.7, 203.0.113.2"}
        )


async def test_long_frames_end_the_socket(rig: Rig) -> None:
    gateway, ada = await rig.gateway(), await rig.world.user()
    chat = await rig.chat(gateway, ada)
    await chat.tell("ping", id="x" * 1000)
    assert (await chat.next())["code"] == "bad-frame"
    await chat.ws.send("x" * (64 * 1024 + 1))
    code, _ = await chat.end()
    assert code == 1009


async def test_garbage_is_answered_then_ends_the_socket(rig: Rig) -> None:
    gateway, ada = await rig.gateway(), await rig.world.user()
    chat = await rig.chat(gateway, ada)
    garbage = [
        "", "{", "null", "[]", '"x"', "{}", '{"type":"no"}', '{"type":"subscribe"}',
        '{"type":"ping","more":1}', '{"type":"ack"}', '{"type":"active"}', "[" * 5_000,
        '{"type":"subscribe","conversationId":"x"}', '{"type":"sync","afterSeq":-1}',
        '{"type":"resume","conversations":{"x":1}}', '{"type":"read","seq":1}', "\x00",
        '{"type":"send","message":[]}', '{"type":"ping","id":7}', '{"type":7}',
    ]  # fmt: skip
    for text in garbage[:-1]:
        await chat.ws.send(text)
        answer = await chat.next()
        assert (answer["type"], answer["code"]) == ("error", "bad-frame"), text
    assert await chat.settled() == []
    await chat.ws.send(garbage[-1])
    assert await chat.end() == (1008, "bad-frames")
    assert gateway.gateway.counters.frames_bad == len(garbage)


async def test_binary_frames_and_bad_text_end_the_socket(rig: Rig) -> None:
    gateway, ada = await rig.gateway(), await rig.world.user()
    chat = await rig.chat(gateway, ada)
    await chat.ws.send(b"{}")
    assert await chat.end() == (1003, "text-only")
    torn = await rig.chat(gateway, ada)
    await torn.ws.send(b"\xff\xfe", text=True)
    code, _ = await torn.end()
    assert code == 1007


async def test_a_revoked_user_is_put_out_everywhere(rig: Rig) -> None:
    one, two = await rig.gateway(), await rig.gateway()
    ada, bob = await rig.world.user(), await rig.world.user()
    chats = [await rig.chat(gateway, ada, "s") for gateway in (one, two)]
    other = await rig.chat(one, bob)
    unused = await rig.ticket(ada)

    await one.backing.websockets.control(ada, "revoke")

    assert [await chat.end() for chat in chats] == [(4401, "revoked")] * 2
    late = await shows(rig, one, unused)
    assert await late.end() == (4401, "revoked")
    assert late.frames == [], "it never was in"
    assert await other.settled() == []
    assert (await rig.chat(one, ada)).hello, "a new ticket opens a new session"


async def test_one_session_is_revoked_by_its_name(rig: Rig) -> None:
    gateway, ada = await rig.gateway(), await rig.world.user()
    phone, tablet = await rig.chat(gateway, ada, "phone"), await rig.chat(gateway, ada, "tablet")
    await gateway.backing.websockets.control(ada, "revoke", session_id="phone")
    assert await phone.end() == (4401, "revoked")
    assert await tablet.settled() == []


async def test_a_revocation_whose_event_was_lost_is_found(rig: Rig) -> None:
    gateway, ada = await rig.gateway(GATEWAY_RECHECK_MS="50"), await rig.world.user()
    chat = await rig.chat(gateway, ada)
    async with connect(rig.redis_url) as client:
        await RevocationService(client, keep_ms=60_000).revoke(ada)
    assert await chat.end() == (4401, "revoked")


async def test_an_old_socket_has_to_come_back(rig: Rig) -> None:
    gateway = await rig.gateway(GATEWAY_SOCKET_MS_MAX="1000", GATEWAY_RECHECK_MS="50")
    chat = await rig.chat(gateway, await rig.world.user())
    assert await chat.end() == (4401, "expired")


async def test_tickets_over_http_need_the_token(rig: Rig) -> None:
    token = "a-secret-of-the-back-end"
    off, on = await rig.gateway(), await rig.gateway(GATEWAY_TOKEN=token)
    ada = await rig.world.user()
    wish = {"userId": str(ada), "sessionId": "s"}
    async with aiohttp.ClientSession() as http:

        async def ask(
            gateway: RunningGateway, shown: str | None, **body: object
        ) -> tuple[int, str]:
            headers = {} if shown is None else {"Authorization": shown}
            url = f"{gateway.http}/tickets"
            async with http.post(url, headers=headers, **body) as answer:  # type: ignore[arg-type]
                return answer.status, await answer.text()

        assert (await ask(off, f"Bearer {token}", json=wish))[0] == 404
        for shown in (None, "Bearer ", "Bearer wrong", f"Basic {token}", token, f"Bearer {token}x"):
            assert (await ask(on, shown, json=wish))[0] == 401
        good = f"Bearer {token}"
        for bad in ({}, {"userId": "x"}, {**wish, "more": 1}, {**wish, "sessionId": "a b"}, []):
            assert (await ask(on, good, json=bad))[0] == 400
        assert (await ask(on, good, data=b"x" * 5_000))[0] in {413, 415}
        assert (await ask(on, good, data="userId=1"))[0] == 415
        async with http.post(
            f"{on.http}/tickets", headers={"Authorization": good}, json=wish
        ) as answer:
            assert answer.status == 201
            told = await answer.json()
    assert told["expiresInMs"] == 30_000
    assert (await (await shows(rig, on, told["ticket"])).next())["userId"] == str(ada)


async def test_probes_and_status(rig: Rig) -> None:
    gateway = await rig.gateway()
    secret = await rig.gateway(GATEWAY_TOKEN="a-secret-of-the-back-end")
    await rig.chat(gateway, await rig.world.user())
    async with aiohttp.ClientSession() as http:
        for path in ("/live", "/ready"):
            async with http.get(gateway.http + path) as answer:
                assert answer.status == 200
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
        async with http.get(f"{gateway.http}/status") as answer:
            status = await answer.json()
        async with http.get(f"{secret.http}/status") as answer:
            assert answer.status == 401
        for path in ("/", "/ws", "/tickets", "/../etc/passwd"):
            async with http.get(gateway.http + path) as answer:
                assert answer.status in {404, 405, 426}
    assert (status["sockets"], status["totals"]["opened"]) == (1, 1)


async def test_tickets_expire_with_their_setting(rig: Rig) -> None:
    gateway = await rig.gateway(GATEWAY_TICKET_MS="2000")
    assert gateway.backing.tickets.ttl_ms == 2_000
    ticket = await gateway.backing.tickets.issue_ticket(await rig.world.user())
    async with connect(rig.redis_url) as client:
        (key,) = await client.keys("gateway:ticket:*")
        assert 0 < await client.pttl(key) <= 2_000
        assert await TicketService(client, ttl_ms=1_000).redeem(ticket)


async def test_a_client_that_hangs_up_leaves_nothing_behind(rig: Rig) -> None:
    conversation_id, (ada, _) = await rig.world.conversation(2)
    gateway = await rig.gateway()
    for _ in range(5):
        chat = await rig.chat(gateway, ada)
        await chat.follow(conversation_id)
        chat.ws.transport.abort()
    await until(lambda: not gateway.hub.users, "all sockets are counted out")
    assert gateway.hub.channels == {}
    with pytest.raises(ConnectionClosed):
        await chat.ws.recv()

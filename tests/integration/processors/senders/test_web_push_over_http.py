"""Web push, against a push service whose browsers decrypt what arrives."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from engine import SystemClock
from engine.testing import ManualClock
from processors.errors import ConfigurationError
from processors.senders.base import Answer, Kind, Push, PushTarget
from processors.senders.web_push import PublicResolver, WebPushSender
from processors.senders.web_push_crypto import Vapid, encoded, read_vapid_key
from processors.settings import from_env
from tests.integration.processors.senders.push_world import push, sending, target
from tests.peers.web_push import Refuse, WebPushPeer, public_keys

FAMILY = "👨‍👩‍👧‍👦"


@pytest.fixture
async def peer() -> AsyncIterator[WebPushPeer]:
    async with WebPushPeer() as started:
        yield started


def browser(peer: WebPushPeer, name: str = "ada", **changed: Any) -> PushTarget:
    return target("webpush", **({"token": peer.endpoint(name), "keys": public_keys(name)}
                                | changed))  # fmt: skip


async def test_a_browser_reads_what_was_sent(peer: WebPushPeer) -> None:
    sent = push(body="Grüße 👋", data={"conversationId": "c1"}, badge=2, collapse_key="conv-1",
                ttl_s=60)  # fmt: skip
    async with sending(peer.environ()) as senders:
        answer = await senders["webpush"].send(browser(peer), sent)

    assert answer == Answer(Kind.SENT)
    arrived = peer.received[0]
    assert arrived.content == {
        "title": "Ada",
        "body": "Grüße 👋",
        "data": {"conversationId": "c1", "deliveryId": str(sent.delivery_id)},
        "silent": False,
        "tag": "conv-1",
        "badge": 2,
    }
    told = {name: arrived.headers[name] for name in ("TTL", "Urgency", "Topic")}
    assert told == {"TTL": "60", "Urgency": "high", "Topic": "conv-1"}


async def test_what_shows_nothing_is_not_urgent(peer: WebPushPeer) -> None:
    sent = push(silent=True, ttl_s=0)
    async with sending(peer.environ()) as senders:
        await senders["webpush"].send(browser(peer), sent)

    arrived = peer.received[0]
    assert arrived.content == {"data": {"deliveryId": str(sent.delivery_id)}, "silent": True}
    told = {name: arrived.headers[name] for name in ("TTL", "Urgency", "Topic")}
    assert told == {"TTL": "0", "Urgency": "normal", "Topic": sent.delivery_id.hex}


async def test_a_key_too_long_for_a_topic_is_told_by_its_hash(peer: WebPushPeer) -> None:
    async with sending(peer.environ()) as senders:
        for key in ("x" * 33, "ü"):
            await senders["webpush"].send(browser(peer), push(collapse_key=key))

    topics = [arrived.headers["Topic"] for arrived in peer.received]
    assert len(set(topics)) == 2
    assert {len(topic) for topic in topics} == {32}


async def test_nothing_repeats_in_what_is_on_the_wire(peer: WebPushPeer) -> None:
    """Goal: key and salt are those of one message alone."""
    bodies: list[bytes] = []

    async def keep(_: aiohttp.ClientSession, __: Any, params: Any) -> None:
        bodies.append(params.chunk)

    trace = aiohttp.TraceConfig()
    trace.on_request_chunk_sent.append(keep)
    settings = from_env(peer.environ()).push
    vapid = Vapid(read_vapid_key(settings.webpush_vapid_key), "mailto:a@b", SystemClock())
    async with aiohttp.ClientSession(trace_configs=[trace]) as session:
        sender = WebPushSender(session, vapid, settings, clock=SystemClock())
        sent = push()
        for _ in range(2):
            await sender.send(browser(peer), sent)

    assert len(bodies) == 2
    assert bodies[0][:16] != bodies[1][:16]
    assert bodies[0][21:86] != bodies[1][21:86]


async def test_the_longest_body_fills_what_is_allowed_and_no_more(peer: WebPushPeer) -> None:
    async with sending(peer.environ()) as senders:
        answer = await senders["webpush"].send(browser(peer), push(body=FAMILY * 500))

    assert answer.kind is Kind.SENT
    arrived = peer.received[0]
    assert 4_000 < int(arrived.headers["Content-Length"]) <= 4_096
    body = arrived.content["body"]
    assert body == FAMILY * body.count(FAMILY) + "…"


async def test_what_is_too_large_is_shortened_once(peer: WebPushPeer) -> None:
    peer.body_bytes_max = 2_500
    async with sending(peer.environ()) as senders:
        answer = await senders["webpush"].send(browser(peer), push(body=FAMILY * 500))
        peer.body_bytes_max = 100
        hopeless = await senders["webpush"].send(browser(peer), push(body=FAMILY * 500))

    assert answer.kind is Kind.SENT
    assert hopeless == Answer(Kind.REFUSED, "http-413")
    assert peer.asked == 4


@pytest.mark.parametrize(
    ("step", "kind", "code", "wait_ms"),
    [
        (Refuse(404), Kind.TARGET_GONE, "http-404", 0),
        (Refuse(410), Kind.TARGET_GONE, "http-410", 0),
        (Refuse(400), Kind.REFUSED, "http-400", 0),
        (Refuse(429, {"Retry-After": "7"}), Kind.LIMITED, "http-429", 7_000),
        (Refuse(429), Kind.LIMITED, "http-429", 60_000),
        (Refuse(500), Kind.LATER, "http-500", 0),
        (Refuse(503, {"Retry-After": "9"}), Kind.LATER, "http-503", 9_000),
        (Refuse(307, {"Location": "http://127.0.0.1:1/"}), Kind.REFUSED, "http-307", 0),
        ("close", Kind.LATER, "connection", 0),
    ],
)
async def test_a_row_of_the_table_over_the_wire(
    peer: WebPushPeer, step: Any, kind: Kind, code: str, wait_ms: int
) -> None:
    peer.answers.append(step)
    async with sending(peer.environ()) as senders:
        answer = await senders["webpush"].send(browser(peer), push())

    assert (answer.kind, answer.code, answer.retry_after_ms) == (kind, code, wait_ms)
    assert peer.asked == 1


async def test_silence_is_an_answer_within_the_time_limit(peer: WebPushPeer) -> None:
    peer.answers.append("hang")
    async with sending(peer.environ(), webpush_timeout_ms=100) as senders:
        assert await senders["webpush"].send(browser(peer), push()) == Answer(Kind.LATER, "timeout")


async def test_a_subscription_for_another_key_is_gone_but_many_are_our_key(
    peer: WebPushPeer,
) -> None:
    other = peer.environ() | {"PROCESSORS_PUSH_WEBPUSH_VAPID_KEY": encoded(bytes([7] * 32))}
    async with sending(other, surge_targets=3) as senders:
        kinds = [(await senders["webpush"].send(browser(peer), push())).kind for _ in range(4)]

    gone, wrong = Kind.TARGET_GONE, Kind.MISCONFIGURED
    assert kinds == [gone, gone, wrong, wrong]


async def test_one_signature_serves_a_service_for_hours_but_not_for_ever(
    peer: WebPushPeer,
) -> None:
    clock = ManualClock()
    async with sending(peer.environ(), clock=clock) as senders:
        for wait_s in (0, 35_000, 2_000):
            clock.move(wait_s)
            await senders["webpush"].send(browser(peer), push())

    first, second, third = (arrived.headers["Authorization"] for arrived in peer.received)
    assert first == second
    assert second != third


@pytest.mark.parametrize(
    "keys",
    [{}, {"p256dh": "AAAA", "auth": "AAAA"}, {"p256dh": "?", "auth": "?"},
     {"p256dh": public_keys("ada")["p256dh"], "auth": "AAAA"}],
)  # fmt: skip
async def test_a_subscription_without_usable_keys_is_gone(
    peer: WebPushPeer, keys: dict[str, str]
) -> None:
    async with sending(peer.environ()) as senders:
        answer = await senders["webpush"].send(browser(peer, keys=keys), push())

    assert answer == Answer(Kind.TARGET_GONE, "bad-keys")
    assert peer.asked == 0


async def test_this_machine_is_not_asked_unless_that_is_allowed(peer: WebPushPeer) -> None:
    async with sending(peer.environ(), webpush_allow_loopback="false") as senders:
        plain = await senders["webpush"].send(browser(peer), push())
        endpoint = peer.endpoint("ada").replace("http:", "https:").replace(f":{peer.port}", "")
        secure = await senders["webpush"].send(browser(peer, token=endpoint), push())

    assert plain == Answer(Kind.TARGET_GONE, "endpoint-scheme")
    assert secure == Answer(Kind.REFUSED, "endpoint-host")
    assert peer.asked == 0


class Names(AbstractResolver):
    """A resolver whose every name leads to these addresses."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=0)
            for address in self.addresses
        ]

    async def close(self) -> None:
        pass


async def test_a_listed_name_that_leads_inward_is_not_connected_to(unused_port: int) -> None:
    """Goal: the address that is looked at is the one that is connected to, or none is."""
    connected: list[object] = []

    async def take(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.append(writer)
        writer.close()

    settings = from_env(
        {
            "PROCESSORS_PUSH_WEBPUSH_VAPID_KEY": encoded(bytes([7] * 32)),
            "PROCESSORS_PUSH_WEBPUSH_SUBJECT": "mailto:a@b",
            "PROCESSORS_PUSH_WEBPUSH_HOSTS": "push.example",
        }
    ).push
    resolver = PublicResolver(allow_loopback=False, inner=Names("127.0.0.1"))
    vapid = Vapid(read_vapid_key(settings.webpush_vapid_key), "mailto:a@b", SystemClock())
    rewired = aiohttp.TCPConnector(resolver=resolver)
    async with (
        await asyncio.start_server(take, "127.0.0.1", unused_port),
        aiohttp.ClientSession(connector=rewired) as session,
    ):
        # Even at the port where somebody listens.
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get(f"http://push.example:{unused_port}/")
        sender = WebPushSender(session, vapid, settings, clock=SystemClock())
        answer = await sender.send(
            PushTarget(
                id=target("webpush").id,
                provider="webpush",
                kind="subscription",
                token="https://push.example/x",
                keys=public_keys("ada"),
            ),
            Push(delivery_id=target("webpush").id, title="t"),
        )

    assert answer == Answer(Kind.LATER, "unreachable")
    assert connected == []


async def test_of_many_addresses_the_public_ones_are_used() -> None:
    inner = Names("10.0.0.1", "142.250.1.95", "::1", "169.254.169.254")

    found = await PublicResolver(allow_loopback=False, inner=inner).resolve("push.example", 443)

    assert [each["host"] for each in found] == ["142.250.1.95"]


@pytest.mark.parametrize("form", ["pem", "raw"])
def test_a_key_is_read_in_both_forms(form: str) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    raw = encoded(key.private_numbers().private_value.to_bytes(32))

    found = read_vapid_key(pem if form == "pem" else raw)

    assert found.private_numbers() == key.private_numbers()


@pytest.mark.parametrize("text", ["secret nonsense", "AAAA", encoded(bytes(32)), "BEGIN secret"])
def test_a_key_that_is_none_is_told_without_it(text: str) -> None:
    with pytest.raises(ConfigurationError, match="openssl ecparam") as caught:
        read_vapid_key(text)
    assert "secret n" not in str(caught.value)


def test_a_key_without_a_subject_is_told() -> None:
    with pytest.raises(ConfigurationError, match="WEBPUSH_SUBJECT"):
        from_env({"PROCESSORS_PUSH_WEBPUSH_VAPID_KEY": "x"})

"""Pushes to Apple over HTTP/2, against a peer that has Apple's bad days."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from engine import SystemClock
from engine.testing import ManualClock
from processors.errors import ConfigurationError
from processors.rules.answers import Kind
from processors.senders.apns import ApnsSender, payload
from processors.senders.apple import collapse_id
from processors.senders.base import Push, PushTarget
from processors.settings import from_env
from tests.peers.apns import TOPIC, ApnsPeer, Pushed, Reply, apns_peer


def target(token: str = "a1b2", **fields: Any) -> PushTarget:
    return PushTarget(id=uuid4(), provider="apns", kind="token", token=token, **fields)


def push(**fields: Any) -> Push:
    return Push(delivery_id=uuid4(), **({"title": "Ada", "body": "hello"} | fields))


@asynccontextmanager
async def sending(
    directory: Path, *, clock: Any = None, settings: dict[str, str] | None = None, **options: Any
) -> AsyncIterator[tuple[ApnsPeer, ApnsSender]]:
    async with apns_peer(directory, **options) as peer:
        made = from_env(peer.environ() | (settings or {})).push
        sender = ApnsSender(made, clock or SystemClock())
        try:
            yield peer, sender
        finally:
            await sender.close()


async def test_a_push_arrives_as_apple_wants_it(tmp_path: Path) -> None:
    async with sending(tmp_path) as (peer, sender):
        sent = push(badge=3, data={"conversationId": "c"}, collapse_key="k", ttl_s=60)
        answer = await sender.send(target("f00d"), sent)
        silent = await sender.send(target(), push(silent=True, badge=0, ttl_s=0))

    assert answer.kind is silent.kind is Kind.SENT
    assert answer.provider_id == str(sent.delivery_id)
    first, second = peer.accepted
    assert first.token == "f00d"
    assert first.payload["aps"]["alert"] == {"title": "Ada", "body": "hello"}
    assert (first.payload["conversationId"], first.payload["aps"]["badge"]) == ("c", 3)
    told = {name: first.headers[name] for name in ("apns-topic", "apns-priority", "apns-push-type")}
    assert told == {"apns-topic": TOPIC, "apns-priority": "10", "apns-push-type": "alert"}
    assert first.headers["apns-collapse-id"] == "k"
    assert first.payload["deliveryId"] == first.headers["apns-id"] == str(sent.delivery_id)
    # A background push may not set a badge.
    assert second.payload["aps"] == {"badge": 0}
    assert second.headers["apns-push-type"] == "alert"
    assert second.headers["apns-collapse-id"] == second.headers["apns-id"]
    assert (second.headers["apns-priority"], second.headers["apns-expiration"]) == ("5", "0")


@pytest.mark.parametrize("split", [0, 7])
async def test_every_push_of_many_arrives_while_connections_end_in_good_order(
    tmp_path: Path, split: int
) -> None:
    """
    Goal: 2,000 pushes, 200 at a time, over connections that Apple ends every 100 requests, all
    arrive, and each caller gets one answer.
    """
    many = 2_000 if not split else 300
    async with sending(tmp_path, goaway_every=100, split=split) as (peer, sender):
        room = asyncio.Semaphore(200)

        async def one(number: int) -> Kind:
            async with room:
                return (await sender.send(target(f"{number:08x}"), push())).kind

        kinds = Counter(await asyncio.gather(*(one(number) for number in range(many))))

    assert kinds == {Kind.SENT: many}
    arrived = Counter(pushed.token for pushed in peer.accepted)
    assert arrived == Counter(f"{number:08x}" for number in range(many))
    assert peer.connections >= many // 100


async def test_one_request_alone_until_a_token_was_accepted(tmp_path: Path) -> None:
    """Goal: Apple allows one stream, then a thousand; no request is refused on the way."""
    async with sending(tmp_path, streams_first=1) as (peer, sender):
        answers = await asyncio.gather(*(sender.send(target(), push()) for _ in range(50)))

    assert {answer.kind for answer in answers} == {Kind.SENT}
    assert peer.connections == 1
    assert len(peer.seen) == 50


async def test_a_refused_stream_goes_out_again(tmp_path: Path) -> None:
    refused = iter([True, True])

    def answer(_: Pushed) -> Reply:
        return Reply(act="refuse") if next(refused, False) else Reply()

    async with sending(tmp_path, answer=answer) as (peer, sender):
        assert (await sender.send(target(), push())).kind is Kind.SENT

    assert (len(peer.seen), len(peer.accepted)) == (3, 1)


@pytest.mark.parametrize("act", ["reset", "hang_up", "silent"])
async def test_without_an_answer_it_is_for_later(tmp_path: Path, act: Any) -> None:
    """Goal: whatever the peer does, the request ends, and the next one is served."""
    acts = iter([Reply(act=act)])
    quick = {"PROCESSORS_PUSH_APNS_TIMEOUT_MS": "400", "PROCESSORS_PUSH_APNS_PING_MS": "100"}

    async with sending(tmp_path, answer=lambda _: next(acts, Reply()), settings=quick) as (
        _,
        sender,
    ):
        lost = await sender.send(target(), push())
        good = await sender.send(target(), push())

    assert (lost.kind, lost.code, lost.scope) == (Kind.LATER, "lost", "provider")
    assert good.kind is Kind.SENT


async def test_nobody_there_is_for_later(tmp_path: Path, unused_port: int) -> None:
    away = {"PROCESSORS_PUSH_APNS_URL": f"https://localhost:{unused_port}"}
    async with sending(tmp_path, settings=away) as (_, sender):
        answer = await sender.send(target(), push())

    assert (answer.kind, answer.code) == (Kind.LATER, "unsent")


async def test_a_server_that_is_no_http2_is_for_later(tmp_path: Path) -> None:
    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1") as server:
        port = server.sockets[0].getsockname()[1]
        plain = {"PROCESSORS_PUSH_APNS_URL": f"http://127.0.0.1:{port}"}
        async with sending(tmp_path, settings=plain) as (_, sender):
            answer = await sender.send(target(), push())

    assert answer.kind is Kind.LATER


async def test_an_expired_token_is_signed_anew_once(tmp_path: Path) -> None:
    clock = ManualClock(now_ms=(SystemClock().now_ms() - 1_500_000))
    async with sending(tmp_path, clock=clock, token_age_s_max=1_400) as (peer, sender):
        await clock.advance(1_500_000 / 1000)
        answer = await sender.send(target(), push())

    assert answer.kind is Kind.SENT
    assert len(peer.seen) == 2


async def test_a_young_token_that_is_refused_is_not_signed_again(tmp_path: Path) -> None:
    """Goal: Apple bars keys whose token changes more than once in 20 minutes."""
    async with sending(tmp_path, token_age_s_max=-1) as (peer, sender):
        answers = [await sender.send(target(), push()) for _ in range(3)]

    assert {answer.code for answer in answers} == {"ExpiredProviderToken"}
    assert {answer.kind for answer in answers} == {Kind.MISCONFIGURED}
    assert len({pushed.headers["authorization"] for pushed in peer.seen}) == 1


async def test_a_long_text_is_cut_to_fit_and_again_where_apple_wants_less(tmp_path: Path) -> None:
    def answer(pushed: Pushed) -> Reply:
        fits = len(pushed.payload["aps"]["alert"]["body"]) < 1_500
        return Reply() if fits else Reply(413, "PayloadTooLarge")

    async with sending(tmp_path, answer=answer) as (peer, sender):
        sent = await sender.send(target(), push(body="é" * 5_000))
        hopeless = await sender.send(target(), push(title="x" * 5_000))

    assert sent.kind is Kind.SENT
    assert len(peer.seen) == 2
    assert peer.accepted[0].payload["aps"]["alert"]["body"].endswith("…")
    assert (hopeless.kind, hopeless.code) == (Kind.REFUSED, "PayloadTooLarge")


async def test_a_gone_device_says_since_when(tmp_path: Path) -> None:
    gone = Reply(410, body=b'{"reason":"Unregistered","timestamp":1700000000000}')
    async with sending(tmp_path, answer=lambda _: gone) as (_, sender):
        answer = await sender.send(target(), push())

    assert (answer.kind, answer.gone_since_ms) == (Kind.TARGET_GONE, 1_700_000_000_000)


async def test_many_bad_devices_in_a_row_are_the_set_up_s_fault(tmp_path: Path) -> None:
    bad = Reply(400, "BadDeviceToken")
    few = {"PROCESSORS_PUSH_SURGE_TARGETS": "3"}
    async with sending(tmp_path, answer=lambda _: bad, settings=few) as (_, sender):
        kinds = [(await sender.send(target(f"{n}"), push())).kind for n in range(4)]

    assert kinds == [Kind.TARGET_GONE, Kind.TARGET_GONE, Kind.MISCONFIGURED, Kind.MISCONFIGURED]


async def test_a_hint_to_fetch_is_a_background_push(tmp_path: Path) -> None:
    async with sending(tmp_path) as (peer, sender):
        await sender.send(target(), push(silent=True))

    assert peer.accepted[0].payload["aps"] == {"content-available": 1}
    assert peer.accepted[0].headers["apns-push-type"] == "background"


async def test_a_target_of_an_app_that_is_not_ours_is_refused_and_many_are_a_matter_of_settings(
    tmp_path: Path,
) -> None:
    few = {"PROCESSORS_PUSH_SURGE_TARGETS": "2"}
    async with sending(tmp_path, settings=few) as (peer, sender):
        others = [target(app_id="com.example.other") for _ in range(3)]
        before = [(await sender.send(other, push())).kind for other in others[:2]]
        await sender.send(target(app_id=TOPIC), push())
        after = await sender.send(others[2], push())

    assert before == [Kind.REFUSED, Kind.MISCONFIGURED]
    assert (after.kind, after.code) == (Kind.REFUSED, "UnknownTopic")
    assert len(peer.seen) == 1


async def test_nobody_waits_longer_for_the_first_token_than_for_an_answer(tmp_path: Path) -> None:
    """Goal: a silent server holds 50 requests for one time limit, not for 50."""
    quick = {"PROCESSORS_PUSH_APNS_TIMEOUT_MS": "300"}
    silent = Reply(act="silent")
    async with sending(tmp_path, answer=lambda _: silent, settings=quick) as (peer, sender):
        answers = await asyncio.gather(*(sender.send(target(), push()) for _ in range(50)))

    assert {answer.kind for answer in answers} == {Kind.LATER}
    # Within the one limit few can have had their turn: each turn takes all of it.
    assert len(peer.seen) <= 2


async def test_connections_may_end_more_often_than_a_request_takes_its_turn(
    tmp_path: Path,
) -> None:
    """Goal: requests that stand behind many others go out again as often as it takes."""
    async with sending(tmp_path, goaway_every=40) as (peer, sender):
        answers = await asyncio.gather(*(sender.send(target(), push()) for _ in range(400)))

    assert {answer.kind for answer in answers} == {Kind.SENT}
    assert len(peer.accepted) == 400


async def test_a_key_that_is_none_is_told_at_start(tmp_path: Path) -> None:
    async with apns_peer(tmp_path) as peer:
        made = from_env(peer.environ() | {"PROCESSORS_PUSH_APNS_KEY": "secret nonsense"}).push

        with pytest.raises(ConfigurationError, match=r"\.p8 file") as raised:
            ApnsSender(made, SystemClock())

    assert "nonsense" not in str(raised.value)


async def test_a_token_cannot_change_the_path(tmp_path: Path) -> None:
    async with sending(tmp_path) as (peer, sender):
        await sender.send(target("../../etc?x#y"), push())

    assert peer.seen[0].headers[":path"] == "/3/device/..%2F..%2Fetc%3Fx%23y"


def test_long_collapse_keys_are_told_by_their_hash() -> None:
    assert collapse_id(push(collapse_key="a b")) == "a b"
    assert len(collapse_id(push(collapse_key="ü" * 40))) == 64
    assert collapse_id(push(collapse_key="ü" * 40)) != collapse_id(push(collapse_key="ö" * 40))


def test_what_cannot_fit_has_no_payload() -> None:
    assert payload(Push(delivery_id=UUID(int=1), body="x" * 100), 10) is None

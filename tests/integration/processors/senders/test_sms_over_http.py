"""Texts go over a real HTTP API, and one whose fate is unknown is never sent twice."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from engine.testing import ManualClock
from processors.errors import ConfigurationError
from processors.rules.answers import Kind
from processors.senders.base import Sms
from processors.senders.sms import SmsApiSender, open_sms_sender
from processors.settings import from_env
from tests.peers.sms import SENDER, Refuse, SmsPeer, Text, by_number

pytestmark = pytest.mark.servers

ADA = "+14155550100"
GERMAN = "+491701234567"
TIMEOUT = {"timeout_ms": "1000"}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def peer(clock: ManualClock) -> AsyncIterator[SmsPeer]:
    def now() -> datetime:
        # To the second, as the API tells it.
        return datetime.fromtimestamp(clock.now_ms() // 1000, UTC)

    async with SmsPeer(now=now) as peer:
        yield peer


@asynccontextmanager
async def sender_to(
    peer: SmsPeer, clock: ManualClock, *, others: Collection[str] = (), **changed: str
) -> AsyncIterator[SmsApiSender]:
    async def of_others(ids: Sequence[str], delivery_id: UUID) -> Collection[str]:
        return set(others) & set(ids)

    variables = {f"PROCESSORS_SMS_{name.upper()}": value for name, value in changed.items()}
    settings = from_env(peer.environ() | variables).sms
    sender = open_sms_sender(settings, clock=clock, others=of_others)
    assert sender
    try:
        yield sender
    finally:
        await sender.close()


def sms(**changed: Any) -> Sms:
    fields: dict[str, Any] = {"delivery_id": uuid4(), "to": ADA, "text": "Bob: hello"}
    return Sms(**fields | changed)


def again(first: Sms, *, tried_ms: int, last_ms: int | None = None) -> Sms:
    """The next attempt at the same delivery."""
    return Sms(
        delivery_id=first.delivery_id,
        to=first.to,
        text=first.text,
        tried_from_ms=tried_ms,
        tried_until_ms=last_ms or tried_ms,
    )


async def test_a_text_is_taken(peer: SmsPeer, clock: ManualClock) -> None:
    one = sms()
    async with sender_to(peer, clock, webhook_url="https://chat.example/") as sender:
        answer = await sender.send(one)

    text = peer.texts[0]
    assert (answer.kind, answer.provider_id) == (Kind.SENT, text.sid)
    assert (text.to, text.sender, text.body) == (ADA, "+14155550199", "Bob: hello")
    assert text.callback == f"https://chat.example/webhooks/sms/status?delivery={one.delivery_id}"
    assert peer.listed == 0


async def test_a_messaging_service_may_choose_the_sender(peer: SmsPeer, clock: ManualClock) -> None:
    async with sender_to(peer, clock, sender="", messaging_service="MG1") as sender:
        await sender.send(sms())

    text = peer.texts[0]
    assert (text.sender, text.service, text.callback) == ("", "MG1", "")


async def test_a_text_costs_no_more_than_is_allowed(peer: SmsPeer, clock: ManualClock) -> None:
    async with sender_to(peer, clock, segments_max="1") as sender:
        shortened = await sender.send(sms(text="x" * 500))
    async with sender_to(peer, clock, segments_max="1", too_long="refuse") as sender:
        refused = await sender.send(sms(text="x" * 161))
        fitting = await sender.send(sms(text="x" * 160))

    assert [each.kind for each in (shortened, refused, fitting)] == [
        Kind.SENT,
        Kind.REFUSED,
        Kind.SENT,
    ]
    assert refused.code == "too-long"
    assert [text.body for text in peer.texts] == ["x" * 157 + "...", "x" * 160]


@pytest.mark.parametrize(
    ("changed", "kind", "code"),
    [
        ({"to": "0170 1234567"}, Kind.TARGET_GONE, "bad-number"),
        ({"to": "+1415"}, Kind.TARGET_GONE, "bad-number"),
        ({"to": "+1 415 555 0100"}, Kind.TARGET_GONE, "bad-number"),
        ({"to": "+999123456789"}, Kind.TARGET_GONE, "bad-number"),
        ({"to": ""}, Kind.TARGET_GONE, "bad-number"),
        ({"to": GERMAN}, Kind.REFUSED, "country-not-allowed"),
        ({"text": ""}, Kind.REFUSED, "empty-text"),
    ],
)
async def test_what_cannot_go_is_not_asked(
    peer: SmsPeer, clock: ManualClock, changed: dict[str, str], kind: Kind, code: str
) -> None:
    async with sender_to(peer, clock, countries="US,CA") as sender:
        answer = await sender.send(sms(**changed))

    assert (answer.kind, answer.code) == (kind, code)
    assert peer.asked == 0


async def test_any_country_is_written_to_where_none_is_named(
    peer: SmsPeer, clock: ManualClock
) -> None:
    async with sender_to(peer, clock) as sender:
        assert (await sender.send(sms(to=GERMAN))).kind is Kind.SENT


@pytest.mark.parametrize(
    ("refuse", "kind", "code", "retry_ms"),
    [
        (Refuse(400, 21610), Kind.TARGET_GONE, "21610", 0),
        (Refuse(400, 21211), Kind.TARGET_GONE, "21211", 0),
        (Refuse(400, 21602), Kind.REFUSED, "21602", 0),
        (Refuse(401, 20003), Kind.MISCONFIGURED, "20003", 0),
        (Refuse(404, 20404), Kind.MISCONFIGURED, "20404", 0),
        (Refuse(429, 20429, {"Retry-After": "7"}), Kind.LIMITED, "20429", 7_000),
        (Refuse(429, 20429), Kind.LIMITED, "20429", 60_000),
        (Refuse(503, 0, {"Retry-After": "3"}), Kind.LATER, "http-503", 3_000),
        (Refuse(503, 0, {}, b"<html>"), Kind.LATER, "http-503", 0),
        (Refuse(404, 0, {}, b"<html>"), Kind.MISCONFIGURED, "http-404", 0),
        (
            Refuse(302, 0, {"Location": "https://elsewhere.example/"}),
            Kind.MISCONFIGURED,
            "http-302",
            0,
        ),
        (Refuse(400, 0, {}, b'{"code": "a string"}'), Kind.REFUSED, "http-400", 0),
    ],
)
async def test_a_refusal_is_an_answer(
    peer: SmsPeer, clock: ManualClock, refuse: Refuse, kind: Kind, code: str, retry_ms: int
) -> None:
    peer.creating.append(refuse)
    async with sender_to(peer, clock) as sender:
        answer = await sender.send(sms())

    assert (answer.kind, answer.code, answer.retry_after_ms) == (kind, code, retry_ms)
    assert (peer.texts, peer.listed) == ([], 0)


async def test_a_number_may_choose_how_it_ends(peer: SmsPeer, clock: ManualClock) -> None:
    """Goal: whoever tries the peer by hand sees that somebody has sent STOP."""
    peer.rule = by_number
    async with sender_to(peer, clock) as sender:
        stopped = await sender.send(sms(to="+14155550009"))
        taken = await sender.send(sms())

    assert (stopped.kind, stopped.code, taken.kind) == (Kind.TARGET_GONE, "21610", Kind.SENT)


async def test_a_wrong_secret(peer: SmsPeer, clock: ManualClock) -> None:
    async with sender_to(peer, clock, auth_token="another token altogether") as sender:
        answer = await sender.send(sms())

    assert (answer.kind, answer.code) == (Kind.MISCONFIGURED, "20003")


async def test_nobody_listens(peer: SmsPeer, clock: ManualClock, unused_port: int) -> None:
    """Goal: what never left is tried again without a question."""
    async with sender_to(peer, clock, url=f"http://127.0.0.1:{unused_port}") as sender:
        answer = await sender.send(sms())

    assert (answer.kind, answer.code) == (Kind.LATER, "unreachable")


@pytest.mark.parametrize("trouble", ["hang-after", "close-after"])
async def test_a_text_that_was_taken_without_an_answer_is_found(
    peer: SmsPeer, clock: ManualClock, trouble: Any
) -> None:
    peer.creating.append(trouble)
    async with sender_to(peer, clock, **TIMEOUT) as sender:
        answer = await sender.send(sms())

    assert (answer.kind, answer.provider_id) == (Kind.SENT, peer.texts[0].sid)
    assert (peer.asked, peer.listed) == (1, 1)


@pytest.mark.parametrize("refuse", [Refuse(500, 20500), Refuse(502, 0, {}, b"<html>"), Refuse(504)])
async def test_an_error_of_the_provider_does_not_say_that_it_has_not_got_it(
    peer: SmsPeer, clock: ManualClock, refuse: Refuse
) -> None:
    peer.creating.append(refuse)
    async with sender_to(peer, clock) as sender:
        answer = await sender.send(sms())

    assert (answer.kind, answer.code) == (Kind.UNKNOWN, "not-found")
    assert answer.retry_after_ms == 60_000
    assert peer.listed == 1


@pytest.mark.parametrize("trouble", ["hang-before", "close-before"])
async def test_a_text_that_was_not_taken_is_sent_once_that_is_certain(
    peer: SmsPeer, clock: ManualClock, trouble: Any
) -> None:
    peer.creating.append(trouble)
    one = sms()
    started_ms = clock.now_ms()
    async with sender_to(peer, clock, **TIMEOUT) as sender:
        unknown = await sender.send(one)
        await clock.advance(30)
        early = await sender.send(again(one, tried_ms=started_ms))
        asked_early = peer.asked
        await clock.advance(31)
        sent = await sender.send(again(one, tried_ms=started_ms))

    assert (unknown.kind, unknown.retry_after_ms) == (Kind.UNKNOWN, 60_000)
    assert (early.kind, early.retry_after_ms, asked_early) == (Kind.UNKNOWN, 30_000, 1)
    assert (sent.kind, sent.provider_id) == (Kind.SENT, peer.texts[0].sid)
    assert len(peer.texts) == 1


async def test_a_text_that_shows_up_late_is_found_by_the_next_attempt(
    peer: SmsPeer, clock: ManualClock
) -> None:
    """Goal: the provider took it, answers nothing and does not list it yet."""
    peer.creating.append("hide")
    one = sms()
    started_ms = clock.now_ms()
    async with sender_to(peer, clock, **TIMEOUT) as sender:
        unknown = await sender.send(one)
        peer.reveal()
        await clock.advance(unknown.retry_after_ms / 1000)
        found = await sender.send(again(one, tried_ms=started_ms))

    assert (unknown.kind, unknown.code) == (Kind.UNKNOWN, "not-found")
    assert (found.kind, found.provider_id) == (Kind.SENT, peer.texts[0].sid)
    assert (len(peer.texts), peer.asked) == (1, 1)


@pytest.mark.parametrize(
    "trouble",
    ["hang-before", "close-before", Refuse(500), Refuse(200, 0, {}, b"<html>"), Refuse(429)],
)
async def test_who_cannot_be_asked_is_not_sent_to(
    peer: SmsPeer, clock: ManualClock, trouble: Any
) -> None:
    peer.creating.append("hang-after")
    peer.listing.extend([trouble] * 9)
    one = sms()
    started_ms = clock.now_ms()
    async with sender_to(peer, clock, **TIMEOUT) as sender:
        unknown = await sender.send(one)
        await clock.advance(3_600)
        still = await sender.send(again(one, tried_ms=started_ms))
        peer.listing.clear()
        found = await sender.send(again(one, tried_ms=started_ms))

    assert (unknown.kind, unknown.code) == (Kind.UNKNOWN, "not-answered")
    assert (still.kind, still.code) == (Kind.UNKNOWN, "not-answered")
    assert found.kind is Kind.SENT
    assert (len(peer.texts), peer.asked) == (1, 1)


async def test_an_attempt_before_the_last_one_is_found_as_well(
    peer: SmsPeer, clock: ManualClock
) -> None:
    """Goal: the second attempt died before it could ask, and the first had got through."""
    peer.creating.append("hang-after")
    one = sms()
    first_ms = clock.now_ms()
    async with sender_to(peer, clock, **TIMEOUT) as sender:
        await sender.send(one)
        await clock.advance(1_000)
        found = await sender.send(again(one, tried_ms=first_ms, last_ms=clock.now_ms()))

    assert found.kind is Kind.SENT
    assert peer.asked == 1


def listed(peer: SmsPeer, body: str, **changed: Any) -> Text:
    """A text that the provider has."""
    fields: dict[str, Any] = {"sid": f"SMold{len(peer.texts)}", "to": ADA, "sender": SENDER}
    text = Text(**fields | {"body": body, "created": peer.now(), "callback": ""} | changed)
    peer.texts.append(text)
    return text


async def test_what_others_sent_to_the_number_does_not_count(
    peer: SmsPeer, clock: ManualClock
) -> None:
    """Goal: texts that cannot be this one's earlier attempt do not keep it from being sent."""
    long_ago = peer.now() - timedelta(seconds=121)
    listed(peer, "Bob: hello", to=GERMAN)
    listed(peer, "Bob: hello", created=long_ago)
    listed(peer, "Bob: hello", direction="inbound", sender=ADA)
    listed(peer, "Bob: hello", sender="+14155550111")
    listed(peer, "Bob: hello", sid="SMother")
    listed(peer, "Eve: hello", sid="SMthird")
    async with sender_to(peer, clock, others=["SMother", "SMthird"]) as sender:
        sent = await sender.send(again(sms(), tried_ms=clock.now_ms() - 60_000))

    assert (sent.kind, sent.provider_id) == (Kind.SENT, peer.texts[-1].sid)
    assert peer.asked == 1


async def test_a_text_of_ours_that_nobody_knows_leaves_it_open(
    peer: SmsPeer, clock: ManualClock
) -> None:
    """Goal: what it says was changed after the first attempt, which got through."""
    listed(peer, "Bob: hullo")
    async with sender_to(peer, clock) as sender:
        answer = await sender.send(again(sms(), tried_ms=clock.now_ms() - 60_000))

    assert (answer.kind, answer.code) == (Kind.UNKNOWN, "not-certain")
    assert (answer.retry_after_ms, peer.asked) == (60_000, 0)


async def test_a_messaging_service_s_texts_are_ours(peer: SmsPeer, clock: ManualClock) -> None:
    listed(peer, "Bob: hello", sender="+1", service="MG2")
    mine = listed(peer, "Bob: hello", sender="+1", service="MG1")
    async with sender_to(peer, clock, sender="", messaging_service="MG1") as sender:
        answer = await sender.send(again(sms(), tried_ms=clock.now_ms()))

    assert (answer.kind, answer.provider_id) == (Kind.SENT, mine.sid)


@pytest.mark.parametrize(
    "body", ["Sent from your Twilio trial account - “Hi” – you…", '"Hi" - you...', "“Hi” – you… "]
)
async def test_a_text_is_known_again_though_the_provider_changed_it(
    peer: SmsPeer, clock: ManualClock, body: str
) -> None:
    listed(peer, body, sid="SM7")
    async with sender_to(peer, clock) as sender:
        answer = await sender.send(again(sms(text="“Hi” – you…"), tried_ms=clock.now_ms()))

    assert (answer.kind, answer.provider_id, peer.asked) == (Kind.SENT, "SM7", 0)


async def test_a_text_on_a_later_page_is_found(peer: SmsPeer, clock: ManualClock) -> None:
    peer.page_texts = 2
    listed(peer, "Bob: hello", sid="SM7")
    for number in range(5):
        peer.texts.append(
            Text(f"SMx{number}", ADA, "x", "else", peer.now() + timedelta(seconds=1), "")
        )
    async with sender_to(peer, clock) as sender:
        answer = await sender.send(again(sms(), tried_ms=clock.now_ms()))

    assert (answer.kind, answer.provider_id, peer.listed) == (Kind.SENT, "SM7", 3)


async def test_pages_that_do_not_end_leave_it_unknown(peer: SmsPeer, clock: ManualClock) -> None:
    peer.page_texts = 1
    for _ in range(9):
        listed(peer, "else")
    async with sender_to(peer, clock) as sender:
        answer = await sender.send(again(sms(), tried_ms=clock.now_ms() - 3_600_000))

    assert (answer.kind, peer.listed, peer.asked) == (Kind.UNKNOWN, 5, 0)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        ("delivered", None, Kind.SENT),
        ("failed", 30007, Kind.REFUSED),
        ("undelivered", 30005, Kind.TARGET_GONE),
        ("failed", 21610, Kind.TARGET_GONE),
    ],
)
async def test_a_text_that_is_found_may_have_ended(
    peer: SmsPeer, clock: ManualClock, status: str, code: int | None, kind: Kind
) -> None:
    listed(peer, "Bob: hello", sid="SM7", status=status, error_code=code)
    async with sender_to(peer, clock) as sender:
        answer = await sender.send(again(sms(), tried_ms=clock.now_ms()))

    assert (answer.kind, answer.provider_id) == (kind, "SM7")


async def test_an_answer_that_says_yes_and_nothing_else_is_believed(
    peer: SmsPeer, clock: ManualClock
) -> None:
    peer.creating.append(Refuse(201, 0, {}, b"<html>"))
    async with sender_to(peer, clock) as sender:
        answer = await sender.send(sms())

    assert (answer.kind, answer.provider_id) == (Kind.SENT, "")


async def test_a_sender_that_is_given_up_leaves_nothing_open(
    peer: SmsPeer, clock: ManualClock
) -> None:
    peer.creating.append("hang-after")
    async with sender_to(peer, clock) as sender:
        taken = asyncio.Event()
        peer.on_arrival = lambda _: taken.set()
        task = asyncio.create_task(sender.send(sms()))
        await taken.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await sender.send(sms(text="next"))).kind is Kind.SENT


async def nobody(ids: Sequence[str], delivery_id: UUID) -> Collection[str]:
    return ()


def test_no_account_no_sender() -> None:
    assert open_sms_sender(from_env({}).sms, others=nobody) is None


def test_a_country_that_is_none_is_told_at_the_start(peer: SmsPeer) -> None:
    settings = from_env(peer.environ() | {"PROCESSORS_SMS_COUNTRIES": "DE,XX"}).sms

    with pytest.raises(ConfigurationError, match="XX"):
        open_sms_sender(settings, others=nobody)


def test_what_is_secret_is_not_shown() -> None:
    shown = repr(sms(to=ADA, text="code 1234"))

    assert not re.search(r"1234|555", shown)

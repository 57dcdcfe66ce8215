"""What others call: only whom we know is believed, and what they say becomes a job."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections.abc import AsyncIterator, Sequence
from typing import Any
from urllib.parse import urlencode
from uuid import UUID, uuid4

import aiohttp
import msgspec
import pytest
import redis
from aiohttp import web

from engine import Client
from processors.errors import DatabaseUnavailable, Refused
from processors.realtime import webhooks as webhooks_module
from processors.realtime.webhooks import BODY_BYTES_MAX, webhooks
from processors.rules.addresses import address_hash
from processors.rules.sms_answers import signature
from processors.rules.unsubscribe import Unsubscribe, unsubscribe_url
from processors.senders.base import Sms
from processors.senders.sms import open_sms_sender
from processors.settings import ProcessorSettings, from_env
from schemas.messages import Notification, RecordStatus
from tests.peers.sms import TOKEN, SmsPeer

pytestmark = pytest.mark.servers

ADA = "+14155550100"
ADA_HASH = address_hash("sms", ADA).hex()
KEYS = "first key of enough length\nan older key, long too"
PUBLIC = "https://chat.example/hooks"


class Site:
    """The webhooks, served; and what came of calls."""

    def __init__(self, redis_url: str, **changed: str) -> None:
        self.redis_url = redis_url
        self.settings: ProcessorSettings = from_env(
            {
                "PROCESSORS_SMS_ACCOUNT_SID": "AC1",
                "PROCESSORS_SMS_AUTH_TOKEN": TOKEN,
                "PROCESSORS_SMS_SENDER": "+14155550199",
                "PROCESSORS_SMS_WEBHOOK_URL": PUBLIC,
                "PROCESSORS_EMAIL_UNSUBSCRIBE_URL": PUBLIC,
                "PROCESSORS_EMAIL_UNSUBSCRIBE_KEYS": KEYS.replace(" ", "-"),
                **changed,
            }
        )
        self.wishes: list[Unsubscribe] = []
        self.trouble: Exception | None = None

    async def unsubscribe(self, wish: Unsubscribe) -> None:
        if self.trouble:
            raise self.trouble
        self.wishes.append(wish)

    async def start(self, port: int = 0) -> None:
        self.producer = Client(self.redis_url, give_up_s=1.0)
        app = webhooks(self.settings, producer=self.producer, unsubscribe=self.unsubscribe)
        outer = web.Application()
        outer.add_subapp("/hooks", app)
        self.runner = web.AppRunner(outer)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", port).start()
        self.url = f"http://127.0.0.1:{self.runner.addresses[0][1]}/hooks"
        self.session = aiohttp.ClientSession()

    async def stop(self) -> None:
        await self.session.close()
        await self.runner.cleanup()
        await self.producer.close()

    async def tell(
        self, path: str, fields: dict[str, str], *, token: str = TOKEN, body: bytes | None = None
    ) -> tuple[int, str]:
        """Call as the provider does: signed for the public address."""
        headers = {
            "X-Twilio-Signature": signature(f"{PUBLIC}{path}", fields.items(), token),
            "Content-Type": "application/x-www-form-urlencoded",
        }
        data = urlencode(fields).encode() if body is None else body
        async with self.session.post(self.url + path, data=data, headers=headers) as response:
            return response.status, await response.text()

    def jobs(self) -> list[RecordStatus]:
        """Return the payloads of the jobs so far, as handlers get them."""
        payloads = [
            msgspec.json.decode(fields[b"data"], type=Notification) for fields in self.entries()
        ]
        assert all(isinstance(each, RecordStatus) for each in payloads)
        return payloads

    def entries(self) -> list[dict[bytes, bytes]]:
        """Return the jobs so far as they stand in the queue."""
        with redis.Redis.from_url(self.redis_url) as client:
            found: Any = client.xrange("mq:{notification}:normal")
        assert all(fields[b"type"] == b"notification" for _, fields in found)
        return [fields for _, fields in found]


@pytest.fixture
async def site(redis_url: str) -> AsyncIterator[Site]:
    site = Site(redis_url)
    await site.start()
    yield site
    await site.stop()


async def test_the_end_of_a_text_becomes_a_job(site: Site) -> None:
    delivery = uuid4()
    path = f"/webhooks/sms/status?delivery={delivery}"
    fields = {"MessageSid": "SM1", "MessageStatus": "delivered", "To": ADA}

    assert await site.tell(path, fields) == (204, "")
    assert site.jobs() == [
        RecordStatus(
            channel="sms",
            state="delivered",
            provider_id="SM1",
            delivery_id=delivery,
            code="delivered",
        )
    ]


@pytest.mark.parametrize("state", ["queued", "sending", "sent", "something new"])
async def test_a_text_on_its_way_is_no_news(site: Site, state: str) -> None:
    fields = {"MessageSid": "SM1", "MessageStatus": state, "To": ADA}

    assert (await site.tell("/webhooks/sms/status", fields))[0] == 204
    assert site.jobs() == []


@pytest.mark.parametrize(
    ("code", "state", "hashed"),
    [("30003", "failed", None), ("30005", "bounced", ADA_HASH), ("21610", "stopped", ADA_HASH)],
)
async def test_a_failure_names_the_number_only_where_it_is_to_blame(
    site: Site, code: str, state: str, hashed: str | None
) -> None:
    fields = {"MessageSid": "SM1", "MessageStatus": "undelivered", "To": ADA, "ErrorCode": code}

    await site.tell("/webhooks/sms/status", fields)

    assert [(job.state, job.code, job.address_hash) for job in site.jobs()] == [
        (state, code, hashed)
    ]


async def test_news_that_is_told_twice_is_one_job(site: Site) -> None:
    """Goal: the engine folds what has the same id."""
    fields = {"MessageSid": "SM1", "MessageStatus": "delivered", "To": ADA}
    for _ in range(3):
        assert (await site.tell("/webhooks/sms/status", fields))[0] == 204

    assert {entry[b"id"] for entry in site.entries()} == {b"sms-SM1-delivered"}


async def test_a_delivery_that_is_no_id_is_left_out(site: Site) -> None:
    fields = {"MessageSid": "SM1", "MessageStatus": "delivered"}

    await site.tell("/webhooks/sms/status?delivery=../../etc", fields)

    assert [(job.delivery_id, job.provider_id) for job in site.jobs()] == [(None, "SM1")]


@pytest.mark.parametrize(
    ("body", "kind", "state"),
    [("STOP", "", "stopped"), ("Arrêt", "STOP", "stopped"), ("start", "", "started")],
)
async def test_a_recipient_says_stop_or_start(site: Site, body: str, kind: str, state: str) -> None:
    fields = {"MessageSid": "SM9", "From": ADA, "Body": body, "OptOutType": kind}

    status, text = await site.tell("/webhooks/sms/inbound", fields)

    assert (status, text) == (200, '<?xml version="1.0" encoding="UTF-8"?><Response/>')
    assert site.jobs() == [
        RecordStatus(channel="sms", state=state, address_hash=ADA_HASH, code=state)  # type: ignore[arg-type]
    ]


@pytest.mark.parametrize("body", ["hello", "", "HELP", "please stop"])
async def test_what_else_a_recipient_says_is_nobody_s_business(site: Site, body: str) -> None:
    fields = {"MessageSid": "SM9", "From": ADA, "Body": body}

    assert (await site.tell("/webhooks/sms/inbound", fields))[0] == 200
    assert site.jobs() == []


@pytest.mark.parametrize("path", ["/webhooks/sms/status", "/webhooks/sms/inbound"])
async def test_a_stranger_is_refused(site: Site, path: str) -> None:
    """Goal: a request that is not signed, or signed for something else, does nothing."""
    fields = {"MessageSid": "SM1", "MessageStatus": "delivered", "From": ADA, "Body": "STOP"}

    assert (await site.tell(path, fields, token="guessed"))[0] == 403
    other = urlencode(fields | {"Body": "START"}).encode()
    assert (await site.tell(path, fields, body=other))[0] == 403
    async with site.session.post(f"{site.url}{path}", data=fields) as response:
        assert response.status == 403
    signed = {"X-Twilio-Signature": signature(f"{PUBLIC}{path}", fields.items(), TOKEN)}
    async with site.session.post(
        f"{site.url}{path}?delivery={uuid4()}", data=fields, headers=signed
    ) as response:
        assert response.status == 403
    async with site.session.get(f"{site.url}{path}") as response:
        assert response.status == 405
    assert site.jobs() == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"x" * (BODY_BYTES_MAX + 1), 413),
        (b"&".join([b"a=b"] * 201), 400),
        (b"a=%ff%fe", 400),
        ("a=ü".encode(), 400),
        (b"", 403),
    ],
)
async def test_a_body_that_cannot_be_read_is_refused(site: Site, body: bytes, status: int) -> None:
    assert (await site.tell("/webhooks/sms/status", {}, body=body, token="x"))[0] == status


async def test_a_body_that_does_not_come_is_not_waited_for(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks_module, "BODY_S_MAX", 0.05)

    async def drip() -> AsyncIterator[bytes]:
        yield b"MessageSid="
        await asyncio.Event().wait()

    async with site.session.post(f"{site.url}/webhooks/sms/status", data=drip()) as response:
        assert response.status == 408


async def test_a_secret_that_is_being_replaced_is_still_good(redis_url: str) -> None:
    site = Site(
        redis_url, PROCESSORS_SMS_AUTH_TOKEN="the next", PROCESSORS_SMS_AUTH_TOKEN_OLD=TOKEN
    )
    await site.start()
    fields = {"MessageSid": "SM1", "MessageStatus": "delivered"}

    assert (await site.tell("/webhooks/sms/status", fields))[0] == 204
    assert (await site.tell("/webhooks/sms/status", fields, token="the next"))[0] == 204
    await site.stop()


async def test_news_is_not_taken_while_no_job_can_be_made(unused_port: int) -> None:
    site = Site(f"redis://127.0.0.1:{unused_port}/0")
    await site.start()
    fields = {"MessageSid": "SM1", "MessageStatus": "delivered"}

    assert (await site.tell("/webhooks/sms/status", fields))[0] == 503
    await site.stop()


async def test_the_provider_s_peer_is_believed(redis_url: str, unused_port: int) -> None:
    """Goal: a text's whole way: sent with a callback, reported with a signature, a job."""
    url = f"http://127.0.0.1:{unused_port}/hooks"
    delivery = uuid4()
    async with SmsPeer(reports=True) as peer:
        site = Site(redis_url, **peer.environ(), PROCESSORS_SMS_WEBHOOK_URL=url)
        await site.start(unused_port)
        sender = open_sms_sender(site.settings.sms, others=nobody)
        assert sender
        await sender.send(Sms(delivery_id=delivery, to=ADA, text="hello"))
        await sender.close()
        await peer.reported()
        jobs = site.jobs()
        await site.stop()

    assert [(job.state, job.delivery_id, job.provider_id) for job in jobs] == [
        ("delivered", delivery, peer.texts[0].sid)
    ]


async def nobody(ids: Sequence[str], delivery_id: UUID) -> set[str]:
    """No text is known to be of another delivery."""
    return set()


WISH = Unsubscribe(UUID("0198c0de-0000-7000-8000-00000000ada0"), "message", "email")


def link(site: Site, wish: Unsubscribe = WISH) -> str:
    url = unsubscribe_url(PUBLIC, wish, site.settings.email.keys)
    return url.replace(PUBLIC, site.url)


async def test_one_click_of_a_mail_program_unsubscribes(site: Site) -> None:
    async with site.session.post(
        link(site), data={"List-Unsubscribe": "One-Click"}, allow_redirects=False
    ) as response:
        assert response.status == 200
        assert "no more emails" in await response.text()

    assert site.wishes == [WISH]


async def test_looking_at_the_link_changes_nothing(site: Site) -> None:
    for method in ("GET", "HEAD"):
        async with site.session.request(method, link(site)) as response:
            assert response.status == 200
            page = await response.text()
        if method == "GET":
            assert '<form method="post">' in page
            assert "<script" not in page
            assert "&ldquo;message&rdquo;" in page

    assert site.wishes == []


async def test_the_pages_let_nothing_in_and_nothing_out(site: Site) -> None:
    for url in (link(site), f"{site.url}/unsubscribe/nonsense"):
        async with site.session.get(url) as response:
            policy = response.headers["Content-Security-Policy"]
            page = await response.text()
            style = re.search(r"<style>(.*?)</style>", page)
        assert style
        hashed = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
        assert policy == (
            f"default-src 'none'; style-src 'sha256-{hashed}'; form-action 'self'; "
            "base-uri 'none'; frame-ancestors 'none'"
        )
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["Referrer-Policy"] == "no-referrer"
        assert response.headers["X-Content-Type-Options"] == "nosniff"


async def test_a_name_of_a_type_is_shown_and_not_run(site: Site) -> None:
    hostile = Unsubscribe(WISH.user_id, "<script>alert(1)</script>", "sms")
    async with site.session.get(link(site, hostile)) as response:
        page = await response.text()

    assert "<script" not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_link_that_is_not_ours_does_nothing(site: Site, method: str) -> None:
    good = link(site)
    for url in (good[:-1], good + "A", f"{site.url}/unsubscribe/x", good.replace("e/", "e/A", 1)):
        async with site.session.request(method, url) as response:
            assert response.status == 404
    async with site.session.request("DELETE", good) as response:
        assert response.status == 405

    assert site.wishes == []


async def test_an_older_key_is_good(site: Site) -> None:
    older = unsubscribe_url(site.url, WISH, site.settings.email.keys[1:])
    async with site.session.post(older) as response:
        assert response.status == 200

    assert site.wishes == [WISH]


@pytest.mark.parametrize(
    ("trouble", "status"),
    [
        (Refused("unknown-user", "there is no such user"), 404),
        (DatabaseUnavailable("connect", "away"), 503),
    ],
)
async def test_what_could_not_be_done_is_not_said_to_be(
    site: Site, trouble: Exception, status: int
) -> None:
    site.trouble = trouble
    async with site.session.post(link(site)) as response:
        assert response.status == status
        assert "Unsubscribed" not in await response.text()


async def test_a_long_body_is_not_read(site: Site) -> None:
    async with site.session.post(link(site), data=b"x" * (BODY_BYTES_MAX + 1)) as response:
        assert response.status == 413

    assert site.wishes == []


async def test_without_settings_there_is_nothing_to_call(redis_url: str) -> None:
    site = Site(redis_url)
    site.settings = from_env({})
    await site.start()
    for path in ("/webhooks/sms/status", "/webhooks/sms/inbound", "/unsubscribe/x"):
        async with site.session.post(site.url + path) as response:
            assert response.status == 404
    await site.stop()

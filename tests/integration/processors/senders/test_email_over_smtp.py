"""Email goes through a real SMTP dialogue, whose every failure is an answer."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import trustme

from engine.testing import ManualClock
from processors.errors import ConfigurationError
from processors.rules.answers import Kind
from processors.rules.bounces import delivery_of
from processors.senders.base import Mail
from processors.senders.email import SmtpSender, open_email_sender
from processors.settings import from_env
from tests.peers.smtp import CLOSE, SILENT, SmtpPeer, by_address

pytestmark = pytest.mark.servers

TEMPLATE = "bounces+{id}@chat.example"


@pytest.fixture
def peer() -> Iterator[SmtpPeer]:
    with SmtpPeer() as peer:
        yield peer


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return str(path)


def server_tls(authority: trustme.CA, name: str = "127.0.0.1") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


@asynccontextmanager
async def sender_to(
    peer: SmtpPeer, *, clock: ManualClock | None = None, **changed: str
) -> AsyncIterator[SmtpSender]:
    variables = {f"PROCESSORS_EMAIL_{name.upper()}": value for name, value in changed.items()}
    sender = open_email_sender(from_env(peer.environ() | variables).email, clock=clock)
    assert sender
    try:
        yield sender
    finally:
        await sender.close()


def mail(**changed: Any) -> Mail:
    fields: dict[str, Any] = {
        "delivery_id": uuid4(),
        "to": "ada@example.org",
        "subject": "Bob: hello",
        "text": "hello",
        "html": "<p>hello</p>",
    }
    return Mail(**fields | changed)


async def test_a_mail_arrives_with_its_return_path(peer: SmtpPeer) -> None:
    one = mail()
    async with sender_to(peer) as sender:
        answer = await sender.send(one)

    assert (answer.kind, answer.code) == (Kind.SENT, "250 2.0.0")
    assert answer.provider_id == "Q1abc"
    arrived = peer.arrived[0]
    assert arrived.to == "ada@example.org"
    assert delivery_of(arrived.mail_from, TEMPLATE) == one.delivery_id
    assert arrived.message["Message-ID"] == f"<d.{one.delivery_id.hex}@chat.example>"
    assert arrived.options[-2:] == ["RET=HDRS", f"ENVID={one.delivery_id.hex}"]
    assert arrived.options[0] == f"SIZE={len(arrived.data)}"


async def test_dots_and_long_lines_arrive_as_they_were(peer: SmtpPeer) -> None:
    text = ".\r\n..\r\n.hidden\r\n" + "x" * 5_000 + "\r\nGrüße 😀\r\n"
    async with sender_to(peer) as sender:
        await sender.send(mail(text=text, html=""))

    assert peer.arrived[0].message.get_content() == text


async def test_mails_share_a_connection(peer: SmtpPeer) -> None:
    async with sender_to(peer) as sender:
        for _ in range(3):
            assert (await sender.send(mail())).kind is Kind.SENT

    assert [each.connection for each in peer.arrived] == [1, 1, 1]


async def test_a_connection_is_replaced_after_its_mails_or_a_rest(peer: SmtpPeer) -> None:
    clock = ManualClock()
    async with sender_to(peer, clock=clock, connection_mails_max="2", idle_ms="1000") as sender:
        for _ in range(3):
            await sender.send(mail())
        await clock.advance(1.5)
        await sender.send(mail())

    assert [each.connection for each in peer.arrived] == [1, 1, 2, 3]


async def test_many_mails_take_few_connections(peer: SmtpPeer) -> None:
    async with sender_to(peer, connections_max="3") as sender:
        answers = await asyncio.gather(*(sender.send(mail()) for _ in range(40)))

    assert {answer.kind for answer in answers} == {Kind.SENT}
    assert len({each.message["Message-ID"] for each in peer.arrived}) == 40
    assert peer.open_most <= 3


async def test_a_refused_recipient_leaves_the_connection_good(peer: SmtpPeer) -> None:
    async with sender_to(peer) as sender:
        peer.script["rcpt"] = "550 5.1.1 unknown"
        refused = await sender.send(mail())
        peer.script.clear()
        taken = await sender.send(mail())

    assert (refused.kind, refused.code) == (Kind.TARGET_GONE, "550 5.1.1")
    assert taken.kind is Kind.SENT
    assert peer.connections == 1


async def test_a_server_that_hung_up_meanwhile_is_called_again(peer: SmtpPeer) -> None:
    async with sender_to(peer) as sender:
        await sender.send(mail())
        port = peer.port
        await peer.stop()
        await peer.start()
        assert peer.port == port
        again = await sender.send(mail())

    assert again.kind is Kind.SENT
    assert len(peer.arrived) == 2


@pytest.mark.parametrize(
    ("phase", "reply", "kind", "code"),
    [
        ("greeting", "554 5.7.1 blocked", Kind.MISCONFIGURED, "554 5.7.1"),
        ("greeting", "421 4.3.2 later", Kind.LIMITED, "421 4.3.2"),
        ("greeting", "nonsense", Kind.LATER, "-1"),
        ("mail", "451 4.3.0 later", Kind.LATER, "451 4.3.0"),
        ("mail", "553 5.7.1 not yours", Kind.MISCONFIGURED, "553 5.7.1"),
        ("rcpt", "421 4.7.0 too many", Kind.LIMITED, "421 4.7.0"),
        ("rcpt", "450 4.7.1 greylisted", Kind.LATER, "450 4.7.1"),
        ("rcpt", "552 5.2.2 full", Kind.LATER, "552 5.2.2"),
        ("rcpt", "550 5.7.1 policy", Kind.REFUSED, "550 5.7.1"),
        ("rcpt", "550 no such user", Kind.TARGET_GONE, "550"),
        ("data", "554 5.7.1 spam", Kind.REFUSED, "554 5.7.1"),
        ("data", "451 4.7.1 later", Kind.LATER, "451 4.7.1"),
        ("data", "421 4.7.0 too many", Kind.LIMITED, "421 4.7.0"),
        ("greeting", CLOSE, Kind.LATER, "unreachable-connect"),
        ("ehlo", CLOSE, Kind.LATER, "closed-greeting"),
        ("mail", CLOSE, Kind.LATER, "closed-mail"),
        ("rcpt", CLOSE, Kind.LATER, "closed-rcpt"),
        ("data", CLOSE, Kind.LATER, "closed-data"),
        ("greeting", SILENT, Kind.LATER, "silent-connect"),
        ("ehlo", SILENT, Kind.LATER, "silent-greeting"),
        ("mail", SILENT, Kind.LATER, "silent-mail"),
        ("rcpt", SILENT, Kind.LATER, "silent-rcpt"),
        ("data", SILENT, Kind.LATER, "silent-data"),
    ],
)
async def test_trouble_in_a_phase_is_an_answer_and_the_next_mail_goes(
    peer: SmtpPeer, phase: Any, reply: str, kind: Kind, code: str
) -> None:
    peer.keep_all = False
    peer.script[phase] = reply
    patience = "1000" if reply == SILENT else "20000"
    async with sender_to(peer, timeout_ms=patience, connections_max="1") as sender:
        answer = await sender.send(mail())
        peer.script.clear()
        after = await sender.send(mail())

    assert (answer.kind, answer.code) == (kind, code)
    assert after.kind is Kind.SENT
    assert len(peer.arrived) == 1


async def test_a_dialogue_has_one_limit_for_all_its_replies(peer: SmtpPeer) -> None:
    """Goal: a server that is slow at each reply cannot outlast the job."""
    peer.script["rcpt"] = SILENT
    async with sender_to(peer, timeout_ms="3600000", dialogue_ms="1000") as sender:
        answer = await sender.send(mail())
        peer.script.clear()
        after = await sender.send(mail())

    assert (answer.kind, answer.code) == (Kind.LATER, "silent-rcpt")
    assert after.kind is Kind.SENT
    assert peer.connections == 2


@pytest.mark.parametrize("trouble", [CLOSE, SILENT])
async def test_a_mail_whose_reply_was_lost_is_repeated_under_the_same_id(
    peer: SmtpPeer, trouble: str
) -> None:
    one = mail(thread="c1")
    async with sender_to(peer, timeout_ms="1000") as sender:
        peer.script["data"] = trouble
        lost = await sender.send(one)
        peer.script.clear()
        taken = await sender.send(one)

    assert (lost.kind, taken.kind) == (Kind.LATER, Kind.SENT)
    first, second = (each.message for each in peer.arrived)
    assert first["Message-ID"] == second["Message-ID"]
    assert first["References"] == second["References"]


async def test_an_address_may_choose_how_it_ends(peer: SmtpPeer) -> None:
    """Goal: whoever tries the peer by hand sees each kind of answer."""
    peer.rule = by_address
    async with sender_to(peer) as sender:
        kinds = [
            (await sender.send(mail(to=f"{name}@example.org"))).kind
            for name in ("bounce-1", "busy", "ada")
        ]

    assert kinds == [Kind.TARGET_GONE, Kind.LATER, Kind.SENT]


async def test_nobody_listens(peer: SmtpPeer, unused_port: int) -> None:
    async with sender_to(peer, port=str(unused_port)) as sender:
        answer = await sender.send(mail())

    assert (answer.kind, answer.code) == (Kind.LATER, "unreachable-connect")


async def test_a_mail_that_is_given_up_frees_its_connection(peer: SmtpPeer) -> None:
    """Goal: a job that is cancelled in the middle takes nothing from those after it."""
    peer.script["rcpt"] = SILENT
    async with sender_to(peer, connections_max="1") as sender:
        task = asyncio.create_task(sender.send(mail()))
        assert await asyncio.to_thread(peer.fell_silent.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        peer.script.clear()
        answer = await sender.send(mail())

    assert answer.kind is Kind.SENT


@pytest.mark.parametrize("mode", ["starttls", "tls"])
async def test_mail_goes_over_tls_to_whom_the_certificate_names(
    authority: trustme.CA, ca_file: str, mode: str
) -> None:
    with SmtpPeer(tls=server_tls(authority), tls_first=mode == "tls") as peer:
        async with sender_to(peer, tls=mode, ca_file=ca_file) as sender:
            answer = await sender.send(mail())

        assert answer.kind is Kind.SENT
        assert peer.arrived[0].is_tls


@pytest.mark.parametrize("mode", ["starttls", "tls"])
@pytest.mark.parametrize("fault", ["unknown authority", "another name"])
async def test_a_certificate_that_is_not_good_ends_the_dialogue(
    authority: trustme.CA, ca_file: str, mode: str, fault: str
) -> None:
    tls = server_tls(trustme.CA()) if fault == "unknown authority" else server_tls(authority, "x.y")
    with SmtpPeer(tls=tls, tls_first=mode == "tls") as peer:
        async with sender_to(peer, tls=mode, ca_file=ca_file) as sender:
            answer = await sender.send(mail())

        assert (answer.kind, answer.code) == (Kind.MISCONFIGURED, "certificate-not-trusted")
        assert peer.arrived == []


async def test_a_server_without_starttls_gets_nothing(peer: SmtpPeer) -> None:
    async with sender_to(peer, tls="starttls") as sender:
        answer = await sender.send(mail())

    assert (answer.kind, answer.code) == (Kind.MISCONFIGURED, "unsupported-tls")
    assert peer.arrived == []


async def test_tls_where_none_is_spoken_is_a_matter_of_settings(peer: SmtpPeer) -> None:
    async with sender_to(peer, tls="tls") as sender:
        answer = await sender.send(mail())

    assert (answer.kind, answer.code) == (Kind.MISCONFIGURED, "no-tls-there")


async def test_signing_in(authority: trustme.CA, ca_file: str) -> None:
    users = {"chat": "secret"}
    options = {"tls": "starttls", "ca_file": ca_file, "username": "chat"}
    with SmtpPeer(tls=server_tls(authority), users=users, must_sign_in=True) as peer:
        async with sender_to(peer, password="secret", **options) as sender:
            right = await sender.send(mail())
        async with sender_to(peer, password="wrong", **options) as sender:
            wrong = await sender.send(mail())
        async with sender_to(peer, tls="starttls", ca_file=ca_file) as sender:
            nobody = await sender.send(mail())

        assert (right.kind, peer.arrived[0].user) == (Kind.SENT, "chat")
        assert (wrong.kind, wrong.code) == (Kind.MISCONFIGURED, "535 5.7.8")
        assert (nobody.kind, nobody.code) == (Kind.MISCONFIGURED, "530 5.7.0")
        assert len(peer.arrived) == 1


async def test_a_server_that_lets_nobody_sign_in(peer: SmtpPeer) -> None:
    async with sender_to(peer, username="chat", password="secret") as sender:
        answer = await sender.send(mail())

    assert (answer.kind, answer.code) == (Kind.MISCONFIGURED, "unsupported-auth")


async def test_an_international_address_goes_where_it_is_known() -> None:
    one = mail(to="用户@例え.jp", subject="你好")
    with SmtpPeer(utf8=True) as peer:
        async with sender_to(peer) as sender:
            known = await sender.send(one)
        arrived = peer.arrived[0]
    with SmtpPeer(utf8=False) as peer:
        async with sender_to(peer) as sender:
            unknown = await sender.send(one)
            ascii_local = await sender.send(mail(to="ada@例え.jp"))

        assert [each.to for each in peer.arrived] == ["ada@xn--r8jz45g.jp"]
    assert known.kind is Kind.SENT
    assert arrived.to == "用户@xn--r8jz45g.jp"
    assert "SMTPUTF8" in arrived.options
    assert (unknown.kind, unknown.code) == (Kind.REFUSED, "smtputf8-unsupported")
    assert ascii_local.kind is Kind.SENT


@pytest.mark.parametrize(
    ("changed", "kind", "code"),
    [
        ({"to": "nobody"}, Kind.TARGET_GONE, "bad-address"),
        ({"to": "a@b.example\r\nRCPT TO:<eve@c.example>"}, Kind.TARGET_GONE, "bad-address"),
        ({"subject": "x\r\nBcc: eve@c.example"}, Kind.REFUSED, "line-break-in-header"),
    ],
)
async def test_what_would_break_the_dialogue_is_not_sent(
    peer: SmtpPeer, changed: dict[str, str], kind: Kind, code: str
) -> None:
    async with sender_to(peer) as sender:
        answer = await sender.send(mail(**changed))

    assert (answer.kind, answer.code) == (kind, code)
    assert peer.connections == 0


def test_no_server_no_sender() -> None:
    assert open_email_sender(from_env({}).email) is None


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"SENDER": "Chat"}, "sender"),
        ({"RETURN_PATH": "bounces+{id}"}, "return_path"),
        ({"RETURN_PATH": "bounces+{id}@bücher.example"}, "return_path"),
        ({"RETURN_PATH": "a-local-part-that-is-rather-long+{id}@x.example"}, "return_path"),
        ({"TLS": "tls", "CA_FILE": "/nowhere.pem"}, "PROCESSORS_EMAIL"),
    ],
)
def test_settings_at_fault_are_told_at_the_start(changed: dict[str, str], named: str) -> None:
    variables = {"HOST": "127.0.0.1", "SENDER": "a@b.example", "TLS": "none"} | changed
    settings = from_env({f"PROCESSORS_EMAIL_{name}": value for name, value in variables.items()})

    with pytest.raises(ConfigurationError, match=named):
        open_email_sender(settings.email)


def test_a_delivery_s_mail_is_known_by_its_return_path() -> None:
    delivery_id = UUID("0198c0de-0000-7000-8000-00000000ada0")

    assert delivery_of(f"bounces+{delivery_id.hex}@chat.example", TEMPLATE) == delivery_id

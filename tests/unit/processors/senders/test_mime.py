"""Emails as they go over the wire, read back by the standard library's parser."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email import message_from_bytes
from email.headerregistry import AddressHeader
from email.message import EmailMessage
from email.policy import default
from typing import Any, cast
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.senders.base import Mail
from processors.senders.mime import Sender, letter, read_sender, thread_id

DELIVERY = UUID("0198c0de-0000-7000-8000-00000000ada0")
SENDER = Sender("Chat", "no-reply@example.com")
AT = datetime(2026, 11, 22, 10, 30, 5, tzinfo=UTC)


def mail(**changed: Any) -> Mail:
    fields: dict[str, Any] = {
        "delivery_id": DELIVERY,
        "to": "ada@example.org",
        "subject": "Bob: hello",
        "text": "hello\n",
    }
    return Mail(**fields | changed)


def read(data: bytes) -> EmailMessage:
    return cast(EmailMessage, message_from_bytes(data, policy=default))


def test_the_headers_say_what_it_is() -> None:
    message = read(letter(mail(), SENDER, AT).data)

    assert message["From"] == "Chat <no-reply@example.com>"
    assert message["To"] == "ada@example.org"
    assert message["Subject"] == "Bob: hello"
    assert message["Date"] == "Sun, 22 Nov 2026 10:30:05 +0000"
    assert message["Message-ID"] == f"<d.{DELIVERY.hex}@example.com>"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["MIME-Version"] == "1.0"
    assert message.get_content() == "hello\r\n"
    for absent in ("References", "In-Reply-To", "List-Unsubscribe", "List-Unsubscribe-Post"):
        assert message[absent] is None


def test_text_and_html_are_alternatives_the_better_one_last() -> None:
    message = read(letter(mail(html="<p>Grüße</p>", text="Grüße"), SENDER, AT).data)

    assert message.get_content_type() == "multipart/alternative"
    parts = cast(list[EmailMessage], message.get_payload())
    assert [part.get_content_type() for part in parts] == ["text/plain", "text/html"]
    assert [part.get_content().strip() for part in parts] == ["Grüße", "<p>Grüße</p>"]


def test_an_attempt_is_repeated_with_the_same_id_and_thread() -> None:
    first = read(letter(mail(thread="c1"), SENDER, AT).data)
    again = read(letter(mail(thread="c1"), SENDER, AT.replace(hour=11)).data)

    assert first["Message-ID"] == again["Message-ID"]
    assert first["References"] == again["References"]


def test_mail_of_one_conversation_answers_one_message() -> None:
    one = read(letter(mail(thread="c1"), SENDER, AT).data)
    other = read(letter(mail(thread="c1", delivery_id=UUID(int=7)), SENDER, AT).data)
    elsewhere = read(letter(mail(thread="c2"), SENDER, AT).data)

    assert one["References"] == one["In-Reply-To"] == other["References"]
    assert one["References"] == thread_id("c1", "example.com")
    assert one["References"] != elsewhere["References"]
    assert one["Message-ID"] != other["Message-ID"]


def test_one_click_ends_it() -> None:
    """Goal: the long URL arrives as it is, on one line, which readers of mail rely on."""
    url = "https://chat.example.com/unsubscribe/" + "Ab1_-" * 30
    data = letter(mail(unsubscribe_url=url), SENDER, AT).data

    assert f"\r\nList-Unsubscribe: <{url}>\r\n".encode() in data
    assert b"\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n" in data


@pytest.mark.parametrize(
    "broken",
    [
        {"subject": "hello\r\nBcc: eve@example.com"},
        {"subject": "hello\nBcc: eve@example.com"},
        {"subject": "hello\rBcc: eve@example.com"},
        {"subject": "hello\x0bBcc: eve@example.com"},
        {"subject": "hello\x85Bcc: eve@example.com"},
        {"subject": "hello\u2028Bcc: eve@example.com"},
        {"subject": "hello\x00"},
        {"unsubscribe_url": "https://x.example/\r\nBcc: eve@example.com"},
    ],
)
def test_a_line_break_in_a_header_is_refused(broken: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="line break"):
        letter(mail(**broken), SENDER, AT)


def test_a_thread_s_name_cannot_break_a_header() -> None:
    message = read(letter(mail(thread="x\r\nBcc: eve@example.com"), SENDER, AT).data)

    assert message["Bcc"] is None
    assert re.fullmatch(r"<t\.[0-9a-f]{32}@example\.com>", message["References"])


def test_international_addresses_need_a_server_that_knows_them() -> None:
    domain_alone = letter(mail(to="ada@bücher.example"), SENDER, AT)
    both = letter(mail(to="用户@例え.jp"), SENDER, AT)

    assert domain_alone.recipient == "ada@xn--bcher-kva.example"
    assert not domain_alone.needs_utf8
    assert domain_alone.data.isascii()
    assert both.recipient == "用户@xn--r8jz45g.jp"
    assert both.needs_utf8
    assert f"To: {both.recipient}\r\n".encode() in both.data


@given(
    subject=st.text(max_size=200),
    text=st.text(max_size=400),
    html=st.text(max_size=200),
    name=st.text(max_size=60),
)
def test_whatever_people_write_goes_in_seven_bits_and_short_lines(
    subject: str, text: str, html: str, name: str
) -> None:
    """Goal: no content makes a header or a line that servers break."""
    try:
        data = letter(mail(subject=subject, text=text, html=html), Sender(name, "a@b.example"), AT)
    except ValueError:
        assert re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", subject + name)
        return
    message = read(data.data)

    assert data.data.isascii()
    assert max(map(len, data.data.split(b"\r\n"))) <= 998
    assert set(message.keys()) <= {
        *("To", "Date", "Message-ID", "Auto-Submitted", "From", "Subject", "MIME-Version"),
        *("Content-Type", "Content-Transfer-Encoding"),
    }
    assert message["To"] == "ada@example.org"
    assert cast(AddressHeader, message["From"]).addresses[0].addr_spec == "a@b.example"


@pytest.mark.parametrize(
    ("text", "sender"),
    [
        ("no-reply@example.com", Sender("", "no-reply@example.com")),
        ("Chat <no-reply@example.com>", Sender("Chat", "no-reply@example.com")),
        ('"Chat, Inc." <a@bücher.example>', Sender("Chat, Inc.", "a@xn--bcher-kva.example")),
    ],
)
def test_the_setting_says_who_it_is_from(text: str, sender: Sender) -> None:
    assert read_sender(text) == sender


@pytest.mark.parametrize(
    "text", ["", "Chat", "用户@example.com", "a@b.example\r\nBcc: c@d.example"]
)
def test_a_setting_that_names_nobody_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="sender"):
        read_sender(text)

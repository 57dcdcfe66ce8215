"""Reports about mail are read, whoever wrote them, and only those about our mail count."""

from __future__ import annotations

from email.message import EmailMessage
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.rules.bounces import (
    Bounce,
    delivery_of,
    message_id,
    read_bounce,
    return_path,
    status_class,
)

TEMPLATE = "bounces+{id}@mail.example.com"
OURS = UUID("0198c0de-0000-7000-8000-00000000ada0")
OTHER = UUID("0198c0de-0000-7000-8000-0000000000b0")

POSTFIX = """\
Return-Path: <>
Delivered-To: {to}
Date: Wed, 22 Nov 2026 10:00:00 +0000 (UTC)
From: MAILER-DAEMON@mx.example.net (Mail Delivery System)
Subject: Undelivered Mail Returned to Sender
To: {to}
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status;
\tboundary="4XyZ1.1732270000/mx.example.net"

This is a MIME-encapsulated message.

--4XyZ1.1732270000/mx.example.net
Content-Description: Notification
Content-Type: text/plain; charset=us-ascii

This is the mail system at host mx.example.net.

--4XyZ1.1732270000/mx.example.net
Content-Description: Delivery report
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.net
X-Postfix-Queue-ID: 4XyZ1
{envelope}X-Postfix-Sender: rfc822; {to}
Arrival-Date: Wed, 22 Nov 2026 09:59:59 +0000 (UTC)

Final-Recipient: rfc822; ada@example.org
Original-Recipient: rfc822;ada@example.org
Action: {action}
Status: {status}
Remote-MTA: dns; mail.example.org
Diagnostic-Code: {diagnostic}

--4XyZ1.1732270000/mx.example.net
Content-Description: Undelivered Message Headers
Content-Type: text/rfc822-headers

From: Chat <no-reply@example.com>
To: ada@example.org
Subject: hello
Message-ID: {message_id}

--4XyZ1.1732270000/mx.example.net--
"""

COMPLAINT = """\
From: <abuse@isp.example>
To: <fbl@example.com>
Subject: FW: hello
MIME-Version: 1.0
Content-Type: multipart/report; report-type=feedback-report; boundary="part"

--part
Content-Type: text/plain

This is an email abuse report.

--part
Content-Type: message/feedback-report

Feedback-Type: {kind}
User-Agent: SomeGenerator/1.0
Version: 1
Original-Mail-From: <{mail_from}>

--part
Content-Type: message/rfc822

From: Chat <no-reply@example.com>
To: ada@example.org
Message-ID: {message_id}
Subject: hello

Text
--part--
"""


def report(**changed: str) -> bytes:
    fields = {
        "to": return_path(TEMPLATE, OURS),
        "action": "failed",
        "status": "5.1.1",
        "diagnostic": "smtp; 550 5.1.1 <ada@example.org>: unknown user",
        "envelope": "",
        "message_id": "<x@y.example>",
    }
    return POSTFIX.format(**fields | changed).replace("\n", "\r\n").encode()


def read(data: bytes, *recipients: str) -> Bounce | None:
    return read_bounce(data, template=TEMPLATE, recipients=recipients)


def test_a_report_of_failure_is_read() -> None:
    bounce = read(report())

    assert bounce == Bounce(OURS, "hard", "5.1.1")
    assert bounce.state == "bounced"


@pytest.mark.parametrize("ending", ["\r\n", "\n"])
def test_line_endings_do_not_matter(ending: str) -> None:
    assert read(report().replace(b"\r\n", ending.encode())) == Bounce(OURS, "hard", "5.1.1")


@pytest.mark.parametrize(
    ("status", "diagnostic", "grade"),
    [
        ("5.1.1", "", "hard"),
        ("5.1.2", "", "hard"),
        ("5.1.10", "", "hard"),
        ("5.2.1", "", "soft"),
        ("5.2.2", "smtp; 552 5.2.2 Mailbox full", "soft"),
        ("4.4.7", "smtp; 451 try later", "soft"),
        ("4.2.2", "", "soft"),
        ("5.7.1", "smtp; 550 5.7.1 Blocked", "policy"),
        ("5.7.26", "", "policy"),
        ("5.3.4", "", "policy"),
        ("5.6.0", "", "policy"),
        ("5.1.8", "", "policy"),
        # The status says nothing: the other server's own words do.
        ("5.0.0", "smtp; 550 5.1.1 No such user", "hard"),
        ("5.0.0", "smtp; 550-5.7.1 Our system has detected", "policy"),
        ("5.0.0", "smtp; 550 No such user", "hard"),
        ("5.0.0", "smtp; 554 rejected", "policy"),
        ("5.0.0", "x-unix; 1", "policy"),
        ("", "smtp; 550 5.1.1 No such user", "hard"),
        ("4.0.0", "smtp; 452 4.2.2 full", "soft"),
        ("", "", "soft"),
        ("nonsense", "nonsense", "soft"),
    ],
)
def test_a_status_blames_somebody(status: str, diagnostic: str, grade: str) -> None:
    assert status_class(status, diagnostic) == grade


@pytest.mark.parametrize(
    ("grade", "state"),
    [("hard", "bounced"), ("soft", "failed"), ("policy", "failed"), ("complaint", "complained")],
)
def test_only_a_hard_bounce_and_a_complaint_suppress(grade: str, state: str) -> None:
    assert Bounce(OURS, grade, "").state == state  # type: ignore[arg-type]


@pytest.mark.parametrize("action", ["delayed", "relayed", "expanded", ""])
def test_what_is_not_over_is_no_bounce(action: str) -> None:
    assert read(report(action=action)) is None


def test_news_of_arrival_is_read() -> None:
    assert read(report(action="delivered", status="2.0.0")) == Bounce(OURS, "delivered", "2.0.0")


def test_the_address_that_the_mail_server_names_comes_first() -> None:
    data = report(to=return_path(TEMPLATE, OTHER))

    assert read(data, return_path(TEMPLATE, OURS)) == Bounce(OURS, "hard", "5.1.1")


def test_an_address_in_another_case_is_ours() -> None:
    address = return_path(TEMPLATE, OURS).upper()

    assert delivery_of(address, TEMPLATE) == OURS


@pytest.mark.parametrize(
    "address",
    [
        "bounces@mail.example.com",
        "bounces+@mail.example.com",
        f"bounces+{OURS.hex}@mail.example.net",
        f"x{return_path(TEMPLATE, OURS)}",
        f"{return_path(TEMPLATE, OURS)}x",
        f"bounces+{OURS.hex}0@mail.example.com",
        "bounces+{id}@mail.example.com",
        "",
    ],
)
def test_another_address_is_not_ours(address: str) -> None:
    assert delivery_of(address, TEMPLATE) is None
    assert delivery_of(address, address) is None


def test_a_report_without_our_address_is_matched_by_what_it_returns() -> None:
    by_envelope = report(
        to="postmaster@example.com", envelope=f"Original-Envelope-Id: {OURS.hex}\n"
    )
    by_message_id = report(to="postmaster@example.com", message_id=message_id(OURS, "example.com"))

    assert read(by_envelope) == Bounce(OURS, "hard", "5.1.1")
    assert read(by_message_id) == Bounce(OURS, "hard", "5.1.1")


def test_a_report_about_other_mail_is_none() -> None:
    assert read(report(to="postmaster@example.com")) is None


def test_a_header_that_cannot_be_read_hides_nothing() -> None:
    data = report(to=f'"broken, <{OTHER.hex}')

    assert read(data, "<<<,", return_path(TEMPLATE, OURS)) == Bounce(OURS, "hard", "5.1.1")


def test_an_automatic_reply_to_our_address_is_no_bounce() -> None:
    reply = EmailMessage()
    reply["From"] = "ada@example.org"
    reply["To"] = return_path(TEMPLATE, OURS)
    reply["Auto-Submitted"] = "auto-replied"
    reply["Subject"] = "Out of office: 550 5.1.1"
    reply.set_content("I am away. Status: 5.1.1\nAction: failed\n")

    assert read(reply.as_bytes()) is None


def test_a_report_inside_a_returned_message_is_not_believed() -> None:
    """Goal: what a mail's own content says is not taken for the report on that mail."""
    head = (
        f"To: {return_path(TEMPLATE, OURS)}\r\n"
        'Content-Type: multipart/report; report-type=delivery-status; boundary="B"\r\n\r\n'
        "--B\r\nContent-Type: message/rfc822\r\n\r\n"
    )

    assert read(head.encode() + report() + b"\r\n--B--\r\n") is None


@pytest.mark.parametrize(
    ("kind", "grade"),
    [("abuse", "complaint"), ("Fraud", "complaint"), ("not-spam", None), ("auth-failure", None)],
)
def test_a_complaint_is_read(kind: str, grade: str | None) -> None:
    by_return_path = COMPLAINT.format(
        kind=kind, mail_from=return_path(TEMPLATE, OURS), message_id="<x@y.example>"
    )
    by_message_id = COMPLAINT.format(
        kind=kind, mail_from="x@y.example", message_id=message_id(OURS, "example.com")
    )
    expected = Bounce(OURS, "complaint", kind.lower()) if grade else None

    assert read(by_return_path.encode()) == expected
    assert read(by_message_id.encode()) == expected


def test_hostile_nesting_is_no_report() -> None:
    deep = b"".join(
        b'Content-Type: multipart/mixed; boundary="b%d"\n\n--b%d\n' % (n, n) for n in range(3_000)
    )

    assert read(deep) is None


@given(st.binary(max_size=2_000))
def test_any_bytes_are_read_without_an_error(data: bytes) -> None:
    assert read(data) is None


@given(st.data())
def test_a_damaged_report_is_read_without_an_error(data: st.DataObject) -> None:
    raw = bytearray(report())
    for _ in range(data.draw(st.integers(1, 20))):
        place = data.draw(st.integers(0, len(raw) - 1))
        raw[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))

    found = read(bytes(raw))

    assert found is None or found.grade in {"hard", "soft", "policy", "delivered"}

"""Each row of the table of mail servers' replies."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.rules.answers import Kind
from processors.rules.smtp import Phase, enhanced_status, lost, queue_id, reply_answer

PHASES: list[Phase] = ["connect", "greeting", "tls", "auth", "mail", "rcpt", "data"]


@pytest.mark.parametrize(
    ("phase", "code", "text", "kind"),
    [
        # Taken.
        ("data", 250, "2.0.0 Ok: queued as 4XyZ1", Kind.SENT),
        ("data", 250, "", Kind.SENT),
        # The server is in trouble or has too much to do.
        ("greeting", 421, "4.3.2 Service not available", Kind.LIMITED),
        ("rcpt", 421, "4.7.0 Too many connections", Kind.LIMITED),
        ("data", 421, "closing", Kind.LIMITED),
        ("greeting", 450, "", Kind.LATER),
        ("tls", 454, "4.7.0 TLS not available due to temporary reason", Kind.LATER),
        ("auth", 454, "4.7.0 Temporary authentication failure", Kind.LATER),
        ("mail", 451, "4.3.0 Try again", Kind.LATER),
        ("mail", 452, "4.3.1 Insufficient system storage", Kind.LATER),
        ("rcpt", 450, "4.7.1 Greylisted", Kind.LATER),
        ("rcpt", 450, "4.1.1 User unknown just now", Kind.LATER),
        ("rcpt", 452, "4.2.2 Mailbox full", Kind.LATER),
        ("data", 451, "", Kind.LATER),
        ("rcpt", 550, "4.2.1 Class and digits disagree", Kind.LATER),
        ("rcpt", 451, "5.1.1 Class and digits disagree", Kind.LATER),
        # A mailbox that is full.
        ("rcpt", 552, "5.2.2 Mailbox full", Kind.LATER),
        ("rcpt", 550, "5.2.2 Over quota", Kind.LATER),
        ("rcpt", 552, "Requested mail action aborted: exceeded storage allocation", Kind.LATER),
        ("data", 552, "", Kind.LATER),
        # The address is none.
        ("rcpt", 550, "5.1.1 User unknown", Kind.TARGET_GONE),
        ("rcpt", 550, "5.1.0 Address rejected", Kind.TARGET_GONE),
        ("rcpt", 550, "5.1.2 Domain not found", Kind.TARGET_GONE),
        ("rcpt", 501, "5.1.3 Bad recipient address syntax", Kind.TARGET_GONE),
        ("rcpt", 551, "5.1.6 User has moved", Kind.TARGET_GONE),
        ("rcpt", 556, "5.1.10 Recipient address has null MX", Kind.TARGET_GONE),
        ("data", 550, "5.1.1 User unknown", Kind.TARGET_GONE),
        ("rcpt", 550, "No such user here", Kind.TARGET_GONE),
        ("rcpt", 551, "User not local", Kind.TARGET_GONE),
        ("rcpt", 553, "Mailbox name not allowed", Kind.TARGET_GONE),
        ("rcpt", 556, "Domain does not accept mail", Kind.TARGET_GONE),
        # This message, or policy.
        ("rcpt", 550, "5.2.1 Mailbox disabled", Kind.REFUSED),
        ("rcpt", 550, "5.7.1 Rejected by policy", Kind.REFUSED),
        ("rcpt", 554, "5.7.1 Relay access denied", Kind.REFUSED),
        ("data", 550, "5.7.26 Unauthenticated email is not accepted", Kind.REFUSED),
        ("data", 554, "5.7.0 Blocked as spam", Kind.REFUSED),
        ("data", 550, "Message looks like spam", Kind.REFUSED),
        ("rcpt", 554, "Transaction failed", Kind.REFUSED),
        ("data", 554, "Transaction failed", Kind.REFUSED),
        ("data", 552, "5.3.4 Message too big", Kind.REFUSED),
        ("data", 552, "5.2.3 Message too long for the mailbox", Kind.REFUSED),
        ("data", 554, "5.6.0 Bad content", Kind.REFUSED),
        ("rcpt", 550, "5.4.1 Access denied", Kind.REFUSED),
        ("rcpt", 555, "5.5.4 Parameters not recognised", Kind.REFUSED),
        ("mail", 552, "5.3.4 Message size exceeds the limit", Kind.REFUSED),
        ("mail", 552, "Too big", Kind.REFUSED),
        ("mail", 550, "5.6.7 SMTPUTF8 is needed", Kind.REFUSED),
        # Whoever set it up.
        ("auth", 535, "5.7.8 Bad credentials", Kind.MISCONFIGURED),
        ("auth", 534, "5.7.9 Application-specific password required", Kind.MISCONFIGURED),
        ("auth", 504, "5.5.4 Mechanism not known", Kind.MISCONFIGURED),
        ("mail", 530, "5.7.0 Authentication required", Kind.MISCONFIGURED),
        ("rcpt", 530, "5.7.1 Authentication required", Kind.MISCONFIGURED),
        ("mail", 530, "5.7.0 Must issue STARTTLS first", Kind.MISCONFIGURED),
        ("mail", 553, "5.7.1 Sender address rejected: not owned by user", Kind.MISCONFIGURED),
        ("mail", 550, "5.7.60 May not send as this sender", Kind.MISCONFIGURED),
        ("mail", 550, "", Kind.MISCONFIGURED),
        ("rcpt", 550, "5.1.8 Sender domain not found", Kind.MISCONFIGURED),
        ("rcpt", 553, "5.1.7 Sender address rejected", Kind.MISCONFIGURED),
        ("greeting", 554, "5.7.1 Your address is blocked", Kind.MISCONFIGURED),
        ("greeting", 521, "Host does not accept mail", Kind.MISCONFIGURED),
        ("tls", 502, "Not implemented", Kind.MISCONFIGURED),
    ],
)
def test_a_row_of_the_table(phase: Phase, code: int, text: str, kind: Kind) -> None:
    assert reply_answer(phase, code, text).kind is kind


def test_the_code_names_digits_and_status_without_the_text() -> None:
    assert reply_answer("rcpt", 550, "5.1.1 <ada@example.com> unknown").code == "550 5.1.1"
    assert reply_answer("rcpt", 550, "<ada@example.com> unknown").code == "550"


def test_a_server_that_has_enough_is_left_alone_by_all() -> None:
    answer = reply_answer("rcpt", 421, "4.7.0 Too many connections")

    assert (answer.scope, answer.retry_after_ms) == ("provider", 60_000)


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("how", ["closed", "silent", "unreachable"])
def test_no_reply_is_tried_again(phase: Phase, how: str) -> None:
    answer = lost(phase, how)  # type: ignore[arg-type]

    assert (answer.kind, answer.code) == (Kind.LATER, f"{how}-{phase}")


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("5.1.1 unknown", (5, 1, 1)),
        ("5.7.26", (5, 7, 26)),
        (" 4.2.2 full\n4.2.2 really", (4, 2, 2)),
        ("unknown 5.1.1", None),
        ("5.1.1.1 is an address", None),
        ("3.1.1 no such class", None),
        ("", None),
    ],
)
def test_the_status_stands_at_the_beginning(text: str, status: tuple[int, int, int] | None) -> None:
    assert enhanced_status(text) == status


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("2.0.0 Ok: queued as 4XyZ1aBc", "4XyZ1aBc"),
        ("2.0.0 OK  1732200000 d9443c01a7336-20f.1 - gsmtp", ""),
        ("Ok 010201946e0b-7d6c-000000", "010201946e0b-7d6c-000000"),
        ("Thanks", ""),
        ("", ""),
    ],
)
def test_the_id_of_the_queue_is_kept(text: str, found: str) -> None:
    assert queue_id(text) == found


@given(
    st.sampled_from(PHASES),
    st.integers(-1, 999),
    st.text(max_size=40) | st.from_regex(r"\A[245]\.[0-9]{1,3}\.[0-9]{1,3} .{0,9}", fullmatch=True),
)
def test_any_reply_has_an_answer_and_only_a_taken_message_is_sent(
    phase: Phase, code: int, text: str
) -> None:
    answer = reply_answer(phase, code, text)

    assert (answer.kind is Kind.SENT) == (phase == "data" and 200 <= code <= 299)
    assert answer.kind is not Kind.TARGET_GONE or phase in {"rcpt", "data"}
    assert code < 400 or code > 499 or answer.kind in {Kind.LATER, Kind.LIMITED}
    assert len(answer.code) <= 20

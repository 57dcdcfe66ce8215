"""What notifications say: in the reader's language, in one line, and never as markup."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.rules.notices import (
    LANGUAGES,
    News,
    Said,
    letter_of,
    letter_of_event,
    line,
    push_of,
    sms_of,
    words_of,
)

EN, DE = LANGUAGES["en"], LANGUAGES["de"]


def news(*said: tuple[str, str], **more: object) -> News:
    return News([Said(*each) for each in said], more.pop("n", len(said)), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("told", "title", "body"),
    [
        (news(("Ada", "hi"), direct=True), "Ada", "hi"),
        (news(("Ada", "hi"), title="Trip"), "Ada in Trip", "hi"),
        (news(("Ada", "hi"), title="Trip", direct=True), "Ada", "hi"),
        (news(("Ada", "")), "Ada", "New message"),
        (news(("", "hi")), "Someone", "hi"),
        (news(("Ada", "hi"), title="Trip", n=3), "Trip", "3 new messages"),
        (news(("Ada", "hi"), n=3), "Ada", "3 new messages"),
        (news(("Ada", "one\n two\t three")), "Ada", "one two three"),
        (news(("Ada", "0123456789" * 3)), "Ada", "012345678901234567890123456…"),
    ],
)
def test_a_push_says_who_wrote_what(told: News, title: str, body: str) -> None:
    assert push_of(told, EN, chars_max=28) == (title, body)


def test_languages() -> None:
    assert words_of("de-AT") is DE
    assert words_of("de_DE") is DE
    assert words_of("fr") is EN
    assert words_of("") is EN
    assert push_of(news(("Ada", "")), DE, chars_max=9)[1] == "Neue Nachricht"


def test_a_letter_quotes_the_last_messages_and_counts_the_rest() -> None:
    told = news(("Ada", "one"), ("Bob", "two"), n=5, title="Trip", url="https://chat.example/7")

    letter = letter_of(told, EN, chars_max=50, stop_url="https://chat.example/stop?a=1&b=2")

    assert letter.subject == "5 new messages in Trip"
    assert letter.text == (
        "Ada: one\n\nBob: two\n\nand 3 more\n\nOpen the conversation: https://chat.example/7\n\n"
        "Unsubscribe: https://chat.example/stop?a=1&b=2\n"
    )
    assert 'href="https://chat.example/stop?a=1&amp;b=2"' in letter.html


def test_a_letter_about_one_message_and_one_about_an_event() -> None:
    assert letter_of(news(("Ada", "hi")), DE, chars_max=9).subject == "Ada hat Ihnen geschrieben"
    event = letter_of_event("Sign-in", "From Paris.\n\nNot you?", EN)

    assert event.subject == "Sign-in"
    assert event.text == "From Paris.\n\nNot you?\n"
    assert "Unsubscribe" not in event.html


def test_an_sms_is_one_line() -> None:
    assert sms_of(news(("Ada", "hi\nyou")), EN, chars_max=50) == "Ada: hi you"
    link = news(("Ada", "hi"), url="https://chat.example/7")
    assert sms_of(link, EN, chars_max=50) == "Ada: hi https://chat.example/7"


class Tags(HTMLParser):
    """Lists the elements of a document and the text in it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.add(tag)
        self.attributes.update(name for name, _ in attrs)


HOSTILE = st.text() | st.sampled_from(
    [
        "<script>x</script>",
        '"><img src=x onerror=y>',
        "a\r\nBcc: eve@example.org",
        "&lt;b&gt;",
        "\ud800",
    ]
)


@given(HOSTILE, HOSTILE, HOSTILE, HOSTILE)
def test_words_never_become_markup_nor_headers(
    sender: str, text: str, title: str, url: str
) -> None:
    told = News([Said(sender, text), Said(text, sender)], 2, title=title, url=url)
    letter = letter_of(told, EN, chars_max=80, stop_url=url)
    tags = Tags()
    tags.feed(letter.html)

    assert tags.found <= {"html", "head", "meta", "body", "p", "strong", "br", "a"}
    assert tags.attributes <= {"charset", "href"}
    for one in (letter.subject, *push_of(told, EN, chars_max=80)):
        assert not {"\r", "\n", "\x00"} & set(one)


@given(st.text(), st.integers(0, 50))
def test_a_line_is_short_and_the_same_when_taken_twice(text: str, chars_max: int) -> None:
    once = line(text, chars_max)

    assert len(once) <= chars_max
    assert line(once, chars_max) == once
    assert not any(char in once for char in "\r\n\x00\u2028")

"""
What notifications say, in the reader's language.

Everything comes from people, so it is one line of visible characters wherever a line is meant, and
escaped wherever it is markup.
"""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Sequence
from typing import Final, NamedTuple

from processors.rules.fitting import clean, fitted

NAME_CHARS: Final = 60
SUBJECT_CHARS: Final = 120
SMS_CHARS: Final = 300


class Words(NamedTuple):
    """
    One language.

    Attributes:
        new: One message whose words are not told.
        many: Several messages.
        place: A sender in a conversation with a title.
        subject_one: Subject of an email about one message.
        subject_many: About several, of one conversation.
        more: Messages that an email does not quote.
        someone: A sender without a name.
        chat: A conversation without a title.
        open: Leads to the conversation.
        stop: Leads to no more email.
    """

    new: str
    many: str
    place: str
    subject_one: str
    subject_many: str
    more: str
    someone: str
    chat: str
    open: str
    stop: str


LANGUAGES: Final = {
    "en": Words(
        new="New message",
        many="{n} new messages",
        place="{sender} in {title}",
        subject_one="{sender} wrote to you",
        subject_many="{n} new messages in {title}",
        more="and {n} more",
        someone="Someone",
        chat="a conversation",
        open="Open the conversation",
        stop="Unsubscribe",
    ),
    "de": Words(
        new="Neue Nachricht",
        many="{n} neue Nachrichten",
        place="{sender} in {title}",
        subject_one="{sender} hat Ihnen geschrieben",
        subject_many="{n} neue Nachrichten in {title}",
        more="und {n} weitere",
        someone="Jemand",
        chat="einer Unterhaltung",
        open="Unterhaltung öffnen",
        stop="Abbestellen",
    ),
}


class Said(NamedTuple):
    """
    One message as a notification tells of it.

    Attributes:
        sender: Who wrote it.
        text: The words, or an empty string where they are not told.
    """

    sender: str
    text: str


class News(NamedTuple):
    """
    What there is to tell of one conversation.

    Attributes:
        said: The messages that are quoted, oldest first; at least one.
        n: How many there are.
        title: The conversation's, or an empty string.
        direct: It has no more than two members.
        url: Leads to it, or an empty string.
    """

    said: Sequence[Said]
    n: int
    title: str = ""
    direct: bool = False
    url: str = ""


class Letter(NamedTuple):
    """
    The words of an email.

    Attributes:
        subject: One line.
        text: The plain part.
        html: The HTML part.
    """

    subject: str
    text: str
    html: str


def words_of(locale: str) -> Words:
    """Find the language of a locale such as ``de-AT``; English where it is not known."""
    language = locale.replace("_", "-").partition("-")[0].lower()
    return LANGUAGES.get(language, LANGUAGES["en"])


def line(text: str, chars_max: int) -> str:
    """Bring a text into one line of visible characters."""
    seen = "".join(" " if _is_break(char) else char for char in clean(text))
    return fitted(" ".join(seen.split()), weigh=len, weight_max=chars_max) or ""


def push_of(news: News, words: Words, *, chars_max: int) -> tuple[str, str]:
    """Return a push's title and body."""
    last = news.said[-1]
    sender = _name(last.sender, words)
    title = line(news.title, NAME_CHARS)
    if title and not news.direct:
        sender = words.place.format(sender=sender, title=title)
    if news.n > 1:
        return title or sender, words.many.format(n=news.n)
    return sender, line(last.text, chars_max) or words.new


def sms_of(news: News, words: Words, *, chars_max: int) -> str:
    """Return the text of an SMS."""
    title, body = push_of(news, words, chars_max=chars_max)
    text = f"{title}: {body}" + (f" {news.url}" if news.url else "")
    return text if news.url else line(text, SMS_CHARS)


def letter_of(news: News, words: Words, *, chars_max: int, stop_url: str = "") -> Letter:
    """Return the words of an email about messages."""
    title = line(news.title, NAME_CHARS) or words.chat
    subject = (
        words.subject_many.format(n=news.n, title=title)
        if news.n > 1
        else words.subject_one.format(sender=_name(news.said[-1].sender, words))
    )
    quoted = [
        (_name(each.sender, words), line(each.text, chars_max) or words.new) for each in news.said
    ]
    more = words.more.format(n=news.n - len(quoted)) if news.n > len(quoted) else ""
    lines = [f"{sender}: {text}" for sender, text in quoted]
    rows = [
        f"<p><strong>{html.escape(sender)}</strong><br>{html.escape(text)}</p>"
        for sender, text in quoted
    ]
    if more:
        lines.append(more)
        rows.append(f"<p>{html.escape(more)}</p>")
    links = [(words.open, news.url), (words.stop, stop_url)]
    return _letter(line(subject, SUBJECT_CHARS), lines, rows, links)


def letter_of_event(title: str, body: str, words: Words, *, stop_url: str = "") -> Letter:
    """Return the words of an email about something other than messages."""
    paragraphs = [part for each in clean(body).splitlines() if (part := line(each, 2_000))]
    rows = [f"<p><strong>{html.escape(line(title, 200))}</strong></p>"]
    rows += [f"<p>{html.escape(part)}</p>" for part in paragraphs]
    lines = paragraphs or [line(title, 200)]
    return _letter(line(title, SUBJECT_CHARS), lines, rows, [(words.stop, stop_url)])


def _letter(
    subject: str, lines: Sequence[str], rows: Sequence[str], links: Sequence[tuple[str, str]]
) -> Letter:
    present = [(name, url) for name, url in links if url]
    text = "\n\n".join([*lines, *(f"{name}: {url}" for name, url in present)])
    anchors = [
        f'<p><a href="{html.escape(url)}">{html.escape(name)}</a></p>' for name, url in present
    ]
    body = "\n".join(["<body>", *rows, *anchors, "</body>"])
    head = '<!doctype html>\n<html><head><meta charset="utf-8"></head>'
    return Letter(subject, f"{text}\n", f"{head}\n{body}\n</html>\n")


def _name(name: str, words: Words) -> str:
    return line(name, NAME_CHARS) or words.someone


def _is_break(char: str) -> bool:
    return unicodedata.category(char) in {"Cc", "Zl", "Zp"}

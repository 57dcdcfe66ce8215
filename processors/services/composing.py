"""Puts a delivery into the words and the form of its channel."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from uuid import UUID

from processors.rules.notices import (
    News,
    Words,
    letter_of,
    letter_of_event,
    line,
    push_of,
    sms_of,
    words_of,
)
from processors.rules.preferences import DIGEST, MESSAGE
from processors.rules.unsubscribe import Unsubscribe as Unsubscription
from processors.rules.unsubscribe import unsubscribe_url
from processors.senders.base import Mail, Push, Sms
from processors.services.deliveries import Case
from processors.settings.email import EmailSettings

Unsubscribe = Callable[[UUID, str], str]
"""Makes the address by which a user stops email of one type, or an empty string."""


def unsubscribe_links(settings: EmailSettings) -> Unsubscribe:
    """Make what signs the links that end email of one type; without keys there are none."""

    def link(user_id: UUID, type_: str) -> str:
        if not settings.unsubscribe_url:
            return ""
        wish = Unsubscription(user_id=user_id, type=type_, channel="email")
        return unsubscribe_url(settings.unsubscribe_url, wish, settings.keys)

    return link


TITLE_CHARS = 200
BODY_CHARS = 2_000
SMS_CHARS = 300


def compose_push(case: Case, news: News | None, now: datetime) -> Push:
    """Write a push."""
    row = case.row
    words = words_of(row["locale"])
    expires_at = row["expires_at"]
    if news is None:
        title = line(row["payload"].get("title", ""), TITLE_CHARS) or words.new
        body = line(row["payload"].get("body", ""), BODY_CHARS)
    else:
        title, body = push_of(news, words, chars_max=case.settings.preview_chars_max)
    return Push(
        delivery_id=case.id,
        title=title,
        body=body,
        data=_data(case),
        badge=row["unread"],
        # A digest replaces the one before it; of single messages and events each is shown.
        collapse_key=str(row["conversation_id"]) if row["type"] == DIGEST else "",
        ttl_s=86_400 if expires_at is None else int((expires_at - now).total_seconds()),
    )


def compose_mail(case: Case, news: News | None, unsubscribe: Unsubscribe) -> Mail:
    """Write an email."""
    row = case.row
    words = words_of(row["locale"])
    kind = MESSAGE if row["type"] == DIGEST else row["type"]
    stop_url = "" if case.is_mandatory else unsubscribe(row["user_id"], kind)
    if news is None:
        title, body = row["payload"].get("title", ""), row["payload"].get("body", "")
        letter = letter_of_event(title, body, words, stop_url=stop_url)
    else:
        chars_max = case.settings.preview_chars_max
        letter = letter_of(news, words, chars_max=chars_max, stop_url=stop_url)
    return Mail(
        delivery_id=case.id,
        to=case.address,
        subject=letter.subject,
        text=letter.text,
        html=letter.html,
        thread=str(row["conversation_id"] or "") if news is not None else "",
        unsubscribe_url=stop_url,
    )


def compose_sms(case: Case, news: News | None) -> Sms:
    """Write an SMS; it knows of earlier tries that may have reached the provider."""
    row = case.row
    words = words_of(row["locale"])
    return Sms(
        delivery_id=case.id,
        to=case.address,
        text=_sms_text(case, news, words),
        tried_from_ms=_unix_ms(row["first_tried_at"]),
        tried_until_ms=_unix_ms(row["last_tried_at"]),
    )


def _sms_text(case: Case, news: News | None, words: Words) -> str:
    if news is not None:
        return sms_of(news, words, chars_max=case.settings.preview_chars_max)
    payload = case.row["payload"]
    parts = [part for part in (payload.get("title", ""), payload.get("body", "")) if part]
    return line(": ".join(parts), SMS_CHARS)


def _data(case: Case) -> dict[str, str]:
    row = case.row
    own = {
        "type": row["type"],
        "notificationId": row["notification_id"],
        "conversationId": row["conversation_id"],
        "messageId": row["message_id"],
        "seq": row["seq"],
    }
    told = {name: str(value) for name, value in own.items() if value is not None}
    return {**row["payload"].get("data", {}), **told}


def _unix_ms(at: datetime | None) -> int:
    return 0 if at is None else int(at.timestamp() * 1000)

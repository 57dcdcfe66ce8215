"""
The way out for SMS: Twilio's API for messages, or one like it.

The API has no key by which a repeated request is known. So a text whose request got no answer is
never simply sent again: the provider is asked whether it has the text, at once and before each
further attempt, and only when it had time enough to take it and has not got it, it is sent.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final
from urllib.parse import urlencode
from uuid import UUID

from engine import Clock, SystemClock
from processors.rules.answers import Answer, Kind
from processors.rules.retry_after import retry_after_ms
from processors.rules.sms import is_same_text, measure, shorten
from processors.rules.sms_answers import STATUS_PATH, create_answer, report_of
from processors.senders.base import Sms
from processors.senders.numbers import Numbers
from processors.senders.sms_api import NotAsked, Reply, SmsApi, Text, Unanswered, read
from processors.settings.sms import SmsSettings

SKEW_MS: Final = 60_000
"""By how much the provider's clock may be behind ours, so that no text is overlooked."""

NOT_FOUND: Final = "not-found"
TRIAL: Final = "Sent from your Twilio trial account - "

Others = Callable[[Sequence[str], UUID], Awaitable[Collection[str]]]
"""Of some texts' ids at the provider, tells those known to be of deliveries other than this one."""


class SmsApiSender:
    """
    Sends texts, and finds out what became of those without an answer.

    What a delivery says may have changed between two attempts. So a text of ours to the number,
    of those minutes, that is not known to be of another delivery leaves it open, whatever it says.

    Args:
        api: The provider.
        numbers: Which numbers may be written to.
        settings: Who texts are from, and how long they may be.
        clock: Gives the time.
        others: Tells which texts are known to be of other deliveries.
    """

    def __init__(
        self,
        api: SmsApi,
        numbers: Numbers,
        settings: SmsSettings,
        *,
        clock: Clock,
        others: Others,
    ) -> None:
        self._api = api
        self._numbers = numbers
        self._settings = settings
        self._clock = clock
        self._others = others

    async def send(self, sms: Sms) -> Answer:
        """Ask the provider once; trouble is an answer, never an exception."""
        if not self._numbers.is_number(sms.to):
            return Answer(Kind.TARGET_GONE, "bad-number")
        if not self._numbers.is_allowed(sms.to):
            return Answer(Kind.REFUSED, "country-not-allowed")
        if measure(sms.text).count == 0:
            return Answer(Kind.REFUSED, "empty-text")
        text = shorten(sms.text, self._settings.segments_max)
        if text != sms.text and self._settings.too_long == "refuse":
            return Answer(Kind.REFUSED, "too-long")
        if sms.tried_from_ms:
            known = await self._known(sms, text)
            if known:
                return known
        return await self._create(sms, text)

    async def close(self) -> None:
        """End the connections."""
        await self._api.close()

    async def _create(self, sms: Sms, text: str) -> Answer:
        now_ms = self._clock.now_ms()
        try:
            reply = await self._api.create(self._fields(sms, text))
        except NotAsked as error:
            return Answer(error.kind, error.code)
        except Unanswered:
            return await self._found_out(sms, text, since_ms=now_ms)
        if 200 <= reply.status <= 299:
            return _taken(read(reply.body, Text) or Text())
        refusal = self._refusal(reply)
        return refusal or await self._found_out(sms, text, since_ms=now_ms)

    def _refusal(self, reply: Reply) -> Answer | None:
        told = read(reply.body, Text)
        wait_ms = retry_after_ms(reply.headers, now_ms=self._clock.now_ms())
        return create_answer(reply.status, (told and told.code) or 0, wait_ms)

    async def _known(self, sms: Sms, text: str) -> Answer | None:
        """
        Say what became of earlier attempts.

        Returns:
            The answer for them, or None where the provider certainly has not got the text.
        """
        answer = await self._found_out(sms, text, since_ms=sms.tried_from_ms)
        rest_ms = max(sms.tried_from_ms, sms.tried_until_ms) + self._settings.settle_ms
        rest_ms -= self._clock.now_ms()
        if answer.code != NOT_FOUND:
            return answer
        # It may still be on its way there.
        return None if rest_ms <= 0 else Answer(Kind.UNKNOWN, NOT_FOUND, retry_after_ms=rest_ms)

    async def _found_out(self, sms: Sms, text: str, *, since_ms: int) -> Answer:
        """Ask the provider whether it has a text, after an attempt that got no answer."""
        wait_ms = self._settings.settle_ms
        try:
            texts = await self._api.texts_to(sms.to, since_ms - SKEW_MS)
        except Unanswered:
            return Answer(Kind.UNKNOWN, "not-answered", retry_after_ms=wait_ms)
        ours = [each for each in texts if self._is_ours(each)]
        others = await self._others([each.sid or "" for each in ours], sms.delivery_id)
        left = [each for each in ours if each.sid not in others]
        for each in left:
            if is_same_text((each.body or "").removeprefix(TRIAL), text):
                return _taken(each)
        return Answer(Kind.UNKNOWN, "not-certain" if left else NOT_FOUND, retry_after_ms=wait_ms)

    def _is_ours(self, text: Text) -> bool:
        """Say whether we may have sent a text, and not somebody else with the same account."""
        if self._settings.messaging_service:
            return text.service in {None, self._settings.messaging_service}
        return text.sender in {None, self._settings.sender}

    def _fields(self, sms: Sms, text: str) -> dict[str, str]:
        settings = self._settings
        fields = {"To": sms.to, "Body": text}
        if settings.messaging_service:
            fields["MessagingServiceSid"] = settings.messaging_service
        else:
            fields["From"] = settings.sender
        if settings.webhook_url:
            query = urlencode({"delivery": str(sms.delivery_id)})
            fields["StatusCallback"] = f"{settings.webhook_url.rstrip('/')}{STATUS_PATH}?{query}"
        return fields


def _taken(text: Text) -> Answer:
    """Say what it means that the provider has a text; it may have failed already."""
    sid = text.sid or ""
    report = report_of(str(text.status or ""), text.error_code or 0)
    if report is None or report.status == "delivered":
        return Answer(Kind.SENT, str(text.status or ""), provider_id=sid)
    kind = Kind.REFUSED if report.status == "failed" else Kind.TARGET_GONE
    return Answer(kind, report.code, provider_id=sid)


def open_sms_sender(
    settings: SmsSettings, *, clock: Clock | None = None, others: Others
) -> SmsApiSender | None:
    """
    Make the sender that the settings ask for; None where SMS is off. ``close()`` ends it.

    Nothing is connected to before there is something to send.

    Args:
        settings: The provider, and who texts are from.
        clock: Gives the time.
        others: Tells which texts at the provider are known to be of other deliveries.

    Raises:
        ConfigurationError: A setting is at fault, or the library is not installed.
    """
    if not settings.account_sid:
        return None
    numbers = Numbers(settings.countries)
    return SmsApiSender(
        SmsApi(settings), numbers, settings, clock=clock or SystemClock(), others=others
    )

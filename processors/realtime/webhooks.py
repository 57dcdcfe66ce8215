"""
What others call: the SMS provider with news of texts, mail programs and people to unsubscribe.

News becomes ``status`` jobs of ``notification``, one per text and state however often it is told.
So nothing is lost while the database is away, and the answer follows only once a job is accepted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final
from urllib.parse import parse_qsl
from uuid import UUID

import structlog
from aiohttp import web

from engine import Client, EngineError
from processors.errors import DatabaseError, Refused
from processors.realtime import pages
from processors.rules.addresses import address_hash
from processors.rules.sms_answers import (
    INBOUND_PATH,
    STATUS_PATH,
    is_signed,
    opt_out,
    report_of,
)
from processors.rules.unsubscribe import Unsubscribe, read_unsubscribe
from processors.settings import ProcessorSettings
from schemas.messages import RecordStatus

log = structlog.get_logger("processors.webhooks")

QUEUE: Final = "notification"
BODY_BYTES_MAX: Final = 65_536
BODY_S_MAX: Final = 10.0
FIELDS_MAX: Final = 200
SID_CHARS_MAX: Final = 64
RETRY_S: Final = "30"
NO_REPLY: Final = '<?xml version="1.0" encoding="UTF-8"?><Response/>'

Fields = list[tuple[str, str]]
Unsubscriber = Callable[[Unsubscribe], Awaitable[None]]


def webhooks(
    settings: ProcessorSettings, *, producer: Client, unsubscribe: Unsubscriber
) -> web.Application:
    """Make an application of the webhooks alone; see :func:`webhook_routes`."""
    app = web.Application()
    app.add_routes(webhook_routes(settings, producer=producer, unsubscribe=unsubscribe))
    return app


def webhook_routes(
    settings: ProcessorSettings, *, producer: Client, unsubscribe: Unsubscriber
) -> list[web.RouteDef]:
    """
    List the routes of the webhooks, for an application that has others as well.

    Those of a part that is not set up are left out: without ``PROCESSORS_SMS_WEBHOOK_URL``, or
    without ``PROCESSORS_EMAIL_UNSUBSCRIBE_URL``.

    Args:
        settings: Secrets and public addresses.
        producer: Takes the jobs.
        unsubscribe: Does what a link asks for; may raise Refused where there is nobody to do it
            for, and DatabaseError where it must be tried again.
    """
    routes = []
    if settings.sms.webhook_url:
        sms = _Sms(settings, producer)
        routes += [
            web.post(STATUS_PATH, sms.status),
            web.post(INBOUND_PATH, sms.inbound),
        ]
    if settings.email.unsubscribe_url:
        links = _Links(settings, unsubscribe)
        routes += [
            web.get("/unsubscribe/{token}", links.ask),
            web.post("/unsubscribe/{token}", links.do),
        ]
    return routes


class _Sms:
    """What the SMS provider tells."""

    def __init__(self, settings: ProcessorSettings, producer: Client) -> None:
        self._settings = settings.sms
        self._producer = producer

    async def status(self, request: web.Request) -> web.Response:
        """Take news of a text that we sent."""
        fields = dict(await self._signed(request, STATUS_PATH))
        sid = fields.get("MessageSid", "")[:SID_CHARS_MAX]
        code = fields.get("ErrorCode", "")
        report = report_of(
            fields.get("MessageStatus", ""), int(code) if code.isascii() and code.isdigit() else 0
        )
        if report and sid:
            is_of_number = report.status in {"bounced", "stopped"} and "To" in fields
            await self._report(
                f"sms-{sid}-{report.status}",
                RecordStatus(
                    channel="sms",
                    state=report.status,
                    provider_id=sid,
                    delivery_id=_uuid(request.query.get("delivery", "")),
                    address_hash=address_hash("sms", fields["To"]).hex() if is_of_number else None,
                    code=report.code[:SID_CHARS_MAX],
                ),
                key=f"sms-{sid}",
            )
        return web.Response(status=204)

    async def inbound(self, request: web.Request) -> web.Response:
        """Take a text that a recipient sent us: STOP, START, or anything else, which is ignored."""
        fields = dict(await self._signed(request, INBOUND_PATH))
        sid, number = fields.get("MessageSid", "")[:SID_CHARS_MAX], fields.get("From", "")
        state = opt_out(fields.get("Body", ""), fields.get("OptOutType", ""))
        if state and sid and number:
            hashed = address_hash("sms", number).hex()
            # In the order of their coming: who stops and starts again wants to be written to.
            await self._report(
                f"sms-{sid}-{state}",
                RecordStatus(channel="sms", state=state, address_hash=hashed, code=state),
                key=f"sms-{hashed}",
            )
        return web.Response(text=NO_REPLY, content_type="text/xml")

    async def _report(self, job_id: str, status: RecordStatus, *, key: str) -> None:
        try:
            await self._producer.enqueue(QUEUE, status, queue=QUEUE, id=job_id, key=key)
        except EngineError as error:
            log.warning("webhook_put_off", reason=type(error).__name__)
            raise web.HTTPServiceUnavailable(headers={"Retry-After": RETRY_S}) from None

    async def _signed(self, request: web.Request, path: str) -> Fields:
        """Read a form that the provider has signed; whoever else sends one is refused."""
        fields = _form(await _body(request))
        # As the provider was told it: what is in front of us may have changed all of it.
        url = self._settings.webhook_url.rstrip("/") + path
        if query := request.rel_url.raw_query_string:
            url += f"?{query}"
        given = request.headers.get("X-Twilio-Signature", "")
        if not is_signed(given, url, fields, self._settings.tokens):
            log.warning("webhook_refused", path=request.path, reason="signature")
            raise web.HTTPForbidden
        return fields


class _Links:
    """Links by which people unsubscribe, and mail programs for them (RFC 8058)."""

    def __init__(self, settings: ProcessorSettings, unsubscribe: Unsubscriber) -> None:
        self._keys = settings.email.keys
        self._unsubscribe = unsubscribe

    async def ask(self, request: web.Request) -> web.Response:
        """Show a page with a button; programs follow links, so this changes nothing."""
        wish = self._wish(request)
        return _page(pages.asking(wish.type, wish.channel)) if wish else _unknown()

    async def do(self, request: web.Request) -> web.Response:
        """Unsubscribe; the body says nothing that the link does not."""
        await _body(request)
        wish = self._wish(request)
        if wish is None:
            return _unknown()
        try:
            await self._unsubscribe(wish)
        except Refused:
            return _unknown()
        except (DatabaseError, EngineError) as error:
            log.warning("unsubscribe_put_off", reason=type(error).__name__)
            return _page(pages.later(), status=503, headers={"Retry-After": RETRY_S})
        log.info("unsubscribed", user_id=str(wish.user_id), type=wish.type, channel=wish.channel)
        return _page(pages.done(wish.type, wish.channel))

    def _wish(self, request: web.Request) -> Unsubscribe | None:
        return read_unsubscribe(request.match_info["token"], self._keys)


async def _body(request: web.Request) -> bytes:
    """Read a body, which may not be long, nor take long."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S_MAX):
            async for chunk in request.content.iter_chunked(BODY_BYTES_MAX):
                body += chunk
                if len(body) > BODY_BYTES_MAX:
                    raise web.HTTPRequestEntityTooLarge(BODY_BYTES_MAX, len(body))
    except TimeoutError:
        raise web.HTTPRequestTimeout from None
    return bytes(body)


def _form(body: bytes) -> Fields:
    try:
        return parse_qsl(
            body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=FIELDS_MAX
        )
    except ValueError:
        raise web.HTTPBadRequest from None


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _page(html: str, *, status: int = 200, headers: dict[str, Any] | None = None) -> web.Response:
    return web.Response(
        text=html,
        status=status,
        content_type="text/html",
        charset="utf-8",
        headers={**pages.HEADERS, **(headers or {})},
    )


def _unknown() -> web.Response:
    return _page(pages.unknown(), status=404)

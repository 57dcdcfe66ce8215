"""
An SMS provider with the API of Twilio: takes texts, lists them, reports on them with signatures.

Its script says for each request to come whether it is refused, left without an answer before or
after the text was taken, or cut off.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any, Final, Literal
from urllib.parse import urlencode

import aiohttp
from aiohttp import web

from processors.rules.sms_answers import signature

HOST: Final = "127.0.0.1"
ACCOUNT: Final = "AC00000000000000000000000000000001"
TOKEN: Final = "the token of the account"
SENDER: Final = "+14155550199"
SIGNED_IN: Final = f"Basic {base64.b64encode(f'{ACCOUNT}:{TOKEN}'.encode()).decode()}"


@dataclass(frozen=True)
class Refuse:
    """Answer a request with an error."""

    http: int
    code: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None


Trouble = Literal["hang-before", "hang-after", "close-before", "close-after", "hide"]
"""Before or after the text is taken; ``hide``: as hang-after, and not listed before `reveal`."""


@dataclass
class Text:
    """One text that was taken."""

    sid: str
    to: str
    sender: str
    body: str
    created: datetime
    callback: str
    status: str = "queued"
    error_code: int | None = None
    direction: str = "outbound-api"
    service: str = ""
    hidden: bool = False

    @property
    def line(self) -> str:
        """The text on one line, for people."""
        return f"sms → {self.to}: {self.body}"

    def shown(self) -> dict[str, Any]:
        """Return the text as the API shows it."""
        return {
            "account_sid": ACCOUNT,
            "sid": self.sid,
            "to": self.to,
            "from": self.sender or None,
            "messaging_service_sid": self.service or None,
            "body": self.body,
            "direction": self.direction,
            "status": self.status,
            "error_code": self.error_code,
            "date_created": format_datetime(self.created),
            "num_segments": "1",
        }


def by_number(number: str) -> Refuse | None:
    """Refuse numbers that ask for it: those on ``0009`` have sent STOP."""
    return Refuse(400, 21610) if number.endswith("0009") else None


@dataclass
class SmsPeer:
    """
    The provider; an asynchronous context manager.

    Attributes:
        creating: What happens to the next requests to take a text, in their order.
        rule: How recipients are refused by their number, such as :func:`by_number`.
        reports: Tell callbacks at once that texts were sent and delivered.
        listing: What happens to the next requests for the list.
        now: Gives its time.
        on_arrival: Is told of each text.
        page_texts: Texts on one page of the list, at most.
        listed: Requests for the list so far.
        asked: Requests to take a text so far.
    """

    creating: deque[Refuse | Trouble] = field(default_factory=deque)
    rule: Callable[[str], Refuse | None] | None = None
    reports: bool = False
    listing: deque[Refuse | Trouble] = field(default_factory=deque)
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    on_arrival: Callable[[str], None] | None = None
    page_texts: int = 200
    port: int = 0
    texts: list[Text] = field(default_factory=list)
    listed: int = 0
    asked: int = 0

    name: str = "sms"

    def environ(self) -> dict[str, str]:
        """Return the settings that make an engine send here."""
        return {
            "PROCESSORS_SMS_ACCOUNT_SID": ACCOUNT,
            "PROCESSORS_SMS_AUTH_TOKEN": TOKEN,
            "PROCESSORS_SMS_SENDER": SENDER,
            "PROCESSORS_SMS_URL": f"http://{HOST}:{self.port}",
        }

    async def start(self) -> None:
        """Listen, on a port of the system's choice where none is set."""
        self._gone = asyncio.Event()
        self._reporting: set[asyncio.Task[None]] = set()
        app = web.Application()
        path = "/2010-04-01/Accounts/{account}/Messages"
        app.router.add_post(f"{path}.json", self._create)
        app.router.add_get(f"{path}.json", self._list)
        app.router.add_get(f"{path}/{{sid}}.json", self._look)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, HOST, self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]
        self._session = aiohttp.ClientSession()

    async def stop(self) -> None:
        """End, those who wait included."""
        self._gone.set()
        for task in self._reporting:
            task.cancel()
        await asyncio.gather(*self._reporting, return_exceptions=True)
        await self._session.close()
        await self._runner.cleanup()

    async def __aenter__(self) -> SmsPeer:
        await self.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.stop()

    async def reported(self) -> None:
        """Wait until all reports so far were told."""
        await asyncio.gather(*self._reporting)

    def reveal(self) -> None:
        """List all that was hidden."""
        for text in self.texts:
            text.hidden = False

    async def report(self, text: Text, status: str, error_code: int | None = None) -> int:
        """Tell the callback of a text what became of it; returns the HTTP status."""
        text.status, text.error_code = status, error_code
        fields = {
            "MessageSid": text.sid,
            "MessageStatus": status,
            "To": text.to,
            "From": text.sender,
        }
        if error_code is not None:
            fields["ErrorCode"] = str(error_code)
        return await self.call(text.callback, fields)

    async def call(
        self, url: str, fields: dict[str, str], *, token: str = TOKEN, signed_url: str = ""
    ) -> int:
        """Make a signed request; returns the HTTP status."""
        headers = {
            "X-Twilio-Signature": signature(signed_url or url, fields.items(), token),
            "Content-Type": "application/x-www-form-urlencoded",
        }
        async with self._session.post(url, data=urlencode(fields), headers=headers) as response:
            await response.read()
            return response.status

    async def _create(self, request: web.Request) -> web.StreamResponse:
        self.asked += 1
        if refused := _stranger(request):
            return refused
        step = self.creating.popleft() if self.creating else None
        if isinstance(step, Refuse):
            return _refusal(step)
        fields = await request.post()
        if not fields.get("To") or not fields.get("Body"):
            return _refusal(Refuse(400, 21604))
        if self.rule and (refused_number := self.rule(str(fields["To"]))):
            return _refusal(refused_number)
        if step in {"hang-before", "close-before"}:
            return await self._leave(request, step)
        text = Text(
            sid=f"SM{len(self.texts):032x}",
            to=str(fields["To"]),
            sender=str(fields.get("From", "")),
            service=str(fields.get("MessagingServiceSid", "")),
            body=str(fields["Body"]),
            created=self.now(),
            callback=str(fields.get("StatusCallback", "")),
            hidden=step == "hide",
        )
        self.texts.append(text)
        if self.on_arrival:
            self.on_arrival(text.line)
        if self.reports and text.callback:
            task = asyncio.create_task(self._report_on(text))
            self._reporting.add(task)
            task.add_done_callback(self._reporting.discard)
        if step:
            return await self._leave(request, step)
        return web.json_response(text.shown(), status=201)

    async def _report_on(self, text: Text) -> None:
        # Nobody may be there to hear it.
        with contextlib.suppress(aiohttp.ClientError):
            for status in ("sent", "delivered"):
                await self.report(text, status)

    async def _list(self, request: web.Request) -> web.StreamResponse:
        self.listed += 1
        if refused := _stranger(request):
            return refused
        step = self.listing.popleft() if self.listing else None
        if isinstance(step, Refuse):
            return _refusal(step)
        if step:
            return await self._leave(request, step)
        number = request.query.get("To", "")
        wanted = [text for text in self.texts if text.to == number and not text.hidden]
        wanted.sort(key=lambda text: text.created, reverse=True)
        size = min(self.page_texts, int(request.query.get("PageSize", "50")))
        start = int(request.query.get("Page", "0")) * size
        query = urlencode({"To": number, "PageSize": size, "Page": start // size + 1})
        more = f"{request.path}?{query}" if start + size < len(wanted) else None
        page = [text.shown() for text in wanted[start : start + size]]
        return web.json_response({"messages": page, "next_page_uri": more, "page_size": size})

    async def _look(self, request: web.Request) -> web.StreamResponse:
        if refused := _stranger(request):
            return refused
        for text in self.texts:
            if text.sid == request.match_info["sid"]:
                return web.json_response(text.shown())
        return _refusal(Refuse(404, 20404))

    async def _leave(self, request: web.Request, step: Trouble) -> web.StreamResponse:
        """Never answer: hold the line, or cut it."""
        assert request.transport
        if step in {"close-before", "close-after"}:
            request.transport.abort()
        await self._gone.wait()
        raise web.HTTPServiceUnavailable


def _stranger(request: web.Request) -> web.Response | None:
    """Refuse whoever is not the account."""
    if request.headers.get("Authorization") != SIGNED_IN:
        return _refusal(Refuse(401, 20003))
    if request.match_info["account"] != ACCOUNT:
        return _refusal(Refuse(404, 20404))
    return None


def _refusal(step: Refuse) -> web.Response:
    if step.body is not None:
        return web.Response(status=step.http, body=step.body, headers=step.headers)
    told = {"code": step.code or None, "message": "no", "status": step.http}
    return web.json_response(told, status=step.http, headers=step.headers)

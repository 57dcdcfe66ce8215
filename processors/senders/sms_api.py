"""The two requests that are made of an SMS provider: to take a text, and to list what it has."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final, TypeVar

import aiohttp
import msgspec
from yarl import URL

from processors.rules.answers import Kind
from processors.settings.sms import SmsSettings

VERSION: Final = "2010-04-01"
BODY_BYTES_MAX: Final = 4 * 1_048_576
PAGE_TEXTS: Final = 200
PAGES_MAX: Final = 5

Struct = TypeVar("Struct", bound=msgspec.Struct)


class NotAsked(Exception):
    """
    The request did not leave, so the provider has not got the text.

    Attributes:
        kind: LATER, or MISCONFIGURED where it will not leave until somebody changes something.
        code: Why.
    """

    def __init__(self, kind: Kind, code: str) -> None:
        super().__init__(code)
        self.kind = kind
        self.code = code


class Unanswered(Exception):
    """The request left, and no answer came that can be read."""


@dataclass(frozen=True, slots=True)
class Reply:
    """
    An answer.

    Attributes:
        status: The HTTP status.
        headers: Its headers.
        body: Its body.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


class Text(msgspec.Struct, frozen=True):
    """
    One text as the provider keeps it, or its refusal of one.

    Attributes:
        sid: Its id.
        status: Its state; in a refusal the HTTP status.
        sender: The number or name it came from.
        service: The messaging service that chose it.
        to: The recipient.
        body: The text.
        direction: ``outbound-api`` for ours; ``inbound`` for what recipients send.
        date_created: When the provider took it.
        code: In a refusal: why.
        error_code: Why it failed later.
    """

    sid: str | None = None
    status: str | int | None = None
    sender: str | None = msgspec.field(default=None, name="from")
    service: str | None = msgspec.field(default=None, name="messaging_service_sid")
    to: str | None = None
    body: str | None = None
    direction: str | None = None
    date_created: str | None = None
    code: int | None = None
    error_code: int | None = None

    @property
    def created_ms(self) -> int:
        """Unix ms of when the provider took it; 0 where it does not say."""
        try:
            at = parsedate_to_datetime(self.date_created or "")
        except ValueError:
            return 0
        return round(at.replace(tzinfo=at.tzinfo or UTC).timestamp() * 1000)


class Page(msgspec.Struct, frozen=True):
    """One page of the list, the newest first."""

    messages: list[Text]
    next_page_uri: str | None = None


class SmsApi:
    """
    Makes the requests, over connections that are kept; the first one opens the session.

    Args:
        settings: Where to, as whom, how long.
    """

    def __init__(self, settings: SmsSettings) -> None:
        self._settings = settings
        self._session: aiohttp.ClientSession | None = None
        self._texts = (
            URL(settings.url) / VERSION / "Accounts" / settings.account_sid / "Messages.json"
        )

    async def create(self, fields: Mapping[str, str]) -> Reply:
        """
        Ask the provider to take a text.

        Raises:
            NotAsked: The request did not leave.
            Unanswered: Nobody knows what became of it.
        """
        return await self._request("POST", self._texts, data=fields)

    async def texts_to(self, number: str, since_ms: int) -> list[Text]:
        """
        List what was sent to a number since some time, by the provider's clock.

        Raises:
            Unanswered: It could not be found out, or there is too much of it.
        """
        url = self._texts.with_query({"To": number, "PageSize": str(PAGE_TEXTS)})
        found: list[Text] = []
        for _ in range(PAGES_MAX):
            try:
                reply = await self._request("GET", url)
            except NotAsked as error:
                raise Unanswered(error.code) from error
            page = read(reply.body, Page) if reply.status == 200 else None
            if page is None:
                raise Unanswered(f"http-{reply.status}")
            recent = [text for text in page.messages if text.created_ms >= since_ms]
            found += [text for text in recent if (text.direction or "outbound") != "inbound"]
            if not page.next_page_uri or len(recent) < len(page.messages):
                return found
            # Only our host is ever asked, whatever a page names as the next one.
            following = URL(page.next_page_uri, encoded=True)
            url = self._texts.with_path(following.raw_path, encoded=True).with_query(
                following.query
            )
        raise Unanswered("too-many")

    async def close(self) -> None:
        """End the connections."""
        if self._session:
            await self._session.close()
            self._session = None

    async def _request(
        self, method: str, url: URL, *, data: Mapping[str, str] | None = None
    ) -> Reply:
        session = self._opened()
        try:
            async with session.request(method, url, data=data, allow_redirects=False) as response:
                body = await _bounded(response)
                return Reply(response.status, response.headers, body)
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError):
            raise NotAsked(Kind.MISCONFIGURED, "certificate-not-trusted") from None
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
            raise NotAsked(Kind.LATER, "unreachable") from None
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise Unanswered(type(error).__name__) from error

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            total_s = self._settings.timeout_ms / 1000
            self._session = aiohttp.ClientSession(
                headers={"Authorization": basic(*self._settings.sign_in)},
                connector=aiohttp.TCPConnector(limit=self._settings.connections_max),
                # Connecting ends first, so that what did not leave is known as such.
                timeout=aiohttp.ClientTimeout(total=total_s, connect=total_s / 2),
            )
        return self._session


def basic(name: str, password: str) -> str:
    """Write who is asking, as the header Authorization has it."""
    return f"Basic {base64.b64encode(f'{name}:{password}'.encode()).decode()}"


def read(body: bytes, kind: type[Struct]) -> Struct | None:
    """Read an answer; None where it is not what was to be expected."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_chunked(65_536):
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            raise Unanswered("too-large")
    return bytes(body)

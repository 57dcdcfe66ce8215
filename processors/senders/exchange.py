"""One HTTP request that always ends: in an answer, or in a reason why there is none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import aiohttp
from yarl import URL

from processors.rules.answers import Answer, Kind

BODY_BYTES_MAX: Final = 65_536
"""What is read of an answer; none of those we understand is longer."""


@dataclass(frozen=True, slots=True)
class Reply:
    """
    What came back.

    Attributes:
        status: HTTP status.
        headers: HTTP headers, in any case.
        body: As much of the body as is read.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


class NoReply(Exception):
    """
    Nothing came back in time that could be read.

    Attributes:
        code: Why: ``timeout``, ``unreachable``, ``certificate`` or ``connection``.
    """

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code

    @property
    def answer(self) -> Answer:
        """Nobody answered: trouble on the way, or a peer that is not who it should be."""
        kind = Kind.MISCONFIGURED if self.code == "certificate" else Kind.LATER
        return Answer(kind, self.code)


async def post(
    session: aiohttp.ClientSession,
    url: str | URL,
    body: bytes,
    headers: Mapping[str, str],
    *,
    timeout_ms: int,
) -> Reply:
    """
    Post once, follow nothing, and return what came back.

    Raises:
        NoReply: Nothing did; whether the request was acted upon is not known.
    """
    timeout = aiohttp.ClientTimeout(total=timeout_ms / 1000)
    try:
        async with session.post(
            url, data=body, headers=headers, timeout=timeout, allow_redirects=False
        ) as response:
            told = bytearray()
            async for chunk in response.content.iter_any():
                told += chunk[: BODY_BYTES_MAX - len(told)]
                if len(told) == BODY_BYTES_MAX:
                    # The rest is not worth a connection that can be used again.
                    response.close()
                    break
            return Reply(response.status, response.headers, bytes(told))
    except TimeoutError:
        raise NoReply("timeout") from None
    except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError):
        raise NoReply("certificate") from None
    except aiohttp.ClientConnectorError:
        raise NoReply("unreachable") from None
    except (aiohttp.ClientError, OSError):
        raise NoReply("connection") from None

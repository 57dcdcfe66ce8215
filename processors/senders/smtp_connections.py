"""Connections to one mail server, kept open between mails and never more than a few."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from engine import Clock
from processors.rules.smtp import Phase
from processors.settings.email import EmailSettings

if TYPE_CHECKING:
    from aiosmtplib import SMTP

BUSY_S: Final = 5.0
"""How long a mail waits for a connection of the few before it is put off."""

QUIT_S: Final = 1.0


class Busy(Exception):
    """All connections are in use."""


class PhaseOf:
    """How far one dialogue has come, so that trouble can be told with where it struck."""

    phase: Phase = "connect"


@dataclass(slots=True)
class Line:
    """
    One open connection.

    Attributes:
        smtp: The client.
        mails: Mails that went over it.
        rested_from_s: Monotonic seconds of the last use.
    """

    smtp: SMTP
    mails: int = 0
    rested_from_s: float = 0


class Connections:
    """
    Hands out connections that are signed in and ready for MAIL.

    Each command waits with a limit of this class's own. The library's stand on
    ``asyncio.wait_for``, which on Python 3.11 can lose a cancellation.

    Args:
        settings: Where to, how, and how many.
        local_name: What we call ourselves in EHLO.
        tls: The context for TLS; None for none.
        clock: Gives the time for how long a connection rests.
        make: Makes an unconnected client.
    """

    def __init__(
        self,
        settings: EmailSettings,
        *,
        local_name: str,
        tls: ssl.SSLContext | None,
        clock: Clock,
        make: Callable[..., SMTP],
    ) -> None:
        self._settings = settings
        self._local_name = local_name
        self._tls = tls
        self._clock = clock
        self._make = make
        self._free = asyncio.Semaphore(settings.connections_max)
        self._resting: deque[Line] = deque()

    @asynccontextmanager
    async def line(self, place: PhaseOf) -> AsyncIterator[SMTP]:
        """
        Lend a connection; it is kept where the dialogue ended in order, else closed.

        Raises:
            Busy: None is free.
            SMTPException: The server does not want us; also OSError and TimeoutError.
        """
        try:
            async with asyncio.timeout(BUSY_S):
                await self._free.acquire()
        except TimeoutError:
            raise Busy from None
        try:
            line = await self._rested(place) or Line(await self._opened(place))
            try:
                yield line.smtp
            except BaseException:
                line.smtp.close()
                raise
            self._put_back(line)
        finally:
            self._free.release()

    async def close(self) -> None:
        """Say goodbye on all resting connections."""
        while self._resting:
            await _bye(self._resting.pop().smtp)

    def limit(self) -> AbstractAsyncContextManager[object]:
        """Limit the wait for one reply."""
        return asyncio.timeout(self._settings.timeout_ms / 1000)

    def whole_limit(self) -> AbstractAsyncContextManager[object]:
        """Limit one mail's dialogue: many replies that are slow must not outlast its job."""
        return asyncio.timeout(self._settings.dialogue_ms / 1000)

    def _put_back(self, line: Line) -> None:
        line.mails += 1
        line.rested_from_s = self._clock.monotonic()
        if line.smtp.is_connected and line.mails < self._settings.connection_mails_max:
            self._resting.append(line)
        else:
            line.smtp.close()

    async def _rested(self, place: PhaseOf) -> Line | None:
        """Take the connection used last, if it still answers."""
        now_s = self._clock.monotonic()
        while self._resting:
            line = self._resting.pop()
            place.phase = "greeting"
            rested_s = now_s - line.rested_from_s
            if rested_s * 1000 < self._settings.idle_ms and await self._reset(line):
                return line
            line.smtp.close()
        return None

    async def _reset(self, line: Line) -> bool:
        """Forget the last mail, and see whether the server is there; it may have hung up."""
        from aiosmtplib import SMTPException

        with contextlib.suppress(SMTPException, OSError, TimeoutError):
            async with self.limit():
                await line.smtp.rset()
            return True
        return False

    async def _opened(self, place: PhaseOf) -> SMTP:
        settings = self._settings
        smtp = self._make(
            hostname=settings.host,
            port=settings.server_port,
            local_hostname=self._local_name,
            timeout=None,
            use_tls=settings.tls == "tls",
            start_tls=False,
            tls_context=self._tls,
        )
        try:
            place.phase = "connect"
            async with self.limit():
                await smtp.connect()
            place.phase = "greeting"
            async with self.limit():
                await smtp.ehlo()
            if settings.tls == "starttls":
                place.phase = "tls"
                async with self.limit():
                    await smtp.starttls()
                async with self.limit():
                    await smtp.ehlo()
            if settings.username:
                place.phase = "auth"
                async with self.limit():
                    await smtp.login(settings.username, settings.password)
        except BaseException:
            smtp.close()
            raise
        return smtp


async def _bye(smtp: SMTP) -> None:
    from aiosmtplib import SMTPException

    with contextlib.suppress(SMTPException, OSError, TimeoutError):
        async with asyncio.timeout(QUIT_S):
            await smtp.quit()
    smtp.close()

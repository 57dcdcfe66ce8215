"""
The gateway's connection to Redis pub/sub.

Channels are wanted or not; a connection brings the server's subscriptions to what is wanted, and a
lost one is replaced by another that does the same. What was published in between is lost: once
everything is subscribed again, the owner is told so.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

import redis.asyncio
import structlog
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from engine import Clock
from processors.rules.pauses import LogGate, reconnect_delay_s
from processors.services.pubsub import ASK, Choice, Dialect, dialect_of, fixed

log = structlog.get_logger("processors.gateway")

NAMES_AT_ONCE: Final = 500
TICK_S: Final = 5.0
SILENT_S_MAX: Final = 15.0
"""The server answers a ping at each tick; after this long without a word it counts as lost."""

RETRY_BASE_S: Final = 0.1
RETRY_CAP_S: Final = 2.0
LOG_EVERY_S: Final = 30.0

Outage = (RedisError, OSError, TimeoutError)


class Lost(RedisError):
    """The connection does not do what it should."""


class Feed:
    """
    Hears channels until cancelled.

    Args:
        client: Where to listen; it must not repeat commands by itself.
        choice: Which pub/sub; the setting.
        clock: Gives time and chance.
        hear: Called with channel and text of what arrives; must not block or fail.
        restored: Called once everything is subscribed again after a connection was lost.
    """

    def __init__(
        self,
        client: redis.asyncio.Redis,
        choice: Choice,
        clock: Clock,
        *,
        hear: Callable[[str, bytes], None],
        restored: Callable[[], None],
    ) -> None:
        self._client = client
        self._fixed = fixed(choice)
        self._clock = clock
        self._hear = hear
        self._restored = restored
        self._wanted: set[str] = set()
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}
        self._changed = asyncio.Event()
        self._gate = LogGate(LOG_EVERY_S)
        self._is_catching_up = False
        self._reset()
        self.losses = 0
        """Connections that were lost, for the counters."""

    def _reset(self) -> None:
        """Forget what the connection before had."""
        self._sent: set[str] = set()
        self._confirmed: set[str] = set()
        self._asked: Counter[str] = Counter()
        self._heard_s = self._clock.monotonic()
        self._is_open = False

    @property
    def is_up(self) -> bool:
        """Whether all that is wanted is subscribed, as far as is known."""
        return self._is_open and not self._is_catching_up

    async def subscribe(self, channel: str) -> None:
        """Want a channel, and return once the server has it; nothing published later is missed."""
        self._wanted.add(channel)
        if channel in self._confirmed:
            return
        waiter = asyncio.get_running_loop().create_future()
        waiters = self._waiting.setdefault(channel, [])
        waiters.append(waiter)
        self._changed.set()
        try:
            await waiter
        finally:
            waiters.remove(waiter)
            if not waiters and self._waiting.get(channel) is waiters:
                del self._waiting[channel]

    def unsubscribe(self, channel: str) -> None:
        """Want a channel no more."""
        self._wanted.discard(channel)
        self._changed.set()

    async def run(self) -> None:
        """Listen; a connection that is lost is replaced, until cancelled."""
        failures = 0
        while True:
            self._reset()
            try:
                await self._listen()
            except BaseExceptionGroup as group:
                trouble, rest = group.split(Outage)
                if rest is not None:
                    raise
                assert trouble is not None
                error: BaseException = trouble.exceptions[0]
            except Outage as outage:
                error = outage
            # A connection that had come up starts the count anew.
            failures = 1 if self._is_open else failures + 1
            self._is_open = False
            self._is_catching_up = True
            self.losses += 1
            if self._gate.passes(self._clock.monotonic()):
                log.warning(
                    "gateway_lost_redis",
                    error=type(error).__name__,
                    detail=str(error)[:200],
                    failures=failures,
                )
            await self._clock.sleep(
                reconnect_delay_s(
                    failures, self._clock.draw(), base_s=RETRY_BASE_S, cap_s=RETRY_CAP_S
                )
            )

    async def _listen(self) -> None:
        """Serve one connection until it fails."""
        pubsub = self._client.pubsub()
        try:
            async with asyncio.timeout(SILENT_S_MAX):
                dialect = self._fixed or await self._ask(pubsub)
                if self._fixed:
                    await pubsub.connect()  # type: ignore[no-untyped-call]
            self._heard_s = self._clock.monotonic()
            self._is_open = True
            async with asyncio.TaskGroup() as both:
                both.create_task(self._write(pubsub, dialect))
                both.create_task(self._read(pubsub, dialect))
        finally:
            with contextlib.suppress(*Outage):
                await pubsub.aclose()  # type: ignore[no-untyped-call]

    async def _ask(self, pubsub: PubSub) -> Dialect:
        # On the very connection, which may lead to a server other than the one before.
        await pubsub.execute_command(*ASK)
        try:
            return dialect_of(await pubsub.parse_response(block=True))
        except RedisError as error:
            return dialect_of(error)

    async def _write(self, pubsub: PubSub, dialect: Dialect) -> None:
        """Bring the server's subscriptions to what is wanted, and ping it now and then."""
        self._changed.set()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await self._changed.wait()
            silent_s = self._clock.monotonic() - self._heard_s
            if silent_s > SILENT_S_MAX:
                raise Lost(f"no word from the server for {SILENT_S_MAX:g} s")
            if silent_s > TICK_S / 2:
                await pubsub.execute_command("PING")
            self._changed.clear()
            for part in _parts(sorted(self._sent - self._wanted)):
                self._sent.difference_update(part)
                self._confirmed.difference_update(part)
                await pubsub.execute_command(dialect.unsubscribe, *part)
            for part in _parts(sorted(self._wanted - self._sent)):
                self._sent.update(part)
                self._asked.update(part)
                await pubsub.execute_command(dialect.subscribe, *part)
            self._settle()

    async def _read(self, pubsub: PubSub, dialect: Dialect) -> None:
        confirms = dialect.subscribe.lower().encode()
        ends = dialect.unsubscribe.lower().encode()
        while True:
            answer = await pubsub.parse_response(block=True)
            self._heard_s = self._clock.monotonic()
            if not isinstance(answer, list) or len(answer) < 3:
                continue  # the answer to a ping
            kind, channel, content = answer[0], answer[1].decode(), answer[2]
            if kind == dialect.message:
                self._hear(channel, content)
            elif kind == confirms:
                self._confirm(channel)
            elif kind == ends and channel in self._sent and not self._asked[channel]:
                # The server ended it by itself, as when a slot moves.
                raise Lost(f"the server ended the subscription of {channel}")

    def _confirm(self, channel: str) -> None:
        self._asked[channel] -= 1
        if self._asked[channel] > 0:
            # Given up and wanted again meanwhile: only the last one counts.
            return
        del self._asked[channel]
        if channel not in self._sent:
            return
        self._confirmed.add(channel)
        for waiter in self._waiting.pop(channel, []):
            if not waiter.done():
                waiter.set_result(None)
        self._settle()

    def _settle(self) -> None:
        """See whether everything is back."""
        if self._is_catching_up and self._wanted <= self._confirmed:
            self._is_catching_up = False
            self._gate.reset()
            log.info("gateway_found_redis", channels=len(self._confirmed), losses=self.losses)
            self._restored()


def _parts(names: Sequence[str]) -> list[Sequence[str]]:
    return [names[start : start + NAMES_AT_ONCE] for start in range(0, len(names), NAMES_AT_ONCE)]

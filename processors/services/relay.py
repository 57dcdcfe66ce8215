"""
Publishes the outbox to Redis pub/sub.

Each event goes to ``conv:{<conversation id>}`` or ``user:{<user id>}`` as JSON, over the pub/sub
that the server has (:mod:`processors.services.pubsub`). It reaches who listens at that moment, so
events carry their conversation and sequence number, by which a client notices a gap and fetches it
from the database.

Events are published at least once: a relay that dies between publishing and deleting leaves
its claim to run out. Order is that of the rows within one relay; across relays the sequence
number counts.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Final

import asyncpg
import redis.asyncio
import structlog
from redis.exceptions import RedisError

from processors.database import outbox
from processors.database.outbox import Event
from processors.database.pool import Database
from processors.errors import DatabaseError
from processors.rules.pauses import LogGate, reconnect_delay_s
from processors.services.pubsub import Publisher
from processors.settings import ProcessorSettings

log = structlog.get_logger("processors.relay")

PIPELINE_EVENTS: Final = 100
RETRY_BASE_S: Final = 0.1
RETRY_CAP_S: Final = 5.0
LOG_EVERY_S: Final = 30.0

Outage = (RedisError, OSError, TimeoutError, DatabaseError, asyncpg.PostgresError)


class OutboxRelay:
    """
    Moves events from the outbox to pub/sub until cancelled; any number may run side by side.

    Args:
        database: Where the outbox is.
        client: Where to publish.
        settings: Batch, poll interval and duration of a claim.
        draw: Gives uniform numbers in [0, 1), to spread the tries of many relays.
    """

    def __init__(
        self,
        database: Database,
        client: redis.asyncio.Redis,
        settings: ProcessorSettings,
        *,
        draw: Callable[[], float],
    ) -> None:
        self._database = database
        self._publisher = Publisher(client, settings.pubsub)
        self._settings = settings
        self._draw = draw
        self._bell = asyncio.Event()
        self._gate = LogGate(LOG_EVERY_S)
        self._failures = 0

    def wake(self) -> None:
        """Say that an event was committed, so that the relay need not wait for its poll."""
        self._bell.set()

    async def run(self) -> None:
        """Publish what there is, then wait for the bell or the poll; outlives both servers."""
        while True:
            self._bell.clear()
            try:
                published = await self.publish_batch()
            except Outage as error:
                await self._wait_out(error)
                continue
            self._recovered()
            if published < self._settings.outbox_batch_max:
                await self._rest(self._settings.outbox_poll_ms / 1000)

    async def publish_batch(self) -> int:
        """
        Publish one batch and return how many events it had.

        Raises:
            RedisError: Nothing, or a part, was published; the rest was given back.
            DatabaseError: PostgreSQL cannot be reached; claims run out by themselves.
        """
        events = await outbox.claim(
            self._database,
            events_max=self._settings.outbox_batch_max,
            claim_ms=self._settings.outbox_claim_ms,
        )
        for start in range(0, len(events), PIPELINE_EVENTS):
            part = events[start : start + PIPELINE_EVENTS]
            try:
                await self._publish(part)
            except BaseException:
                # Also when the engine stops: the next relay need not wait for the claim to end.
                await asyncio.shield(self._give_back(events[start:]))
                raise
            await outbox.delete(self._database, [event.id for event in part])
        return len(events)

    async def _publish(self, events: Sequence[Event]) -> None:
        await self._publisher.publish([(event.channel, event.payload) for event in events])

    async def _give_back(self, events: Sequence[Event]) -> None:
        try:
            await outbox.release(self._database, [event.id for event in events])
        except (DatabaseError, asyncpg.PostgresError) as error:
            log.debug("outbox_release_failed", error=type(error).__name__, events=len(events))

    async def _rest(self, seconds: float) -> None:
        # Not wait_for, which on Python 3.11 loses a cancellation that comes with the bell.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._bell.wait()

    async def _wait_out(self, error: BaseException) -> None:
        self._failures += 1
        if self._gate.passes(asyncio.get_running_loop().time()):
            log.warning(
                "outbox_relay_waits",
                error=type(error).__name__,
                detail=str(error)[:200],
                failures=self._failures,
            )
        delay_s = reconnect_delay_s(
            self._failures, self._draw(), base_s=RETRY_BASE_S, cap_s=RETRY_CAP_S
        )
        await asyncio.sleep(delay_s)

    def _recovered(self) -> None:
        if self._failures:
            log.info("outbox_relay_resumed", failures=self._failures)
            self._failures = 0
            self._gate.reset()

"""
Acks and reads of all sockets, gathered for a moment and made into jobs.

Positions only move forward, so what is gathered of one user and conversation is one job, and one
that may have been accepted can be sent again. Receipts of all users share jobs.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final
from uuid import UUID

import structlog

from engine import Client, Clock, EngineError, JobRefused, NewJob, Refusal
from processors.realtime.counters import Counters
from processors.rules.pauses import reconnect_delay_s
from schemas.messages import RECEIPTS_MAX, DeliveryConfirmation, Receipt

log = structlog.get_logger("processors.gateway")

JOB: Final = "delivery-confirmation"
GATHERED_MAX: Final = 100_000
"""Positions and receipts that may wait while jobs cannot be enqueued."""

OWN_MAX: Final = 2_000
"""Those of one user, from which on no more are taken, so that others have room too."""


class Confirmations:
    """
    Gathers what clients confirm.

    Args:
        client: Takes the jobs.
        clock: Gives time and chance.
        wait_ms: How long is gathered.
        counters: What is counted.
    """

    def __init__(self, client: Client, clock: Clock, *, wait_ms: int, counters: Counters) -> None:
        self._client = client
        self._clock = clock
        self._wait_ms = wait_ms
        self._counters = counters
        self._marks: dict[tuple[UUID, UUID], tuple[int, int]] = {}
        self._receipts: dict[UUID, dict[UUID, bool]] = {}
        self._count = 0
        self._own: Counter[UUID] = Counter()
        self._bell = asyncio.Event()
        self._turn = asyncio.Lock()

    @property
    def waiting(self) -> int:
        """Positions and receipts that are no job yet."""
        return self._count

    def add(
        self,
        user_id: UUID,
        conversation_id: UUID | None,
        seq: int | None,
        message_ids: Iterable[UUID] = (),
        *,
        is_read: bool,
    ) -> bool:
        """Take a confirmation; False where too many wait already, of all users or of this one."""
        if self._count >= GATHERED_MAX or self._own[user_id] >= OWN_MAX:
            return False
        if conversation_id is not None and seq is not None:
            self._mark(user_id, conversation_id, seq, seq if is_read else 0)
        for message_id in message_ids:
            self._receipt(user_id, message_id, is_read=is_read)
        self._bell.set()
        return True

    async def run(self) -> None:
        """Make jobs of what is gathered, until cancelled."""
        failures = 0
        while True:
            await self._bell.wait()
            await self._clock.sleep(self._wait_ms / 1_000)
            self._bell.clear()
            if await self.flush():
                failures = 0
                continue
            failures += 1
            await self._clock.sleep(
                reconnect_delay_s(failures, self._clock.draw(), base_s=0.2, cap_s=5.0)
            )
            self._bell.set()

    async def flush(self) -> bool:
        """Enqueue what is gathered; what was not accepted is kept, and False returned."""
        async with self._turn:
            return await self._flush()

    async def _flush(self) -> bool:
        todo = list(self._take())
        done = 0
        try:
            async for result in self._client.enqueue_each(
                NewJob(JOB, confirmation) for confirmation in todo
            ):
                if isinstance(result, Refusal):
                    self._kept(todo[done], result.error)
                else:
                    self._counters.confirmed += 1
                done += 1
        except EngineError as error:
            log.debug("gateway_confirming_waits", error=type(error).__name__)
        finally:
            for confirmation in todo[done:]:
                self._give_back(confirmation)
        return self._count == 0

    def _kept(self, confirmation: DeliveryConfirmation, error: EngineError) -> None:
        if isinstance(error, JobRefused):
            # It would be refused again.
            log.error("gateway_confirmation_refused", error=str(error)[:200])
        else:
            self._give_back(confirmation)

    def _mark(self, user_id: UUID, conversation_id: UUID, delivered: int, read: int) -> None:
        key = (user_id, conversation_id)
        self._counted(user_id, is_new=key not in self._marks)
        before = self._marks.get(key, (0, 0))
        self._marks[key] = (max(before[0], delivered), max(before[1], read))

    def _receipt(self, user_id: UUID, message_id: UUID, *, is_read: bool) -> None:
        own = self._receipts.setdefault(user_id, {})
        self._counted(user_id, is_new=message_id not in own)
        own[message_id] = own.get(message_id, False) or is_read

    def _counted(self, user_id: UUID, *, is_new: bool) -> None:
        self._count += is_new
        self._own[user_id] += is_new

    def _take(self) -> Iterator[DeliveryConfirmation]:
        marks, receipts = self._marks, self._receipts
        self._marks, self._receipts, self._count = {}, {}, 0
        self._own.clear()
        for (user_id, conversation_id), (delivered, read) in marks.items():
            yield DeliveryConfirmation(
                user_id=user_id,
                conversation_id=conversation_id,
                delivered_up_to_seq=delivered or None,
                read_up_to_seq=read or None,
            )
        listed = [
            (user_id, message_id, is_read)
            for user_id, own in receipts.items()
            for message_id, is_read in own.items()
        ]
        for start in range(0, len(listed), RECEIPTS_MAX):
            part = listed[start : start + RECEIPTS_MAX]
            yield _confirmation(part[0][0], part)

    def _give_back(self, confirmation: DeliveryConfirmation) -> None:
        if confirmation.conversation_id is not None:
            self._mark(
                confirmation.user_id,
                confirmation.conversation_id,
                confirmation.delivered_up_to_seq or 0,
                confirmation.read_up_to_seq or 0,
            )
        for receipt in confirmation.receipts:
            user_id = receipt.user_id or confirmation.user_id
            self._receipt(user_id, receipt.message_id, is_read=receipt.state == "read")
        self._bell.set()


def _confirmation(owner: UUID, listed: Iterable[tuple[UUID, UUID, bool]]) -> DeliveryConfirmation:
    """Write receipts of several users as one job."""
    return DeliveryConfirmation(
        user_id=owner,
        receipts=tuple(
            Receipt(
                message_id=message_id,
                state="read" if is_read else "delivered",
                user_id=None if user_id == owner else user_id,
            )
            for user_id, message_id, is_read in listed
        ),
    )

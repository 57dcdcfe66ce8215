"""
One message to many recipients, each in their direct conversation with the sender.

What is known of each recipient stands in a row, so a batch goes on wherever it was left: a chunk
of rows is claimed, a ``send-message`` job is queued for each, the rows are marked. The child's id,
which follows from batch and user, is the job's id and the message's client id. A crash between
queueing and marking makes the same child again, which the engine folds and the database refuses:
nobody gets two messages.

A recipient counts as sent or failed once the engine has told how that job ended
(:mod:`processors.services.batch_replies`). After a long silence the messages are looked up.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any, Final, NamedTuple, Protocol
from uuid import UUID

import redis.asyncio
import structlog

from engine import (
    Clock,
    Enqueued,
    EnqueueError,
    EnqueueStopped,
    JobRefused,
    NewJob,
    QueueFull,
    Refusal,
    Shed,
    Snooze,
)
from processors.database import batch_rows
from processors.database.batch_rows import FAILED, QUEUED, WAITING, Batch, Mark, Recipient
from processors.database.pool import Database
from processors.database.statements import conversations
from processors.errors import Refused, ServiceUnavailable
from processors.rules import batches as rules
from processors.rules.content import content_fault
from processors.rules.receipts import EPOCH
from processors.services.batch_replies import READ_MAX, STOPPED, BatchReplies
from processors.settings.batch import BatchSettings
from schemas.messages import BatchProgress, BatchStarted, SendMessage, StartBatch

log = structlog.get_logger("processors.batches")

BATCHES: Final = "batch-message"
"""The queue of batches."""

MESSAGES: Final = "message-delivery"
"""The queue of their messages."""

FULL_MS: Final = 1_000
RUN_S_MAX: Final = 5.0
"""How long one run of the job goes on, before others of its queue have their turn."""

QUIET_MS: Final = 30_000
"""Silence after which the messages themselves are looked up."""

TAKEN_BACK_MAX: Final = 500

Report = Callable[[float, str], Awaitable[None]]


class Producer(Protocol):
    """What is asked of :class:`engine.Client`, which is not to wait for room."""

    def enqueue_each(self, jobs: Any) -> AsyncGenerator[Enqueued | Shed | Refusal, None]:
        """Enqueue jobs and tell what became of each."""

    async def cancel(self, job_id: str, *, queue: str, reason: str = "", who: str = "") -> None:
        """End a job that has not ended."""


class Step(NamedTuple):
    """
    What one chunk came to.

    Attributes:
        progress: How far the batch is.
        wait_ms: When there is more to do; 0 for now.
    """

    progress: BatchProgress
    wait_ms: int

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to do."""
        return self.progress.state in ("finished", "cancelled")


class BatchService:
    """
    Keeps batches and works through them.

    Args:
        database: Where batches are.
        producer: Queues the messages.
        client: Where it is told how they ended.
        settings: Chunk, rate and patience.
        clock: Gives the time that rates count by.
        committed: Called after each commit that left something in the outbox.
    """

    def __init__(
        self,
        database: Database,
        producer: Producer,
        client: redis.asyncio.Redis,
        settings: BatchSettings,
        *,
        clock: Clock,
        committed: Callable[[], None],
    ) -> None:
        self._database = database
        self._producer = producer
        self._replies = BatchReplies(client, MESSAGES)
        self._settings = settings
        self._clock = clock
        self._committed = committed

    async def create(self, start: StartBatch, *, job_id: str) -> BatchStarted:
        """
        Keep a batch and its recipients, and queue the job that works through them.

        Doing it again changes nothing and returns the same.

        Raises:
            Refused: The content or the sender does not allow it, there are too many recipients, or
                the batch's id stands for another one.
        """
        users = list(dict.fromkeys(start.recipient_ids))
        fault = content_fault(start.content)
        if fault:
            raise Refused("invalid-content", fault)
        if len(users) > self._settings.recipients_max:
            most = self._settings.recipients_max
            raise Refused("too-many-recipients", f"{len(users)} recipients, over {most}")
        await self._require_sender(start.sender_id)
        batch_id = start.batch_id or rules.batch_of_job(job_id)
        await batch_rows.create(self._database, batch_id, start, users, queue=BATCHES)
        self._committed()
        duplicates = len(start.recipient_ids) - len(users)
        return BatchStarted(batch_id=batch_id, total=len(users), duplicates=duplicates)

    async def run(self, batch_id: UUID, *, claimant: str, report: Report) -> BatchProgress:
        """
        Work through a batch, and return its summary once all its messages have ended.

        Args:
            batch_id: The batch.
            claimant: Who works: the job's id, by which it takes up what it had claimed.
            report: Told percent and a line for people after each chunk.

        Raises:
            Snooze: There is more to do, now or later.
            Refused: There is no such batch.
            ServiceUnavailable: The queue's server cannot be reached.
        """
        await batch_rows.take_up(self._database, batch_id)
        until_s = self._clock.monotonic() + RUN_S_MAX
        while True:
            step = await self.run_chunk(batch_id, claimant=claimant)
            now = step.progress
            await report(now.percent, f"{now.sent} sent, {now.failed} failed of {now.total}")
            if step.is_over:
                return now
            if step.wait_ms or self._clock.monotonic() >= until_s:
                raise Snooze(step.wait_ms, reason=f"batch {batch_id} is at {now.percent:g} %")

    async def run_chunk(self, batch_id: UUID, *, claimant: str) -> Step:
        """
        Note what has ended, queue one chunk, and tell how far the batch is.

        Raises:
            Refused: There is no such batch.
            ServiceUnavailable: The queue's server cannot be reached.
        """
        batch = await batch_rows.load(self._database, batch_id)
        if not batch.is_finished:
            poll_ms = rules.poll_ms(await self._settle(batch))
            if batch.is_cancelled:
                await self._stop(batch, claimant)
                wait_ms = poll_ms
            else:
                wait_ms = await self._queue_chunk(batch, claimant, poll_ms)
            step = Step(await self._tell(batch), wait_ms)
            if not step.is_over:
                return step
            log.info("batch_finished", batch_id=str(batch_id), state=step.progress.state)
        # Also what a run left behind that died here.
        await self._replies.forget(batch_id)
        return Step(await self.progress(batch_id), 0)

    async def cancel(self, batch_id: UUID) -> BatchProgress:
        """
        Stop a batch: what is not queued stays so, and the job that runs it takes back the rest.

        Raises:
            Refused: There is no such batch.
        """
        await batch_rows.cancel(self._database, batch_id)
        return await self._tell(await batch_rows.load(self._database, batch_id))

    async def progress(self, batch_id: UUID) -> BatchProgress:
        """
        Tell how far a batch is.

        Raises:
            Refused: There is no such batch.
        """
        batch = await batch_rows.load(self._database, batch_id)
        return await batch_rows.count(self._database, batch)

    async def _require_sender(self, user_id: UUID) -> None:
        row = await self._database.fetchrow(conversations.USER, user_id)
        if row is None:
            raise Refused("unknown-user", f"there is no user {user_id}")
        if row["is_disabled"]:
            raise Refused("user-disabled", f"user {user_id} is disabled")

    async def _settle(self, batch: Batch) -> float:
        """Note how messages ended; returns for how many ms none had."""
        heard = 0
        found = READ_MAX
        while found == READ_MAX:
            answers = await self._replies.read(batch.id)
            found = len(answers.entries)
            heard += found
            if found:
                # A child that was brought back has ended twice: the last one counts.
                last = {mark.of: mark for mark in answers.ends}
                await batch_rows.settle(self._database, batch.id, list(last.values()))
                await self._replies.drop(batch.id, answers.entries)
        if heard:
            return 0.0
        if batch.quiet_ms > QUIET_MS:
            give_up = batch.quiet_ms > self._settings.settle_ms_max
            await batch_rows.settle_by_messages(self._database, batch, give_up=give_up)
        return batch.quiet_ms

    async def _queue_chunk(self, batch: Batch, claimant: str, poll_ms: int) -> int:
        """Queue the next chunk as far as room and rate allow; returns when to come back."""
        counts = await batch_rows.count(self._database, batch)
        room = self._settings.queued_max - counts.queued
        if not counts.waiting or room <= 0:
            return poll_ms
        rates = [each for each in (batch.rate_per_s, self._settings.rate_per_s) if each]
        rate_per_s = min(rates, default=0)
        size = min(rules.chunk_within(rate_per_s, self._settings.chunk), room)
        span_ms = 0
        if rate_per_s:
            span_us = rules.span_us(size, rate_per_s)
            wait_ms = await self._reserve(batch, span_us)
            if wait_ms:
                return wait_ms
            span_ms = max(1, span_us // 1000)
        claimed = await batch_rows.claim(
            self._database,
            batch,
            rows_max=size,
            claimant=claimant,
            lease_ms=self._settings.lease_ms,
        )
        if not claimed:
            # Another run has them.
            return poll_ms
        return FULL_MS if await self._enqueue(batch, claimed) else span_ms

    async def _reserve(self, batch: Batch, span_us: int) -> int:
        """Take a chunk's share of the rate; returns how long to wait if it is not there yet."""
        now = EPOCH + timedelta(milliseconds=self._clock.now_ms())
        if await batch_rows.reserve(self._database, batch.id, now, span_us):
            return 0
        found = await batch_rows.load(self._database, batch.id)
        assert found.rate_at is not None
        return max(1, round((found.rate_at - now) / timedelta(milliseconds=1)))

    async def _enqueue(self, batch: Batch, claimed: Sequence[Recipient]) -> bool:
        """Queue the messages of claimed recipients and mark these; tells if the queue is full."""
        marks = [
            Mark(each.ordinal, FAILED, _fault(batch, each))
            for each in claimed
            if _fault(batch, each)
        ]
        able = [each for each in claimed if not _fault(batch, each)]
        results = self._producer.enqueue_each([self._child(batch, each) for each in able])
        outage: EnqueueError | None = None
        is_full = False
        try:
            async with contextlib.aclosing(results):
                places = iter(able)
                async for result in results:
                    ordinal = next(places).ordinal
                    match result:
                        case Refusal(error=JobRefused() as error):
                            marks.append(Mark(ordinal, FAILED, error.rule))
                        case Refusal(error=QueueFull()):
                            is_full = True
                            marks.append(Mark(ordinal, WAITING))
                        case Refusal(error=error):
                            # Left claimed: whether it was queued may not be known.
                            outage = error
                        case _:
                            marks.append(Mark(ordinal, QUEUED))
        except EnqueueStopped as stopped:
            outage = outage or stopped
        await batch_rows.mark(self._database, batch.id, marks)
        if outage is not None:
            raise ServiceUnavailable("queue", str(outage)[:200]) from outage
        return is_full

    def _child(self, batch: Batch, recipient: Recipient) -> NewJob:
        child_id = str(recipient.child_id)
        message = SendMessage(
            conversation_id=recipient.conversation_id,
            sender_id=batch.sender_id,
            content=batch.content,
            client_message_id=child_id,
            kind=batch.kind,
        )
        return NewJob(
            "send-message",
            message,
            queue=MESSAGES,
            lane=self._settings.lane,
            id=child_id,
            reply=self._replies.key(batch.id),
        )

    async def _stop(self, batch: Batch, claimant: str) -> None:
        """Cancel who is not queued, and take back messages that have not ended."""
        await batch_rows.stop(self._database, batch.id, claimant=claimant)
        children = await batch_rows.queued(self._database, batch.id, TAKEN_BACK_MAX)
        reason = f"batch {batch.id}"
        asked = (
            self._producer.cancel(str(child), queue=MESSAGES, reason=reason, who=STOPPED)
            for child in children
        )
        refused = [end for end in await asyncio.gather(*asked, return_exceptions=True) if end]
        if refused:
            # They go out, and count as sent.
            log.warning("batch_not_taken_back", batch_id=str(batch.id), messages=len(refused))
        await batch_rows.taken_back(self._database, batch.id, children)

    async def _tell(self, batch: Batch) -> BatchProgress:
        progress, told = await batch_rows.tell(self._database, batch)
        if told:
            self._committed()
        return progress


def _fault(batch: Batch, recipient: Recipient) -> str | None:
    return "is-sender" if recipient.user_id == batch.sender_id else recipient.fault

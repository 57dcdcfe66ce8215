"""``batch-message``: one message to many recipients, each in their own conversation."""

from __future__ import annotations

from engine import Job
from processors.services.bundle import Services
from schemas.messages import (
    BatchMessage,
    BatchProgress,
    BatchStarted,
    CancelBatch,
    RunBatch,
    StartBatch,
)


async def batch_message(
    job: Job, payload: BatchMessage, services: Services
) -> BatchStarted | BatchProgress:
    """
    Begin a batch, work through it, or stop it.

    Safe to run twice: a batch's id follows from its job, recipients are rows that only move
    forward, and each message's id follows from batch and user.
    """
    match payload:
        case StartBatch():
            return await services.batches.create(payload, job_id=job.id)
        case RunBatch(batch_id=batch_id):
            return await services.batches.run(batch_id, claimant=job.id, report=job.progress)
        case CancelBatch(batch_id=batch_id):
            return await services.batches.cancel(batch_id)

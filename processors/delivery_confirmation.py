"""``delivery-confirmation``: record what recipients received and read."""

from __future__ import annotations

from collections.abc import Sequence

from engine import Job
from processors.services.bundle import Services
from processors.services.receipts import ReceiptOutcome
from schemas.messages import DeliveryConfirmation


async def delivery_confirmation(
    jobs: Sequence[Job], payloads: Sequence[DeliveryConfirmation], services: Services
) -> list[ReceiptOutcome]:
    """
    Apply receipts and watermarks; each job's result says what advanced.

    Safe to run twice: states only move forward, and the inbox returns the first run's result.
    """
    confirmations = {job.id: payload for job, payload in zip(jobs, payloads, strict=True)}
    outcomes = await services.messages.apply_receipts_many(confirmations)
    return [outcomes[job.id] for job in jobs]

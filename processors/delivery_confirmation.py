"""``delivery-confirmation``: record what a recipient received and read."""

from __future__ import annotations

from engine import Job
from processors.services.bundle import Services
from schemas.messages import ConfirmationResult, DeliveryConfirmation


async def delivery_confirmation(
    job: Job, payload: DeliveryConfirmation, services: Services
) -> ConfirmationResult:
    """
    Apply the receipts and watermarks and return what advanced.

    Safe to run twice: states only move forward, and the inbox returns the first run's result.
    """
    return await services.messages.apply_receipts(payload, job_id=job.id)

"""``send-message``: put messages into conversations."""

from __future__ import annotations

from collections.abc import Sequence

from engine import Job
from processors.services.bundle import Services
from processors.services.sending import SendOutcome
from schemas.messages import SendMessage


async def send_message(
    jobs: Sequence[Job], payloads: Sequence[SendMessage], services: Services
) -> list[SendOutcome]:
    """
    Send the messages; each one's result is its id and sequence number.

    Safe to run twice: the sender's client message id is unique in its conversation, and the
    second run returns what the first one stored.
    """
    for job in jobs:
        await job.progress(10, "writing")
    return await services.messages.send_many(payloads)

"""``send-message``: put one message into a conversation."""

from __future__ import annotations

from engine import Job
from processors.services.bundle import Services
from schemas.messages import SendMessage, SendResult


async def send_message(job: Job, payload: SendMessage, services: Services) -> SendResult:  # noqa: ARG001
    """
    Send the message and return its id and sequence number.

    Safe to run twice: the sender's client message id is unique in its conversation, and the
    second run returns what the first one stored.
    """
    return await services.messages.send(payload)

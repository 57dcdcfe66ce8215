"""A small conversation to try the first job on."""

from __future__ import annotations

from typing import Final
from uuid import UUID

import msgspec

from processors.services.conversations import ConversationService
from schemas.messages import DeliveryConfirmation, SendMessage

CONVERSATION: Final = UUID("00000000-0000-4000-8000-000000000100")
ADA: Final = UUID("00000000-0000-4000-8000-000000000001")
BOB: Final = UUID("00000000-0000-4000-8000-000000000002")
CLEO: Final = UUID("00000000-0000-4000-8000-000000000003")

PEOPLE: Final = ((ADA, "ada"), (BOB, "bob"), (CLEO, "cleo"))


async def seed(conversations: ConversationService) -> list[str]:
    """Put the demo conversation in place and return lines that say how to try it."""
    await conversations.ensure(CONVERSATION, "Demo", PEOPLE)
    message = SendMessage(
        conversation_id=CONVERSATION, sender_id=ADA, content="hello", client_message_id="demo-1"
    )
    reading = DeliveryConfirmation(user_id=BOB, conversation_id=CONVERSATION, read_up_to_seq=1)
    people = ", ".join(f"{name} {user_id}" for user_id, name in PEOPLE)
    return [
        f"demo conversation {CONVERSATION}: {people}",
        f"listen: SSUBSCRIBE conv:{{{CONVERSATION}}} (before Redis 7: SUBSCRIBE)",
        f"connect as bob: python -m processors ticket {BOB}",
        f"ada writes: {_xadd('send-message', message)}",
        f"bob reads: {_xadd('delivery-confirmation', reading)}",
    ]


def _xadd(job_type: str, payload: msgspec.Struct) -> str:
    fields = {name: value for name, value in msgspec.to_builtins(payload).items() if value}
    data = msgspec.json.encode(fields).decode()
    return f"XADD mq:{{message-delivery}}:normal * type {job_type} data '{data}'"

"""The senders of one process; a provider that is not set up has none."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from engine import Clock
from processors.senders.base import EmailSender, Provider, PushSender, SmsSender
from processors.senders.email import open_email_sender
from processors.senders.push import open_push_senders
from processors.senders.sms import Others, open_sms_sender
from processors.settings import ProcessorSettings


@dataclass(frozen=True, slots=True)
class Senders:
    """
    The ways out.

    Attributes:
        push: Push providers by name.
        email: Email, if it is set up.
        sms: SMS, if it is set up.
    """

    push: Mapping[Provider, PushSender] = field(default_factory=dict)
    email: EmailSender | None = None
    sms: SmsSender | None = None


@asynccontextmanager
async def open_senders(
    settings: ProcessorSettings, *, clock: Clock, others: Others
) -> AsyncIterator[Senders]:
    """
    Make the senders that the settings ask for, and close them at the end.

    Args:
        settings: Which ones, and how.
        clock: Gives the time.
        others: Tells which texts at the SMS provider are known to be of other deliveries.

    Raises:
        ConfigurationError: A setting is at fault, or a library is not installed.
    """
    async with AsyncExitStack() as stack:
        email = open_email_sender(settings.email, clock=clock)
        if email is not None:
            stack.push_async_callback(email.close)
        sms = open_sms_sender(settings.sms, clock=clock, others=others)
        if sms is not None:
            stack.push_async_callback(sms.close)
        push = await stack.enter_async_context(open_push_senders(settings.push, clock=clock))
        yield Senders(push=push, email=email, sms=sms)

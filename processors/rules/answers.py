"""What an answer of a provider means to the one who asked; the same for every channel."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Literal


class Kind(enum.Enum):
    """How one request to a provider ended."""

    SENT = "sent"
    """The provider took it."""

    TARGET_GONE = "target_gone"
    """The token, address or number is no longer one: disable or suppress it; nothing to repeat."""

    REFUSED = "refused"
    """This message fails for ever, another one to the same target may not."""

    LATER = "later"
    """The provider or the way to it is in trouble; the same request may succeed later."""

    LIMITED = "limited"
    """Too many requests: wait for ``retry_after_ms``. Spends no attempt."""

    MISCONFIGURED = "misconfigured"
    """Credentials or set-up are at fault: every request would fail, the messages are fine."""

    UNKNOWN = "unknown"
    """Nobody knows whether it was sent, and sending again would be seen or paid for."""


@dataclass(frozen=True, slots=True)
class Answer:
    """
    How one request ended.

    Attributes:
        kind: What it means.
        code: The provider's own name for it, short and bounded, such as ``Unregistered``.
        retry_after_ms: What the provider asked for, for LATER and LIMITED; 0 where it did not say.
        scope: Whom a limit concerns: this target alone, or everything sent through the provider.
        provider_id: The provider's id of the message, where it gave one.
        gone_since_ms: Unix ms since when the target is gone, where told: a target registered
            after that is another one and stays.
    """

    kind: Kind
    code: str = ""
    retry_after_ms: int = 0
    scope: Literal["target", "provider"] = "target"
    provider_id: str = ""
    gone_since_ms: int = 0

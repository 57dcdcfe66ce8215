"""
Whether one notification goes out over one channel, decided when it is about to be sent.

The order of the questions is the product's promise: an address that must not be written to is
never written to; what must be told is told; then what the user said counts, from the closest to
the most general; and only then whether it is still worth telling.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from processors.rules.preferences import Choice

Level = Literal["all", "mentions", "none"]


@dataclass(frozen=True, slots=True)
class Send:
    """Send it now."""


@dataclass(frozen=True, slots=True)
class Drop:
    """
    Never send it.

    Attributes:
        code: Why, a short, bounded name.
    """

    code: str


@dataclass(frozen=True, slots=True)
class Defer:
    """
    Ask again later.

    Attributes:
        until: When.
    """

    until: datetime


@dataclass(frozen=True, slots=True)
class Digest:
    """
    Gather it, and send it together with others.

    Attributes:
        due: When those are sent, where it is the first of them.
    """

    due: datetime


Decision = Send | Drop | Defer | Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """
    What is known when a notification is about to be sent.

    Attributes:
        now: The time.
        choice: What the preferences come to.
        gone: Why there is nothing or nobody left to tell, or an empty string.
        expires_at: After that it is not worth telling.
        suppressed: The address must not be written to.
        mandatory: The user cannot do without it.
        level: What the user wants to hear of the conversation.
        muted_until: The conversation is muted until then.
        mentioned: The message names the user, or is the only one who is written to.
        digest_due: When what is gathered from now on is sent; None where it cannot be gathered.
        quiet_until: The user is to be left alone until then.
        read: The user has read it.
        reached: A device of the user has it, where that is enough for this channel.
        active: The user looks at the conversation right now.
        throttled_until: The conversation has written to the user often enough until then.
    """

    now: datetime
    choice: Choice
    gone: str = ""
    expires_at: datetime | None = None
    suppressed: bool = False
    mandatory: bool = False
    level: Level = "all"
    muted_until: datetime | None = None
    mentioned: bool = False
    digest_due: datetime | None = None
    quiet_until: datetime | None = None
    read: bool = False
    reached: bool = False
    active: bool = False
    throttled_until: datetime | None = None


def decide(facts: Facts) -> Decision:
    """Decide about one notification over one channel."""
    unreachable = _unreachable(facts)
    if unreachable:
        return Drop(unreachable)
    if facts.mandatory:
        return Send()
    unwanted = _unwanted(facts)
    if unwanted:
        return Drop(unwanted)
    if facts.choice.digest and facts.digest_due is not None:
        return Digest(facts.digest_due)
    if facts.quiet_until is not None:
        return _later(facts.quiet_until, facts.expires_at)
    needless = _needless(facts)
    if needless:
        return Drop(needless)
    if facts.throttled_until is None:
        return Send()
    if facts.digest_due is not None:
        return Digest(facts.throttled_until)
    return _later(facts.throttled_until, facts.expires_at)


def _unreachable(facts: Facts) -> str:
    if facts.gone:
        return facts.gone
    if facts.expires_at is not None and facts.expires_at <= facts.now:
        return "expired"
    return "suppressed" if facts.suppressed else ""


def _unwanted(facts: Facts) -> str:
    is_muted = facts.muted_until is not None and facts.muted_until > facts.now
    if facts.level == "none" or is_muted:
        return "muted"
    if facts.level == "mentions" and not facts.mentioned:
        return "not-mentioned"
    return "" if facts.choice.enabled else "preference"


def _needless(facts: Facts) -> str:
    if facts.read:
        return "already-read"
    if facts.active:
        return "active"
    return "already-delivered" if facts.reached else ""


def _later(until: datetime, expires_at: datetime | None) -> Decision:
    # To wait for a moment at which it has expired would be to wait for nothing.
    return Defer(until) if expires_at is None or until < expires_at else Drop("expired")

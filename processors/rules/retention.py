"""
How long messages are kept.

A legal hold keeps everything. Otherwise the conversation's own policy counts, then its tenant's,
then the default, each brought within the legal bounds: what must be kept is never removed early,
what must go is never kept longer, whoever set the policy.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple

Source = Literal["hold", "conversation", "tenant", "default"]

BACKOFF_BASE_S = 60
BACKOFF_CAP_S = 6 * 3_600


class Kept(NamedTuple):
    """
    A policy that somebody set.

    Attributes:
        days: Days that messages are kept; None for ever.
    """

    days: int | None


class Bounds(NamedTuple):
    """
    What the law asks for.

    Attributes:
        days_min: Messages must be kept that long, at least 1.
        days_max: Messages must not be kept longer; None: they may.
    """

    days_min: int = 1
    days_max: int | None = None


class Policy(NamedTuple):
    """
    The policy that a conversation is under.

    Attributes:
        source: Who set it.
        days: Days that messages are kept; None for ever.
    """

    source: Source
    days: int | None


def choose(
    *,
    hold: bool,
    conversation: Kept | None,
    tenant: Kept | None,
    default: Kept,
    bounds: Bounds,
) -> Policy:
    """
    Choose the policy of a conversation.

    Args:
        hold: Whether it is under a legal hold, which not even the longest duration ends.
        conversation: Its own policy, if it has one.
        tenant: Its tenant's, if there is one.
        default: The policy of all others.
        bounds: What the law asks for.
    """
    if hold:
        return Policy("hold", None)
    if conversation is not None:
        return Policy("conversation", clamp(conversation.days, bounds))
    if tenant is not None:
        return Policy("tenant", clamp(tenant.days, bounds))
    return Policy("default", clamp(default.days, bounds))


def clamp(days: int | None, bounds: Bounds) -> int | None:
    """Bring a duration within the legal bounds; None is for ever."""
    if days is None:
        return bounds.days_max
    longest = days if bounds.days_max is None else min(days, bounds.days_max)
    return max(longest, bounds.days_min)


def cutoff(policy: Policy, now: datetime) -> datetime | None:
    """Return the instant before which messages go; None where none do."""
    if policy.source == "hold" or policy.days is None:
        return None
    try:
        return now - timedelta(days=policy.days)
    except OverflowError:
        return None


def instant_of(now_ms: int) -> datetime:
    """Return Unix milliseconds as an instant."""
    return datetime.fromtimestamp(now_ms / 1000, UTC)


def deletion_delay_s(attempts: int) -> int:
    """How long an object that could not be deleted is left alone, after some failures."""
    assert attempts >= 1
    return min(BACKOFF_CAP_S, BACKOFF_BASE_S << min(attempts - 1, 20))

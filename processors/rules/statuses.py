"""What providers tell later of a delivery, and what follows for its address."""

from __future__ import annotations

from typing import Final, Literal

Reported = Literal["delivered", "failed", "bounced", "complained", "stopped", "started"]

_OPEN: Final = frozenset({"pending", "sending", "sent", "unknown"})
_NOT_THE_ADDRESS: Final = ("4.", "5.2.", "5.3.", "5.4.", "5.6.", "5.7.")
"""
Enhanced status codes (RFC 3463) that do not say that the address is bad: transient ones, a full
or closed mailbox, the other system's state, the way to it, its contents, and policy.
"""

_STOPPED_BY: Final = frozenset({"21610"})
"""Codes of SMS APIs for a recipient who has opted out."""


def advanced(state: str, reported: Reported) -> str:
    """
    Return a delivery's state after a report.

    The end of a delivery stays: reports come late, twice and out of order.
    """
    if state not in _OPEN:
        return state
    if reported == "delivered":
        return "delivered"
    # What somebody wants or complains about says nothing of this one message.
    return "failed" if reported in ("failed", "bounced") else state


def suppression(channel: Literal["email", "sms"], reported: Reported, code: str) -> str:
    """Say why an address must not be written to any more, or return an empty string."""
    if reported == "complained":
        return "complaint"
    if reported == "stopped" or code in _STOPPED_BY:
        return "stop" if channel == "sms" else "unsubscribe"
    if reported == "bounced" and not code.startswith(_NOT_THE_ADDRESS):
        return "bounce"
    return ""

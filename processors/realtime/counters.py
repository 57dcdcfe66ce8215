"""What the gateway counts."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(slots=True)
class Counters:
    """
    Totals since the start of a gateway.

    Attributes:
        opened: Sockets that showed a valid ticket.
        refused: Upgrades and tickets that were refused.
        closed_slow: Sockets closed since their client did not keep up.
        revoked: Sockets closed since their session or user had ended.
        removed: Subscriptions ended since the user was a member no more.
        frames_in: Frames from clients.
        frames_bad: Those that were not understood.
        frames_out: Frames to clients.
        events: Events heard from Redis.
        repeated: Messages heard again, and left out.
        filled: Messages read from the database, since their events did not come.
        resyncs: Times that clients were told to look again.
        lost: Connections to Redis pub/sub that were lost.
        confirmed: Jobs made of acks and reads.
        sent: Jobs made of messages.
    """

    opened: int = 0
    refused: int = 0
    closed_slow: int = 0
    revoked: int = 0
    removed: int = 0
    frames_in: int = 0
    frames_bad: int = 0
    frames_out: int = 0
    events: int = 0
    repeated: int = 0
    filled: int = 0
    resyncs: int = 0
    lost: int = 0
    confirmed: int = 0
    sent: int = 0

    def shown(self) -> dict[str, int]:
        """Return all of them by name."""
        return asdict(self)

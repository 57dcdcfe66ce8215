"""What happens in the model, as its observers are told."""

from __future__ import annotations

from typing import NamedTuple

from engine.store.base import Settlement
from engine.testing.streams import Delivery


class Added(NamedTuple):
    """An entry came into a lane."""

    queue: str
    lane: str
    entry: bytes


class Leased(NamedTuple):
    """An entry was delivered or taken over."""

    queue: str
    consumer: str
    delivery: Delivery


class Admitted(NamedTuple):
    """The gates let a job start, now or once an engine has read it."""

    queue: str
    lane: str
    entry: bytes
    job_id: str


class Parked(NamedTuple):
    """An entry left its stream to wait in a line, whoever held it."""

    queue: str
    lane: str
    entry: bytes
    line: bytes


class PutBack(NamedTuple):
    """A silent engine's entry was found, and left for somebody to take over alone."""

    queue: str
    consumer: str
    lane: str
    entry: bytes


class Settled(NamedTuple):
    """A settlement was applied."""

    queue: str
    consumer: str
    settlement: Settlement


class Lost(NamedTuple):
    """A settlement was turned down, because these entries are not the consumer's any more."""

    queue: str
    consumer: str
    lane: str
    entries: list[bytes]


class Flushed(NamedTuple):
    """Everything in a queue was deleted."""

    queue: str


Event = Added | Leased | Admitted | Parked | PutBack | Settled | Lost | Flushed

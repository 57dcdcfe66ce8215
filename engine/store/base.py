"""
The engine's verbs, as a protocol with two implementations.

:class:`engine.store.redis.RedisStore` speaks to a server;
:class:`engine.testing.memory_store.MemoryStore` runs the same verbs over a plain model. One suite
(``tests/store``) holds both to this contract.

Every verb may raise :class:`~engine.errors.StoreUnavailable` (nothing is known about its effect;
each is safe to repeat), :class:`~engine.errors.StoreRefused` (nothing was changed) and
:class:`~engine.errors.GroupMissing` (call :meth:`Store.open` and repeat).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from engine.core.limits import LimitRule
from engine.core.pressure import Bounds
from engine.store.flow_base import FlowStore, Opened
from engine.store.gates import Behind, GateStore, Leave
from engine.store.marks import Mark
from engine.store.numbers import NumberStore
from engine.store.pressure import Pressure
from engine.store.schedule_base import ScheduleStore
from schemas.job import Tombstone


class Batch(msgspec.Struct, kw_only=True, gc=False):
    """
    Jobs that one read brought from one lane.

    Attributes:
        lane: The lane, or its stream of jobs that gates let through (``normal:ready``).
        since: Monotonic seconds of the last proof that this engine holds them.
        mark: The lane's mark as it was known before they were read by a plain read; None for all
            that came another way.
    """

    lane: str
    since: float
    mark: Mark | None = None


class Lease(msgspec.Struct, gc=False):
    """
    One delivered stream entry.

    Attributes:
        batch: The read that brought it.
        entry: The stream entry's id.
        fields: Names and values in turn.
        deliveries: The entry's delivery count, which with the consumer's name fences settlements.
        lost: Set once the store said that another engine holds the entry.
        gated: It may hold something that its end must give back.
        admitted: The gates let it through.
        limits: The limits that it was asked for by, which it goes by again if it comes back.
        early: It was asked for before its time had come, and so not for its turn and its limits.
    """

    batch: Batch
    entry: bytes
    fields: list[bytes]
    deliveries: int = 1
    lost: bool = False
    gated: bool = False
    admitted: bool = False
    limits: tuple[str, ...] = ()
    early: bool = False


class Fetched(msgspec.Struct):
    """
    What one exact read brought.

    Attributes:
        leases: The jobs, in lane order.
        waiting: Jobs left in each stream after it.
    """

    leases: list[Lease]
    waiting: dict[str, int]


class Reclaimed(msgspec.Struct):
    """
    What was taken over from engines that are gone.

    Attributes:
        leases: The jobs, with their raised delivery counts.
        trimmed: (lane, entry) of leased entries that somebody had deleted from their stream;
            they have left the pending list and their bodies are unknown.
    """

    leases: list[Lease]
    trimmed: list[tuple[str, bytes]]


class Promoted(msgspec.Struct):
    """
    What became due.

    Attributes:
        moved: Jobs moved to their lanes.
        next_ms: Milliseconds until the next one is due, by the server's clock; None for never.
    """

    moved: int
    next_ms: int | None


class Summoned(msgspec.Struct):
    """
    Cancelled jobs that did not lie in their lanes.

    Attributes:
        moved: Jobs brought to their lanes.
        ended: The round is over; the next call begins a new one.
    """

    moved: int
    ended: bool


class Dead(msgspec.Struct, frozen=True):
    """
    One entry for the dead stream.

    Attributes:
        fields: ``_dead`` with its record, then the job's own fields.
        fingerprint: The group it is counted in.
        sample: JSON that shows the group's first death to a person.
    """

    fields: list[bytes]
    fingerprint: str
    sample: bytes


class Settlement(msgspec.Struct, kw_only=True):
    """
    Decisions about jobs of one lane, applied together or not at all.

    Attributes:
        lane: The lane, or its stream of jobs that gates let through.
        sequence: Number of this settlement within the engine and lane, from 1. A repeated number
            is answered as applied, so that a lost reply can be asked for again.
        ended: Entries that leave the lane. May be empty, to record the deaths of entries that had
            been deleted from their stream.
        released: Entries that are handed back, still to be delivered.
        deliveries: Delivery counts of entries for which it is not 1.
        held: Upper bound of the entries of this lane that the engine holds now.
        mark: The mark by which the entries need no check, as told by :meth:`Store.mark`.
        unsure: Ended entries that are checked all the same: those of other marks or of none.
        found: Filled by the store: the lane's mark after it, empty for none.
        done: Fields of entries for the done stream.
        retries: (due in Unix ms, packed lane and fields) for the delayed set.
        again: Fields of jobs that go to the end of their lane at once.
        dead: Entries for the dead stream.
        aside: (type, packed lane and fields) for the streams of held types.
        stats: Counters to raise, ``outcome:type`` → by how much.
        at_ms: Unix ms, which chooses the minute of the statistics.
        events: JSON lines for the events stream.
        replies: (stream, fields) for producers that wait for an outcome.
        finished: Ids of jobs whose progress is to be forgotten.
        tombstones: Ids of cancelled jobs that have their ends now.
        leaves: Entries that may hold something of the gates.
        behind: Jobs that wait for a limit from now on.
        room: Jobs that this engine would take of those that the settlement lets through.
        handed: Filled by the store: those jobs.
        moved: Filled by the store: how many it let through in all.
        ends: Messages of ended jobs to the jobs that wait for them.
        opened: Flows of jobs that wait for others from now on.
        brought_back: ``done`` or ``dead``, and the ``operation`` of the job's meta, if it has one.
    """

    lane: str
    sequence: int
    ended: list[bytes]
    released: list[bytes] = []
    deliveries: dict[bytes, int] = {}
    held: int
    mark: Mark | None = None
    unsure: list[bytes] = []
    found: bytes = b""
    done: list[list[bytes]] = []
    retries: list[tuple[int, bytes]] = []
    again: list[list[bytes]] = []
    dead: list[Dead] = []
    aside: list[tuple[str, bytes]] = []
    stats: dict[str, int] = {}
    at_ms: int
    events: list[bytes] = []
    replies: list[tuple[str, list[bytes]]] = []
    finished: list[str] = []
    tombstones: list[str] = []
    leaves: list[Leave] = []
    behind: list[Behind] = []
    room: int = 0
    handed: list[Lease] = []
    moved: int = 0
    ends: list[bytes] = []
    opened: list[Opened] = []
    brought_back: list[tuple[str, str]] = []


class Control(msgspec.Struct, kw_only=True):
    """
    What operators set for a queue, for all engines.

    Attributes:
        paused: Nothing new is started.
        concurrency: Jobs at a time per engine; None for each engine's own setting.
        holds: Held type → reason.
        cancelled: Job id → tombstone, of jobs that have not ended yet as far as is known.
        limits: Limit → its rule.
        blocks: A dead job keeps its ordering key until it is brought back or discarded.
        gates: Jobs of this queue have asked for gates, so there are further streams to read.
        flows: Jobs of this queue are, or were, part of flows.
        operations: Bulk operations that live.
    """

    paused: bool = False
    concurrency: int | None = None
    holds: dict[str, str] = {}
    cancelled: Mapping[str, Tombstone] = {}
    limits: dict[str, LimitRule] = {}
    blocks: bool = False
    gates: bool = False
    flows: bool = False
    operations: tuple[str, ...] = ()


class ServerState(msgspec.Struct, kw_only=True):
    """
    What the server says of itself.

    Attributes:
        run_id: Identity of the server process.
        version: For example ``valkey 9.1.2``.
        time_ms: Its clock, Unix ms.
        uptime_ms: How long it has been up.
        memory_bytes: Memory in use.
        memory_bytes_max: Its limit; 0 for none.
        writable: False on a read-only replica.
    """

    run_id: str
    version: str
    time_ms: float
    uptime_ms: float
    memory_bytes: int
    memory_bytes_max: int
    writable: bool


class Gauges(msgspec.Struct, kw_only=True):
    """
    How full a queue is.

    Attributes:
        waiting: Jobs not yet delivered, handed back, or parked behind a gate, per lane.
        active: Jobs that engines hold, over all engines, per lane.
        parked: Those of them that wait behind another with their key, or for a limit, per lane.
        delayed: Jobs in the delayed set.
        held: Jobs set aside per held type.
        dead: Entries in the dead stream.
        oldest_ms: Age of the oldest waiting entry, by the server's clock; 0 without one.
        flows: Jobs that wait for others.
    """

    waiting: dict[str, int]
    active: dict[str, int]
    parked: dict[str, int] = {}
    delayed: int
    held: dict[str, int]
    dead: int
    oldest_ms: int
    flows: int = 0


class Store(GateStore, FlowStore, ScheduleStore, NumberStore, Protocol):
    """What an engine asks of its queues. One instance serves one engine process."""

    async def open(self, queue: str) -> None:
        """
        Create the lanes and their groups where they are missing; a group starts at 0.

        Raises:
            StoreRefused: With kind ``wrongtype`` if a key of the queue holds something else.
        """

    async def fetch(self, queue: str, counts: Mapping[str, int]) -> Fetched:
        """Lease up to that many jobs from each lane, without waiting, and count what is left."""

    async def wait(
        self, queue: str, lanes: Sequence[str], count: int, block_ms: int
    ) -> list[Lease]:
        """
        Wait for jobs in any lane and lease up to ``count`` from each.

        Never cancel this call: what was delivered meanwhile would lie until its lease ends.
        """

    def mark(self, queue: str, lane: str) -> Mark | None:
        """Tell the mark that leases of this lane may have been read under, if it may be gone by."""

    async def settle(self, queue: str, settlement: Settlement) -> list[bytes]:
        """
        Apply decisions and end the leases.

        Returns:
            The entries that this engine does not hold any more. If there are any, nothing was
            changed, and the settlement may be sent again without them under a new number.
        """

    def renew(self, queue: str, lane: str, entries: Mapping[bytes, int]) -> list[bytes]:
        """
        Renew leases, given as entry → delivery count, and return those that are lost.

        Blocks, and uses a connection of its own: it is called from a thread, so that a handler
        which blocks the event loop does not lose its lease.
        """

    async def reclaim(self, queue: str, *, idle_ms_min: int, count: int) -> Reclaimed:
        """
        Take over up to ``count`` jobs whose leases have been idle for that long.

        At most one of them may have been lost twice before: see
        :data:`engine.core.leases.SUSPECT_DELIVERIES`. The others of that kind stay where they are.
        """

    async def recover(self, queue: str, in_hand: Mapping[str, set[bytes]]) -> list[Lease]:
        """
        Take up jobs that were delivered to this engine in a reply that got lost.

        Args:
            in_hand: Entries per lane that the engine knows of.
        """

    async def promote(self, queue: str, *, count: int) -> Promoted:
        """Move due jobs from the delayed set to their lanes, the longest due first."""

    async def control(self, queue: str) -> Control:
        """Read what operators set."""

    async def summon(self, queue: str, types: Sequence[str], *, count: int) -> Summoned:
        """
        Bring cancelled jobs to their lanes, from wherever else they wait.

        Looks at about ``count`` jobs from where the last call stopped, and begins again after the
        last one.
        """

    async def forget(self, queue: str, ids: Sequence[str], *, age_ms_min: int) -> int:
        """
        Drop tombstones of that age whose jobs cannot be in any lane; returns how many.

        One without a time, written by hand, is given the present one.
        """

    async def hold(self, queue: str, job_type: str, reason: str) -> bool:
        """Hold a type; returns False if it was held already, whose reason is then kept."""

    async def unhold(self, queue: str, types: Sequence[str], *, count: int) -> int:
        """Move up to ``count`` set-aside jobs of types that are held no more to their lanes."""

    async def report(
        self, queue: str, progress: Mapping[str, bytes], events: Sequence[bytes]
    ) -> None:
        """Record progress (job id → JSON) and events (JSON)."""

    async def trim(self, queue: str, *, done_jobs_max: int, done_age_ms_max: int) -> int:
        """Drop the oldest done entries beyond a count of jobs or an age; returns jobs dropped."""

    async def gauges(self, queue: str, types: Sequence[str]) -> Gauges:
        """Count what the queue holds."""

    async def pressure(self, queue: str, types: Sequence[str]) -> Pressure:
        """Tell how full the queue is, jobs of held types included, and how full it may be."""

    async def default_bounds(self, queue: str, bounds: Bounds) -> None:
        """Bound the queue where operators set nothing; 0 takes a bound away."""

    async def server(self) -> ServerState:
        """Ask the server how it is."""

    async def beat(self, name: str, beat: bytes) -> None:
        """Show that this engine lives, and forget engines that have not for a minute."""

    async def leave(self, name: str, queues: Sequence[str]) -> None:
        """Take the engine off the list, and its consumers off the groups if they hold nothing."""

    async def retire(self, queue: str, *, idle_ms_min: int) -> int:
        """Delete consumers that hold nothing and have been idle that long; returns how many."""

    async def close(self) -> None:
        """Close the connections. The store cannot be used afterwards."""

"""
Batches of jobs on their way to the server, and the rules for sending one again.

A channel is a name under which the server remembers the last batch, so a batch whose reply got
lost is sent again under its number and answered from memory: it is written once.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence

import msgspec

from engine.clock import Clock
from engine.core.pressure import FULL, SHED, share
from engine.errors import EnqueueError, EnqueueUnsure, StoreError, StoreRefused, StoreUnavailable
from engine.store.link import Argument
from engine.store.pressure import KnownBounds, holding
from engine.store.scripts import Script, script
from engine.wire.keys import QueueKeys
from engine.wire.packing import join, pack_lists, pack_numbered
from engine.wire.tombstones import TOMBSTONES_MAX
from schemas.rules import ID_CHARS_MAX, LANES

PRODUCER_NAME = "streamlane-producer"
"""What CLIENT LIST shows."""

BATCH_JOBS_MAX = 500
BATCH_BYTES_MAX = 1_048_576
"""Bounds of one script call; one job that is larger goes alone."""

MEMORY_MS = 600_000
GIVE_UP_S_MAX = MEMORY_MS / 1_000 / 2
"""The memory outlives every resend."""

BACKOFF_S = 0.05
BACKOFF_S_MAX = 2.0
ROOM_PAUSE_S_MAX = 0.5

_PASSING = frozenset({"oom", "readonly", "misconf", "noreplicas"})
"""Refusals that end without anybody changing the producer."""


class NotSent(StoreUnavailable):
    """No connection could be made, so nothing was sent."""


class Outgoing(msgspec.Struct, frozen=True, gc=False):
    """
    One job on its way.

    Attributes:
        lane: The lane.
        fields: Names and values in turn; ``type`` and ``data`` come first.
        ordered: Whether it has an ordering key.
        size: Bytes that it adds to a batch.
        when_full: What is done where its queue has no room: ``wait``, ``fail`` or ``shed``.
    """

    lane: str
    fields: list[bytes]
    ordered: bool
    size: int
    when_full: str = "wait"


def outgoing(lane: str, fields: list[bytes], *, ordered: bool, when_full: str = "wait") -> Outgoing:
    """Measure one job."""
    size = sum(map(len, fields)) + 5 * len(fields) + 11
    return Outgoing(lane=lane, fields=fields, ordered=ordered, size=size, when_full=when_full)


class Channel:
    """
    A name under which the server remembers a producer's last batch.

    Args:
        keys: The queue's keys.
    """

    def __init__(self, keys: QueueKeys) -> None:
        self._keys = keys
        self._process = 0
        self._number = 0
        self._memory = ""

    def command(self, jobs: Sequence[Outgoing]) -> tuple[list[str], list[Argument]]:
        """Keys and arguments that append a new batch; the same ones send it again."""
        self._begin()
        numbers, kinds = _kinds(jobs)
        lanes = list(dict.fromkeys(lane for lane, _, _ in kinds))
        # In Lua the first key is the memory, and counting begins at 1.
        places = {lane: b"%d" % (at + 2) for at, lane in enumerate(lanes)}
        rows = pack_numbered(numbers, [job.fields[3:] for job in jobs])
        told = pack_lists([[places[lane], name, b"%d" % (n - 4)] for lane, name, n in kinds])
        keys = [self._memory, *(self._keys.lane(lane) for lane in lanes)]
        return keys, [self._number, MEMORY_MS, join([rows, told])]

    def single(self, job: Outgoing) -> tuple[list[str], list[Argument]]:
        """The same for a batch of one, as arguments of ``enqueue_one``."""
        self._begin()
        keys = [self._memory, self._keys.lane(job.lane)]
        return keys, [self._number, MEMORY_MS, *job.fields]

    def bounded(
        self, jobs: Sequence[Outgoing], types: Sequence[str]
    ) -> tuple[list[str], list[Argument]]:
        """
        Keys and arguments of ``enqueue_bounded`` instead, which takes what finds room.

        Args:
            jobs: The jobs.
            types: Held types, whose jobs count too.
        """
        self._begin()
        streams, sets = holding(self._keys, types)
        places = {lane: b"%d" % (at + 3) for at, lane in enumerate(LANES)}
        packed = pack_lists([[places[job.lane], *_conditions(job), *job.fields] for job in jobs])
        keys = [self._memory, self._keys.control, *streams, *sets]
        return keys, [self._number, MEMORY_MS, len(streams), packed]

    def _begin(self) -> None:
        if self._process != os.getpid():
            # A forked child must not go on under its parent's name: its batches would be
            # answered from the parent's memory and be lost.
            self._process = os.getpid()
            self._memory = self._keys.producer(uuid.uuid4().hex)
            self._number = 0
        self._number += 1


class Batched(msgspec.Struct, frozen=True):
    """
    The call that sends a batch.

    Attributes:
        script: The script.
        keys: Its keys.
        rest: Its other arguments.
    """

    script: Script
    keys: list[str]
    rest: list[Argument]


def batched(channel: Channel, jobs: Sequence[Outgoing], known: KnownBounds) -> Batched:
    """Build a batch's call; a queue without bounds pays for none."""
    further = [job.fields[4::2] for job in jobs if len(job.fields) > 4]
    gated = any(b"unique" in names for names in further)
    if known.bounds:
        name, (keys, arguments) = "enqueue_bounded", channel.bounded(jobs, known.types)
    elif gated or len(jobs) > 1:
        name, (keys, arguments) = "enqueue", channel.command(jobs)
    else:
        name, (keys, arguments) = "enqueue_one", channel.single(jobs[0])
    if gated:
        keys += known.keys.gates()
    return Batched(script(name, gated=gated), keys, arguments)


def _kinds(jobs: Sequence[Outgoing]) -> tuple[list[int], list[tuple[str, bytes, int]]]:
    """Number the kinds of jobs, from 1: a number for each job, and lane, type, fields of each."""
    found: dict[tuple[str, bytes, int], int] = {}
    numbers: list[int] = []
    lane, name, count, number = "", b"", 0, 0
    for job in jobs:
        fields = job.fields
        # Most jobs are of the kind of the one before.
        if fields[1] != name or job.lane != lane or len(fields) != count:
            lane, name, count = kind = job.lane, fields[1], len(fields)
            number = found.setdefault(kind, len(found) + 1)
        numbers.append(number)
    return numbers, list(found)


def _conditions(job: Outgoing) -> tuple[bytes, bytes, bytes]:
    sheds = job.when_full == "shed"
    percent = share(job.lane, sheds=sheds)
    return SHED if sheds else FULL, b"%d" % percent, b"%d" % job.size


def cancelling(
    queue: str, job_id: str, *, who: str, reason: str, even_if_absent: bool
) -> tuple[list[str], list[Argument]]:
    """
    Keys and arguments that lay a tombstone; laying it twice is laying it once.

    Raises:
        ValueError: The queue's name breaks the rule for names, or the id is none.
    """
    if not 1 <= len(job_id) <= ID_CHARS_MAX:
        raise ValueError(f"{job_id!r} is no job id")
    ahead = b"1" if even_if_absent else b""
    keys = QueueKeys(queue)
    return [keys.cancelled, *keys.lanes.values()], [TOMBSTONES_MAX, who, reason, ahead, job_id]


def check_laid(laid: bytes, queue: str) -> None:
    """
    Check that a tombstone was laid.

    Raises:
        EnqueueError: There are too many.
    """
    if not laid:
        raise EnqueueError(f"queue {queue} has {TOMBSTONES_MAX} cancelled jobs that still wait")


class Tries:
    """
    When a batch is sent again, and what is said once it is given up.

    Args:
        clock: Gives time and chance.
        deadline: Monotonic seconds after which a failed try was the last one.
    """

    def __init__(self, clock: Clock, deadline: float) -> None:
        self._clock = clock
        self._deadline = deadline
        self._count = 0
        self._is_unsure = False

    def delay_s(self, error: StoreError) -> float:
        """
        Seconds until the next try.

        Raises:
            EnqueueUnsure: There is none, and an earlier one may have reached the server.
            EnqueueError: There is none, and nothing was written.
        """
        kind = error.kind if isinstance(error, StoreUnavailable | StoreRefused) else "other"
        if kind in {"connection", "timeout"} and not isinstance(error, NotSent):
            self._is_unsure = True
        self._count += 1
        if isinstance(error, StoreUnavailable) or kind in _PASSING:
            bound = min(BACKOFF_S_MAX, BACKOFF_S * (1 << min(self._count, 10)))
            delay_s = bound * (0.1 + 0.9 * self._clock.draw())
            if self._clock.monotonic() + delay_s < self._deadline:
                return delay_s
        tries = "1 try" if self._count == 1 else f"{self._count} tries"
        if self._is_unsure:
            raise EnqueueUnsure(
                f"no reply after {tries}, so it may have been accepted or not ({error})"
            ) from error
        raise EnqueueError(f"not accepted after {tries}, nothing was written ({error})") from error


class Pauses:
    """
    When those who wait for room in a full queue ask again, and how many of them.

    Args:
        clock: Gives chance.

    Attributes:
        jobs_max: Jobs of the next try: one, as long as none finds room.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._count = 0
        self.jobs_max = 1

    def next_s(self) -> float:
        """Seconds until the next try."""
        self._count += 1
        bound = min(ROOM_PAUSE_S_MAX, BACKOFF_S * (1 << min(self._count, 10)))
        return bound * (0.5 + 0.5 * self._clock.draw())

    def note(self, *, taken: bool) -> None:
        """Learn whether any job of the last try found room."""
        self.jobs_max = BATCH_JOBS_MAX if taken else 1
        if taken:
            self._count = 0


def check_give_up(give_up_s: float) -> None:
    """
    Check how long a job may be tried for.

    Raises:
        ValueError: The server's memory of a batch would not outlive its last try.
    """
    if not 0 <= give_up_s <= GIVE_UP_S_MAX:
        raise ValueError(f"give_up_s must be from 0 to {GIVE_UP_S_MAX:.0f}, not {give_up_s}")

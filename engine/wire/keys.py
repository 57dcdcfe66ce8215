"""
Every Redis key, with its type.

All keys of one queue carry the hash tag ``{queue}``, so that they share one cluster slot and each
transition of a job is one atomic script.
"""

from __future__ import annotations

from collections.abc import Iterable

from schemas.rules import LANES, QUEUE_NAME

GROUP = "engine"
"""The consumer group of every lane."""

READY = {lane: f"{lane}:ready" for lane in LANES}
"""Lane → the name of its stream of jobs that were let through by a gate."""

STREAMS = (*READY.values(), *LANES)
"""All streams with the group, in the order in which they are read where gates are used."""

RELEASED = "released"
"""The consumer that owns what stopping engines handed back."""

ENGINES = "mq:engines"
"""hash: engine name → beat (JSON). One key for all queues."""

AUDIT = "mq:audit"
"""stream: who changed what."""

PAGE_SESSION = "mq:page:session:"
"""string, one for each session of the page, followed by the session's hash."""


class QueueKeys:
    """
    The keys of one queue.

    Args:
        queue: The queue's name, ``^[A-Za-z0-9_.-]{1,64}$``.
    """

    __slots__ = (
        "admitted",
        "cancelled",
        "control",
        "dead",
        "dead_groups",
        "delayed",
        "done",
        "events",
        "flow_ends",
        "flow_sent",
        "flow_sweep",
        "flows",
        "flows_todo",
        "lanes",
        "limits",
        "limits_due",
        "operation_lease",
        "operations",
        "producers",
        "progress",
        "queue",
        "schedules",
        "settled",
        "stats",
        "streams",
        "unique",
        "unique_ends",
    )

    def __init__(self, queue: str) -> None:
        if not QUEUE_NAME.fullmatch(queue):
            raise ValueError(f"queue {queue!r} must match {QUEUE_NAME.pattern}")
        base = f"mq:{{{queue}}}"
        self.queue = queue
        # stream: waiting and running jobs
        self.lanes = {lane: f"{base}:{lane}" for lane in LANES}
        # stream, by the names of lanes and of their streams of jobs that were let through
        self.streams = self.lanes | {name: f"{base}:{name}" for name in READY.values()}
        # zset: packed envelope by due time, Unix ms
        self.delayed = f"{base}:delayed"
        # stream: jobs that ended dead
        self.dead = f"{base}:dead"
        # hash: <fingerprint>:n, :first, :last, :sample
        self.dead_groups = f"{base}:dead:groups"
        # stream: finished jobs, one entry per settled batch
        self.done = f"{base}:done"
        # stream: started, progressed, retried, done, dead; capped
        self.events = f"{base}:events"
        # hash with TTL: job id → last progress (JSON)
        self.progress = f"{base}:progress"
        # hash: paused, concurrency, jobs_max, bytes_max, hold:<type>, limit:<name>, on_dead, gates,
        # flows, operations: ids of those that live
        self.control = f"{base}:control"
        # hash: job id → tombstone (JSON); only while jobs that were cancelled have not ended
        self.cancelled = f"{base}:cancelled"
        # hash: name → one schedule (JSON)
        self.schedules = f"{base}:schedules"
        # hash: counters by outcome and type
        self.stats = f"{base}:stats"
        # hash: <consumer>:<lane> → number of its last settlement
        self.settled = f"{base}:settled"
        # prefix of string keys with TTL: the last batch of one producer
        self.producers = f"{base}:producer"
        self._name_gates(base)
        self._name_flows(base)
        self._name_operations(base)

    def _name_gates(self, base: str) -> None:
        # hash: <stream>/<entry> → what a job that passed the gates holds
        self.admitted = f"{base}:admitted"
        # hash: places, tokens and shares of limits
        self.limits = f"{base}:limits"
        # zset: limits that somebody waits for, by the ms at which they may open
        self.limits_due = f"{base}:limits:due"
        # hash: unique values and ids, by whom taken and until when
        self.unique = f"{base}:unique"
        # zset: its fields by the ms at which they end
        self.unique_ends = f"{base}:unique:ends"

    def _name_flows(self, base: str) -> None:
        # zset, all of one score: parents that wait for their children, as `<job id>/<entry>`
        self.flows = f"{base}:flows"
        # zset: flows with children to send or to cancel, by the Unix ms of the next try
        self.flows_todo = f"{base}:flows:todo"
        # stream: ends of children, until their parents' queues know of them
        self.flow_ends = f"{base}:flow-ends"
        # hash: child of a flow → lane and entry with which it was sent, until its end is known
        self.flow_sent = f"{base}:flow-sent"
        # string with TTL: set while nobody else is to look for lost children
        self.flow_sweep = f"{base}:flows:sweep"

    def _name_operations(self, base: str) -> None:
        # hash: id → one bulk operation (JSON)
        self.operations = f"{base}:operations"
        # string with TTL: which engine drives them
        self.operation_lease = f"{base}:operations:lease"

    def lane(self, lane: str) -> str:
        """stream: waiting and running jobs of one lane, or those of it that were let through."""
        return self.streams[lane]

    def held(self, job_type: str) -> str:
        """stream: jobs of one held type, set aside with the name of their lane."""
        return f"mq:{{{self.queue}}}:held:{job_type}"

    def minutes(self, now_ms: int) -> str:
        """hash, one per hour: ``<minute>:<outcome>:<type>`` → count, and what engines tell."""
        return f"mq:{{{self.queue}}}:stats:{now_ms // 3_600_000}"

    def quarters(self, now_ms: int) -> str:
        """hash, one per day: quarter of an hour → sums of its minutes (JSON)."""
        return f"mq:{{{self.queue}}}:stats:quarters:{now_ms // 86_400_000}"

    def flow(self, flow: str) -> str:
        """hash: one flow: its parent as packed, and what is known of its children."""
        return f"mq:{{{self.queue}}}:flow:{flow}"

    def producer(self, name: str) -> str:
        """String with TTL: the last batch that a producer sent, with the ids it was given."""
        return f"{self.producers}:{name}"

    def operation(self, name: str) -> str:
        """hash: counts of one operation, and dead letters as they were before it took them."""
        return f"mq:{{{self.queue}}}:operation:{name}"

    def operation_due(self, name: str) -> str:
        """zset: entry ids of the dead letters that it took, by the ms at which they are due."""
        return f"mq:{{{self.queue}}}:operation:{name}:due"

    def plan(self, name: str) -> str:
        """String with TTL: one plan (JSON)."""
        return f"mq:{{{self.queue}}}:plan:{name}"

    # The next belong to gates; only queues that use them have these keys.

    def busy(self, lane: str) -> str:
        """hash: ordering key → ticket of the job whose turn it is."""
        return f"{self.lanes[lane]}:busy"

    def parked(self, lane: str) -> str:
        """zset: jobs that wait behind another with their key, or for a limit."""
        return f"{self.lanes[lane]}:parked"

    def places(self, types: Iterable[str]) -> list[str]:
        """Name where jobs of some types may be that have not ended, as the scripts take them."""
        return [
            self.delayed,
            *(self.parked(lane) for lane in LANES),
            *(self.lanes[lane] for lane in LANES),
            *(self.streams[READY[lane]] for lane in LANES),
            *(self.held(job_type) for job_type in sorted(types)),
        ]

    def gates(self) -> list[str]:
        """Name the keys of gates in the order in which the scripts take them."""
        return [
            *(self.busy(lane) for lane in LANES),
            *(self.parked(lane) for lane in LANES),
            *(self.streams[READY[lane]] for lane in LANES),
            self.admitted,
            self.limits,
            self.limits_due,
            self.unique,
            self.unique_ends,
            self.control,
        ]


def reply_key(queue: str, name: str) -> str:
    """stream: answers that a producer asked for by ``reply``, and the producer deletes."""
    return f"mq:{{{queue}}}:reply:{name}"


def lane_of(stream: str) -> str:
    """Return the lane of a stream's name: its own, or the one whose jobs were let through."""
    return stream.partition(":")[0]


def slot_tag(key: str) -> str:
    """Return the part of a key that decides its cluster slot."""
    start = key.find("{")
    end = key.find("}", start + 1)
    return key[start + 1 : end] if start >= 0 and end > start + 1 else key


def is_reply_key(key: str) -> bool:
    """Tell whether a producer may name this key for the answer without further settings."""
    tag = slot_tag(key)
    prefix = f"mq:{{{tag}}}:reply:"
    return bool(QUEUE_NAME.fullmatch(tag)) and key.startswith(prefix) and key.isprintable()

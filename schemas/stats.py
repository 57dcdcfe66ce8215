"""What engines tell of themselves, and what the page and ``--json`` print."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from schemas.gates import GateStats
from schemas.pressure import Fullness


class QueueLoad(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """
    One queue as one engine serves it.

    Attributes:
        running: Jobs that run now.
        buffered: Jobs that wait inside the engine for a worker.
        concurrency: Jobs that may run at the same time.
        types: Job types that this engine takes.
        growth_jobs_s: Jobs that the queue gained per second in the last minute, as it saw them.
        growth_bytes_s: Bytes likewise.
    """

    running: int
    buffered: int
    concurrency: int
    types: list[str]
    growth_jobs_s: float | None = None
    growth_bytes_s: float | None = None


class Beat(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """
    A sign of life of one engine, as kept in ``mq:engines``.

    Attributes:
        name: The engine.
        host: The machine.
        pid: The process.
        version: Streamlane's version.
        state: ``running`` or ``draining``.
        http: host:port of metrics and page; empty for none.
        started_ms: Unix ms of its start.
        beat_ms: Unix ms of this beat.
        loop_lag_ms: How late the event loop was at worst since the last beat.
        rss_bytes: Resident memory.
        queues: What it serves.
        weights: Shares of the lanes below critical; empty where an older engine did not say.
    """

    name: str
    host: str
    pid: int
    version: str
    state: str
    http: str
    started_ms: int
    beat_ms: int
    loop_lag_ms: float
    rss_bytes: int
    queues: dict[str, QueueLoad]
    weights: dict[str, int] = {}


class View(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What ``--json`` and the page's API print: camelCase, times in Unix ms."""


class LaneStats(View, frozen=True, kw_only=True):
    """
    One lane.

    Attributes:
        waiting: Jobs that no engine has; those that stopping engines handed back included, and
            those that wait behind gates.
        active: Jobs that engines have.
        oldest_ms: Age of the oldest waiting job; 0 without one.
        parked: Those of the waiting that wait behind another of their key, or for a limit.
    """

    waiting: int
    active: int
    oldest_ms: int
    parked: int = 0


class HeldType(View, frozen=True, kw_only=True):
    """
    A job type that is held, or whose set-aside jobs have not all been moved back.

    Attributes:
        type: The type.
        jobs: Jobs set aside.
        held: False once the hold is released and engines move the jobs back.
        reason: Why.
        since_ms: Since when.
        by: The engine or person who held it.
    """

    type: str
    jobs: int
    held: bool
    reason: str = ""
    since_ms: int = 0
    by: str = ""


class PausedBy(View, frozen=True, kw_only=True):
    """Who paused a queue, why and when."""

    who: str = ""
    reason: str = ""
    at_ms: int = 0


class QueueStats(View, frozen=True, kw_only=True):
    """
    One queue at a glance.

    Attributes:
        queue: Its name.
        paused: Nothing new is started.
        paused_by: Who paused it, where that is known.
        concurrency: Jobs at a time per engine as set live; None for each engine's own setting.
        lanes: Each lane, highest first.
        waiting: Jobs that wait, over all lanes.
        active: Jobs that engines have.
        delayed: Jobs in the delayed set.
        overdue: Those of them whose time has come.
        flows: Jobs that wait for others.
        held: Held types.
        dead: Dead letters.
        done_kept: Finished jobs that can still be looked at.
        oldest_ms: Age of the oldest waiting job.
        totals: Jobs ever, by outcome and type.
        recent: Jobs of the last five minutes by outcome.
        engines: Live engines that serve it.
        cancelling: Cancelled jobs that have not ended yet.
        schedules: Its schedules, paused ones included.
        fullness: How full it is, of what it may hold.
        gates: Order by key and limits; None where no job and no rule has asked for them.
        broken: Keys of it that hold another type than they must, counted as empty.
    """

    queue: str
    paused: bool
    paused_by: PausedBy | None
    concurrency: int | None
    lanes: dict[str, LaneStats]
    waiting: int
    active: int
    delayed: int
    overdue: int
    held: list[HeldType]
    dead: int
    done_kept: int
    oldest_ms: int
    totals: dict[str, dict[str, int]]
    recent: dict[str, int]
    engines: list[str]
    cancelling: int = 0
    schedules: int = 0
    fullness: Fullness | None = None
    flows: int = 0
    gates: GateStats | None = None
    broken: list[str] = []


class EngineStats(View, frozen=True, kw_only=True):
    """
    One engine.

    Attributes:
        beat: Its last sign of life.
        silent_ms: How long ago that was, by the server's clock.
        live: False when it has been silent for too long.
    """

    beat: Beat
    silent_ms: int
    live: bool


class Server(View, frozen=True, kw_only=True):
    """
    What the Redis or Valkey server says of itself.

    Attributes:
        version: For example ``valkey 9.1.2``.
        time_ms: Its clock.
        memory_bytes: Memory in use.
        memory_bytes_max: Its limit; 0 for none.
        eviction: What it does at the limit.
        aof: Whether it keeps an append-only file.
        role: ``master`` or ``slave``, in the server's words.
    """

    version: str
    time_ms: int
    memory_bytes: int
    memory_bytes_max: int
    eviction: str
    aof: bool
    role: str


class Audited(View, frozen=True, kw_only=True):
    """One change that somebody made."""

    at: int
    who: str
    what: str
    queue: str
    detail: dict[str, Any]
    reason: str


class Change(View, frozen=True, kw_only=True):
    """
    A setting of a queue that was changed live.

    Attributes:
        queue: The queue.
        what: ``pause``, ``resume``, ``concurrency``, ``bounds``, ``hold``, ``release``, ``order``,
            ``limit-set``, ``limit-clear``, ``limit-shut`` or ``limit-open``.
        changed: False where it was so already.
        before: What stood there, as text; empty for nothing.
        after: What stands there now.
    """

    queue: str
    what: str
    changed: bool
    before: str
    after: str


class GateChange(Change, frozen=True, kw_only=True):
    """
    A setting of a queue's order or limits that was changed live.

    Attributes:
        limit: The limit that is meant; empty for the order.
        keys_let_go: Ordering keys that go on by it.
    """

    limit: str = ""
    keys_let_go: int = 0


class DeadGroup(View, frozen=True, kw_only=True):
    """
    Dead letters that have type, reason and error in common.

    Attributes:
        fingerprint: The group's name.
        jobs: How many.
        first_ms: The first death.
        last_ms: The latest death.
        type: Their type.
        reason: Their reason.
        kind: The error's class.
        message: The first one's error.
        sample: The first one's job id.
    """

    fingerprint: str
    jobs: int
    first_ms: int
    last_ms: int
    type: str
    reason: str
    kind: str
    message: str
    sample: str


class DeadAnalysis(View, frozen=True, kw_only=True):
    """
    What a queue's dead letters are made of.

    Attributes:
        queue: The queue.
        dead: Dead letters in all.
        matched: Those that are meant: all, or those that fit the filter.
        searched: How many were looked at one by one; 0 where counts were summed up.
        groups: The groups, largest first.
        by_type: Jobs per type.
        by_reason: Jobs per reason.
        uncounted: Dead letters that no group counts; other than 0 where somebody changed the
            stream by hand.
    """

    queue: str
    dead: int
    matched: int
    searched: int
    groups: list[DeadGroup]
    by_type: dict[str, int]
    by_reason: dict[str, int]
    uncounted: int


class DeadFilter(View, frozen=True, kw_only=True):
    """
    Which dead letters are meant; every part that is given must fit.

    Attributes:
        ids: Job ids or entry ids.
        type: The job's type.
        reason: Why it is dead.
        fingerprint: Its group.
        text: Text within its id, error or fields, whatever the case.
        after_ms: Died at or after.
        before_ms: Died before.
    """

    ids: tuple[str, ...] = ()
    type: str = ""
    reason: str = ""
    fingerprint: str = ""
    text: str = ""
    after_ms: int = 0
    before_ms: int = 0


class BulkResult(View, frozen=True, kw_only=True):
    """
    What a retry or discard of dead letters did, or would do.

    Attributes:
        action: ``retry`` or ``discard``.
        queue: The queue.
        dry_run: Nothing was changed.
        matched: Dead letters that fit the filter.
        changed: Dead letters brought back or dropped; in a dry run, that would be.
        gone: Those that somebody else had taken meanwhile.
        unable: Those that cannot be brought back, by why.
        searched: Dead letters looked at.
        complete: False where a limit ended it before the end of the stream.
    """

    action: str
    queue: str
    dry_run: bool
    matched: int = 0
    changed: int = 0
    gone: int = 0
    unable: dict[str, int] = {}
    searched: int = 0
    complete: bool = True


class Finding(View, frozen=True, kw_only=True):
    """
    One thing that ``health`` looked at and did not like.

    Attributes:
        check: Which check.
        severity: ``error``, which makes it unhealthy, or ``warning``.
        queue: The queue, or an empty string.
        message: What is wrong.
        action: What to do.
    """

    check: str
    severity: Literal["error", "warning"]
    queue: str
    message: str
    action: str


class Health(View, frozen=True, kw_only=True):
    """
    The answer of ``health``.

    Attributes:
        healthy: No finding is an error.
        reachable: The server answered.
        queues: Queues that were looked at.
        findings: What is wrong, errors first.
    """

    healthy: bool
    reachable: bool
    queues: list[str]
    findings: list[Finding]

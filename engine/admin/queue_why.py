"""What keeps a queue from being empty, in one sentence. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from engine.admin.words import a_list, many, span
from schemas.stats import EngineStats, HeldType, QueueStats

LIMITS_NAMED = 2


def queue_why(stats: QueueStats, engines: Sequence[EngineStats], now_ms: int) -> str:
    """
    Say what a queue waits for.

    Args:
        stats: What it holds.
        engines: The engines as they are now.
        now_ms: The server's clock, Unix ms.
    """
    serving = [each for each in engines if each.live and stats.queue in each.beat.queues]
    for why in (
        _broken(stats),
        _paused(stats, now_ms),
        _unserved(stats, serving),
        _full(stats),
        *(_held(held, now_ms) for held in stats.held if held.held),
        _busy(stats, serving),
        _gated(stats),
        _blocked(stats),
        _working(stats, serving),
    ):
        if why:
            return why
    idle, dead = _idle(stats), stats.recent.get("dead")
    return f"{idle}; {many(dead, 'job')} died in the last five minutes" if dead else idle


def _broken(stats: QueueStats) -> str:
    if not stats.broken:
        return ""
    holds = "holds" if len(stats.broken) == 1 else "hold"
    return f"{a_list(stats.broken)} {holds} another type than engines need"


def _paused(stats: QueueStats, now_ms: int) -> str:
    if not stats.paused:
        return ""
    by = stats.paused_by
    who = f" by {by.who} {_ago(by.at_ms, now_ms)}" if by and by.who else ""
    reason = f" ({by.reason})" if by and by.reason else ""
    return f"paused{who}{reason}; {_wait(stats)}"


def _unserved(stats: QueueStats, serving: Sequence[EngineStats]) -> str:
    if not serving:
        return f"no engine serves it; {_wait(stats)}"
    if all(engine.beat.state == "draining" for engine in serving):
        return f"every engine that serves it is stopping; {_wait(stats)}"
    return ""


def _full(stats: QueueStats) -> str:
    found = stats.fullness
    if found is None or found.ratio < 1:
        return ""
    what = f"{found.jobs:,} of {found.jobs_max:,} jobs" if found.jobs_max else "its bytes"
    return f"full ({what}): producers wait or are refused; {_wait(stats)}"


def _held(held: HeldType, now_ms: int) -> str:
    since = f" for {span(now_ms - held.since_ms)}" if held.since_ms > 1 else ""
    reason = f": {held.reason}" if held.reason else ""
    return f"type {held.type} is held{since}{reason}; {many(held.jobs, 'job')} set aside"


def _busy(stats: QueueStats, serving: Sequence[EngineStats]) -> str:
    slots, running = room(stats, serving)
    parked = stats.gates.parked if stats.gates else 0
    if not slots or running < slots or stats.waiting <= parked:
        return ""
    all_of = f"all {slots} slots of {many(len(serving), 'engine')} are busy"
    return f"{all_of}; {_wait(stats)}"


def _gated(stats: QueueStats) -> str:
    gates = stats.gates
    if gates is None or not gates.parked or stats.waiting > gates.parked:
        return ""
    limits = sorted((each for each in gates.limits if each.parked), key=lambda each: -each.parked)
    named = [
        f"limit {each.name} ({each.rule or 'shut'}, {each.parked} wait)"
        for each in limits[:LIMITS_NAMED]
    ]
    if gates.by_key:
        named.append(f"others of their key ({gates.by_key} wait)")
    return f"all that waits is parked behind {a_list(named) or 'a gate'}"


def _blocked(stats: QueueStats) -> str:
    if stats.gates is None or not stats.gates.blocked_keys:
        return ""
    keys = many(stats.gates.blocked_keys, "key")
    return f"{keys} blocked by dead jobs: retry or discard these; {_wait(stats)}"


def _working(stats: QueueStats, serving: Sequence[EngineStats]) -> str:
    if not stats.active and not stats.waiting:
        return ""
    slots, running = room(stats, serving)
    took = f"{running} of {slots} slots busy"
    return f"{took}; {_wait(stats)}" if stats.waiting else f"{took}; nothing waits"


def _idle(stats: QueueStats) -> str:
    if stats.overdue:
        return f"nothing runs; {many(stats.overdue, 'job')} of the delayed ones are due"
    if stats.delayed:
        return f"nothing waits; {many(stats.delayed, 'job')} delayed until their time"
    if stats.flows:
        return f"nothing waits but {many(stats.flows, 'job')} for their children"
    return "idle: nothing waits and nothing runs"


def room(stats: QueueStats, serving: Sequence[EngineStats]) -> tuple[int, int]:
    """Count the slots that live engines have for a queue, and those that are taken."""
    loads = [each.beat.queues[stats.queue] for each in serving if stats.queue in each.beat.queues]
    return sum(load.concurrency for load in loads), sum(load.running for load in loads)


def _wait(stats: QueueStats) -> str:
    if not stats.waiting:
        return "nothing waits"
    jobs = f"{stats.waiting:,} job{'s' * (stats.waiting != 1)}"
    oldest = f", the oldest for {span(stats.oldest_ms)}" if stats.oldest_ms else ""
    return f"{jobs} wait{'s' * (stats.waiting == 1)}{oldest}"


def _ago(at_ms: int, now_ms: int) -> str:
    return f"{span(max(0, now_ms - at_ms))} ago" if at_ms else "some time ago"

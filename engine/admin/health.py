"""What ``health`` looks at: each finding says what is wrong and what to do."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from engine.admin.pressure import fullness_findings
from engine.admin.schedules import views
from engine.admin.words import many, span
from engine.errors import StoreError, StoreUnavailable
from engine.store.operator import OperatorStore
from schemas.schedule import ScheduleView
from schemas.stats import EngineStats, Finding, Health, QueueStats, Server

MEMORY_NEAR = 0.9
VERSION_MIN = {"redis": (6, 2), "valkey": (8, 0)}
LAG_MS_MAX = 1_000

STATES = (
    ("served", "bad", "no engine"),
    ("keys", "bad", "broken key"),
    ("held", "bad", "held type"),
    ("full", "bad", "full"),
    ("backlog", "warn", "behind"),
    ("paused", "paused", "paused"),
    ("filling", "warn", "filling up"),
    ("blocked", "warn", "keys blocked"),
    ("dead", "warn", "jobs die"),
    ("", "well", "well"),
)
"""The states of a queue, the worst first: the check that finds it, its kind, and its word."""


class QueueState(NamedTuple):
    """How a queue is: ``rank`` counts from the worst, ``kind`` colours, ``word`` is shown."""

    rank: int
    kind: str
    word: str


async def check(store: OperatorStore, queues: Sequence[str], *, backlog_age_ms_max: int) -> Health:
    """Look at the server, the engines and the queues."""
    try:
        server = await store.queues.server()
    except StoreError as error:
        return _report(False, list(queues), [_unreachable(error)])
    findings = server_findings(server)
    try:
        await store.queues.check_write()
    except StoreError as error:
        findings.append(_error("writable", "", f"the server takes no writes: {error}", _UNWRITABLE))
    try:
        engines = await store.queues.engines()
        served = {queue for engine in engines for queue in engine.beat.queues}
        wanted = sorted({*queues} | served)
        stats = await store.queues.overview(wanted, {}, engines)
    except StoreError as error:
        return _report(True, list(queues), [*findings, _unreadable(error)])
    for engine in engines:
        findings += engine_findings(engine)
    for each in stats:
        must = each.queue in queues
        findings += queue_findings(each, must=must, backlog_age_ms_max=backlog_age_ms_max)
    try:
        for each in stats:
            if each.schedules:
                records = await store.schedules.read(each.queue)
                known = views(each.queue, records, engines, server.time_ms)
                findings += schedule_findings(each, known)
    except StoreError as error:
        return _report(True, wanted, [*findings, _unreadable(error)])
    return _report(True, wanted, findings)


def server_findings(server: Server) -> list[Finding]:
    """Judge what the server says of itself."""
    findings = []
    name, _, version = server.version.partition(" ")
    numbers = tuple(map(int, re.findall(r"\d+", version)[:2]))
    if numbers and numbers < VERSION_MIN.get(name, (0, 0)):
        least = ".".join(map(str, VERSION_MIN[name]))
        findings.append(
            _error("version", "", f"{server.version} is too old", f"use {name} {least} or newer")
        )
    if server.memory_bytes_max:
        used = server.memory_bytes / server.memory_bytes_max
        found = _error if used >= 1 else _warning
        if used >= MEMORY_NEAR:
            what = f"{used:.0%} of {server.memory_bytes_max >> 20} MiB of memory are used"
            findings.append(
                found("memory", "", what, "raise maxmemory, add engines, or discard dead letters")
            )
        if server.eviction.startswith("allkeys-"):
            what = f"maxmemory-policy is {server.eviction}, which drops whole queues when full"
            findings.append(_error("eviction", "", what, "set maxmemory-policy noeviction"))
    if not server.aof:
        findings.append(
            _warning(
                "persistence",
                "",
                "no append-only file: accepted jobs are lost when the server ends",
                "set appendonly yes",
            )
        )
    return findings


def engine_findings(engine: EngineStats) -> list[Finding]:
    """Judge one engine's last beat."""
    beat = engine.beat
    if not engine.live:
        what = f"engine {beat.name} has been silent for {span(engine.silent_ms)}"
        return [_warning("engine", "", what, f"look at process {beat.pid} on {beat.host}")]
    if beat.loop_lag_ms > LAG_MS_MAX:
        what = f"the loop of engine {beat.name} was late by {span(beat.loop_lag_ms)}"
        return [_warning("engine", "", what, "a handler blocks the loop: use a process pool")]
    return []


def queue_findings(stats: QueueStats, *, must: bool, backlog_age_ms_max: int) -> list[Finding]:
    """
    Judge one queue.

    Args:
        stats: What it holds.
        must: Whether it has to be served.
        backlog_age_ms_max: Age of the oldest waiting job that is still well.
    """
    queue = stats.queue
    findings = []
    if must and not stats.engines:
        what = f"no live engine serves queue {queue}, in which {stats.waiting} jobs wait"
        findings.append(_error("served", queue, what, "start one: python -m engine run"))
    for key in stats.broken:
        what = f"key {key} holds another type, so engines cannot work with it"
        findings.append(_error("keys", queue, what, "see what wrote it, and rename or delete it"))
    if stats.paused:
        by = f" by {stats.paused_by.who}" if stats.paused_by and stats.paused_by.who else ""
        what = f"queue {queue} is paused{by}; {stats.waiting} jobs wait"
        findings.append(_warning("paused", queue, what, f"python -m engine resume {queue}"))
    elif stats.oldest_ms > backlog_age_ms_max:
        what = (
            f"the oldest of {stats.waiting} waiting jobs of queue {queue} is "
            f"{span(stats.oldest_ms)} old, limit {span(backlog_age_ms_max)}"
        )
        action = f"add engines, or raise it: python -m engine concurrency {queue} N"
        findings.append(_error("backlog", queue, what, action))
    for held in stats.held:
        if held.held:
            what = f"type {held.type} of queue {queue} is held, {held.jobs} jobs: {held.reason}"
            action = f"mend it, then python -m engine resume {queue} --type {held.type}"
            findings.append(_error("held", queue, what, action))
    findings += fullness_findings(stats)
    findings += _blocked(stats)
    if stats.recent.get("dead"):
        what = f"{stats.recent['dead']} jobs of queue {queue} died in the last five minutes"
        action = f"python -m engine dead analyse {queue}"
        findings.append(_warning("dead", queue, what, action))
    return findings


def schedule_findings(stats: QueueStats, known: Sequence[ScheduleView]) -> list[Finding]:
    """Judge the schedules of one queue."""
    queue = stats.queue
    findings = []
    on = [view for view in known if view.state == "on"]
    if on and not stats.engines:
        what = f"no live engine serves queue {queue}, so its {len(on)} schedules do not fire"
        findings.append(_error("schedules", queue, what, "start one: python -m engine run"))
    for view in known:
        if view.state == "broken":
            what = f"schedule {view.name} of queue {queue} cannot be read, so it does not fire: "
            action = f"write it again, or python -m engine schedule delete {view.name}"
            findings.append(_error("schedules", queue, what + view.problem, action))
        elif view.problem and stats.engines:
            what = f"schedule {view.name} of queue {queue}: {view.problem}"
            action = f"python -m engine schedule show {view.name}"
            findings.append(_error("schedules", queue, what, action))
    return findings


def _blocked(stats: QueueStats) -> list[Finding]:
    if stats.gates is None or not stats.gates.blocked_keys:
        return []
    keys = many(stats.gates.blocked_keys, "key")
    what = f"{keys} of queue {stats.queue} blocked by dead jobs, as `order` has it"
    action = f"python -m engine dead list {stats.queue}, then dead retry or dead discard"
    return [_warning("blocked", stats.queue, what, action)]


def state_of(queue: str, findings: Sequence[Finding]) -> QueueState:
    """Sum up in a word what was found at a queue; every door to the engine says the same."""
    checks = {finding.check for finding in findings if finding.queue == queue} | {""}
    return next(
        QueueState(rank, kind, word)
        for rank, (check, kind, word) in enumerate(STATES)
        if check in checks
    )


def _unreachable(error: StoreError) -> Finding:
    action = "start the server, or set ENGINE_REDIS_URL"
    if not isinstance(error, StoreUnavailable):
        action = "look at the server's message; check user and password in ENGINE_REDIS_URL"
    return _error("reachable", "", f"the server does not serve: {error}", action)


def _unreadable(error: StoreError) -> Finding:
    return _error("readable", "", f"the queues cannot be read: {error}", "look at the server")


_UNWRITABLE = "free memory or disk, or point ENGINE_REDIS_URL at the primary"


def _report(reachable: bool, queues: list[str], findings: list[Finding]) -> Health:
    return Health(
        healthy=not any(finding.severity == "error" for finding in findings),
        reachable=reachable,
        queues=queues,
        findings=sorted(findings, key=lambda finding: finding.severity != "error"),
    )


def _error(check: str, queue: str, message: str, action: str) -> Finding:
    return Finding(check=check, severity="error", queue=queue, message=message, action=action)


def _warning(check: str, queue: str, message: str, action: str) -> Finding:
    return Finding(check=check, severity="warning", queue=queue, message=message, action=action)

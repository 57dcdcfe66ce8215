"""How the whole back end is: both servers, queues, engines, outbox. Trouble is told, not raised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import asyncpg

from engine import Clock
from engine.admin import Admin
from engine.admin.health import state_of
from engine.admin.words import span
from engine.errors import StoreError
from processors.database import job_outbox
from processors.database.pool import Database
from processors.errors import ConfigurationError, DatabaseError
from schemas.queues import BackEndHealth, OutboxLook, QueueLook
from schemas.stats import EngineStats, Finding, QueueStats

ROWS_COUNTED_MAX: Final = 10_000
_NO_ANSWER = (DatabaseError, ConfigurationError, asyncpg.PostgresError, asyncpg.InterfaceError)


@dataclass(frozen=True, slots=True)
class Limits:
    """
    From where on something is not well.

    Attributes:
        backlog_ms: Age of the oldest waiting job of a queue.
        outbox_ms: Age of the oldest row in the outbox.
    """

    backlog_ms: int = 300_000
    outbox_ms: int = 60_000


async def check(
    admin: Admin, database: Database | None, clock: Clock, limits: Limits
) -> BackEndHealth:
    """Look at everything."""
    findings: list[Finding] = []
    postgres_ms, outbox = await _database(database, clock, limits, findings)
    redis_ms, stats, engines = None, list[QueueStats](), list[EngineStats]()
    try:
        began = clock.monotonic()
        await admin.server()
        redis_ms = _ms_since(clock, began)
        engines = await admin.engines()
        stats = await admin.queues()
    except StoreError:
        # The engine's own check says what is wrong, and what to do.
        stats = []
    known = [each.queue for each in stats]
    health = await admin.health(known, backlog_age_ms_max=limits.backlog_ms)
    findings += health.findings
    for each in stats:
        if _stalled(each):
            what = f"{_stalled(each)} jobs of queue {each.queue} do not move"
            action = "start an engine, or look at its log: python -m engine health"
            findings.append(_finding("stalled", "warning", what, action, queue=each.queue))
    findings.sort(key=lambda finding: finding.severity != "error")
    return BackEndHealth(
        healthy=not any(finding.severity == "error" for finding in findings),
        redis_ms=redis_ms,
        postgres_ms=postgres_ms,
        queues=[_look(each, findings) for each in stats],
        engines=engines,
        outbox=outbox,
        findings=findings,
    )


async def _database(
    database: Database | None, clock: Clock, limits: Limits, findings: list[Finding]
) -> tuple[float | None, OutboxLook | None]:
    """Measure the database and look at the outbox; adds what is wrong."""
    if database is None:
        what = "no PostgreSQL is set, so nothing is known of the database and the outbox"
        findings.append(_finding("postgres", "warning", what, "set ENGINE_POSTGRES_URL"))
        return None, None
    began = clock.monotonic()
    try:
        await database.fetchrow("SELECT 1")
        taken_ms = _ms_since(clock, began)
        outbox = await job_outbox.look(database, rows_max=ROWS_COUNTED_MAX)
    except _NO_ANSWER as error:
        what = f"PostgreSQL does not serve: {type(error).__name__}: {error}"[:300]
        action = "start it, run `python -m engine migrate`, or set ENGINE_POSTGRES_URL"
        findings.append(_finding("postgres", "error", what, action))
        return None, None
    findings += _of_outbox(outbox, limits)
    return taken_ms, outbox


def _of_outbox(outbox: OutboxLook, limits: Limits) -> list[Finding]:
    found = []
    for name, oldest_ms in (("event", outbox.events_oldest_ms), ("job", outbox.jobs_oldest_ms)):
        if oldest_ms > limits.outbox_ms:
            what = f"the oldest {name} in the outbox is {span(oldest_ms)} old"
            action = "start an engine, whose relay empties it, or look for *_relay_waits in its log"
            found.append(_finding("outbox", "error", what, action))
    if outbox.set_aside:
        what = f"{outbox.set_aside} rows of the outbox are no jobs and were set aside"
        action = "SELECT id, error, payload FROM outbox WHERE failed_at IS NOT NULL; mend or delete"
        found.append(_finding("outbox", "warning", what, action))
    return found


def _look(stats: QueueStats, findings: list[Finding]) -> QueueLook:
    return QueueLook(
        queue=stats.queue,
        state=state_of(stats.queue, findings).word,
        waiting=stats.waiting,
        active=stats.active,
        delayed=stats.delayed,
        stalled=_stalled(stats),
        oldest_ms=stats.oldest_ms,
        dead=stats.dead,
        dead_recent=stats.recent.get("dead", 0),
        engines=len(stats.engines),
        paused=stats.paused,
    )


def _stalled(stats: QueueStats) -> int:
    return stats.overdue + (0 if stats.engines else stats.active)


def _ms_since(clock: Clock, began_s: float) -> float:
    return round((clock.monotonic() - began_s) * 1000, 3)


def _finding(
    check_name: str,
    severity: Literal["error", "warning"],
    message: str,
    action: str,
    *,
    queue: str = "",
) -> Finding:
    return Finding(check=check_name, severity=severity, queue=queue, message=message, action=action)

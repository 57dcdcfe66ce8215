"""Everything at a glance, made of what was read. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from engine.admin.health import LAG_MS_MAX, queue_findings, state_of
from engine.dashboard.troubles import troubles_of, verdict_of
from schemas.numbers import Glance
from schemas.overview import (
    EngineGlance,
    Kind,
    Overview,
    QueueGlance,
    Slots,
    StateWord,
    Totals,
    Trouble,
)
from schemas.schedule import ScheduleView
from schemas.stats import Audited, EngineStats, QueueStats, Server

ENGINES_SHOWN = 4
MIB = 1 << 20
KINDS: tuple[Kind, ...] = ("bad", "warn", "unknown", "well", "paused")
"""From the worst on; what somebody paused needs nobody's eye."""


def overview_of(
    *,
    server: Server,
    engines: Sequence[EngineStats],
    queues: Sequence[QueueStats],
    paces: Mapping[str, Glance],
    happened: Sequence[Audited],
    backlog_age_ms_max: int,
    schedules: Sequence[ScheduleView] = (),
    own: Sequence[Trouble] = (),
) -> Overview:
    """
    Make an overview.

    Args:
        server: What the server of the queues says of itself.
        engines: The engines heard of lately.
        queues: What queues hold.
        paces: How fast they go, by name.
        happened: What people changed lately, the newest first.
        backlog_age_ms_max: Age of the oldest waiting job that is still well.
        schedules: The schedules that have a problem.
        own: Troubles of the engine that answers, which no other one knows of.
    """
    seen = {
        each.queue: queue_glance(each, paces[each.queue], engines, backlog_age_ms_max)
        for each in queues
    }
    found = sorted(map(engine_glance, engines), key=engine_badness)
    troubles = [
        *troubles_of(server, engines, seen, schedules, backlog_age_ms_max=backlog_age_ms_max),
        *own,
    ]
    return Overview(
        at_ms=server.time_ms,
        verdict=verdict_of(seen, troubles, backlog_age_ms_max),
        troubles=troubles,
        totals=totals_of(seen.values(), found),
        queues=seen,
        order=sorted(seen, key=lambda name: _badness(seen[name])),
        engines={each.beat.name: each for each in found[:ENGINES_SHOWN]},
        engine_order=[each.beat.name for each in found[:ENGINES_SHOWN]],
        server=server,
        happened=[_plain(each) for each in happened],
    )


def queue_glance(
    stats: QueueStats, pace: Glance, engines: Sequence[EngineStats], backlog_age_ms_max: int
) -> QueueGlance:
    """Say how a queue is, and how fast it goes."""
    findings = queue_findings(stats, must=True, backlog_age_ms_max=backlog_age_ms_max)
    _, kind, word = state_of(stats.queue, findings)
    return QueueGlance(
        stats=stats,
        state=StateWord(kind=_kind(kind), word=word),
        slots=_slots(stats.queue, engines),
        rate=pace.rate,
        spark=pace.spark,
        empty_in_ms=pace.empty_in_ms,
        empty=pace.empty,
    )


def engine_glance(engine: EngineStats) -> EngineGlance:
    """Say how an engine is; numbers that tremble are rounded, so that little changes."""
    calm = _calm(engine)
    running = sum(load.running for load in calm.beat.queues.values())
    concurrency = sum(load.concurrency for load in calm.beat.queues.values())
    return EngineGlance(
        beat=calm.beat,
        silent_ms=calm.silent_ms,
        live=engine.live,
        state=_engine_state(engine),
        running=running,
        concurrency=concurrency,
        load=round(running / concurrency, 2) if concurrency else 0.0,
    )


def engine_badness(engine: EngineGlance) -> tuple[int, float, str]:
    """Order engines, the worst first; small differences of load move none."""
    return KINDS.index(engine.state.kind), -round(engine.load, 1), engine.beat.name


def totals_of(queues: Iterable[QueueGlance], engines: Sequence[EngineGlance]) -> Totals:
    """Add up all queues."""
    seen = list(queues)
    moving = [glance.stats for glance in seen if not glance.stats.paused]
    oldest = max(moving, key=lambda stats: stats.oldest_ms, default=None)
    return Totals(
        oldest_ms=oldest.oldest_ms if oldest else 0,
        oldest_queue=oldest.queue if oldest and oldest.oldest_ms else "",
        waiting=sum(glance.stats.waiting for glance in seen),
        waiting_growth_s=_sum(glance.rate.growth_s for glance in seen),
        done_s=_sum(glance.rate.done_s for glance in seen),
        dead_hour=_dead_hour(seen),
        dead=sum(glance.stats.dead for glance in seen),
        engines_live=sum(engine.live for engine in engines),
        engines=len(engines),
        slow=sum(engine.live and engine.state.kind == "warn" for engine in engines),
        versions=dict(sorted(Counter(engine.beat.version for engine in engines).items())),
    )


def _plain(audited: Audited) -> Audited:
    """Leave out what may hold payloads, such as those of schedules: all look at one overview."""
    detail = {
        name: value
        for name, value in audited.detail.items()
        if isinstance(value, int | float)
        or (isinstance(value, str) and not value.lstrip().startswith(("{", "[")))
    }
    return msgspec.structs.replace(audited, detail=detail)


def _badness(glance: QueueGlance) -> tuple[int, int, str]:
    rank = KINDS.index(glance.state.kind)
    late = glance.stats.oldest_ms // 1000 if glance.state.kind in {"bad", "warn"} else 0
    return rank, -late, glance.stats.queue


def _kind(kind: str) -> Kind:
    return next(known for known in KINDS if known == kind)


def _engine_state(engine: EngineStats) -> StateWord:
    if not engine.live:
        return StateWord(kind="bad", word="silent")
    if engine.beat.loop_lag_ms > LAG_MS_MAX:
        return StateWord(kind="warn", word="loop lag")
    if engine.beat.state == "draining":
        return StateWord(kind="paused", word="stopping")
    return StateWord(kind="well", word="well")


def _slots(queue: str, engines: Sequence[EngineStats]) -> Slots:
    loads = [each.beat.queues[queue] for each in engines if each.live and queue in each.beat.queues]
    return Slots(
        busy=sum(load.running for load in loads), all=sum(load.concurrency for load in loads)
    )


def _calm(engine: EngineStats) -> EngineStats:
    beat = engine.beat
    calm = msgspec.structs.replace(
        beat,
        loop_lag_ms=float(round(beat.loop_lag_ms)),
        rss_bytes=round(beat.rss_bytes / MIB) * MIB,
    )
    silent_ms = engine.silent_ms // 1000 * 1000
    return msgspec.structs.replace(engine, beat=calm, silent_ms=silent_ms)


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _dead_hour(seen: Iterable[QueueGlance]) -> int | None:
    found = []
    for glance in seen:
        counted = [dead for dead in glance.spark.dead if dead is not None]
        # Deaths of the minute that goes on stand among the recent ones alone.
        recent = glance.stats.recent.get("dead", 0)
        if counted or recent:
            found.append(max(sum(counted), recent))
    return sum(found) if found else None


__all__ = ["engine_badness", "engine_glance", "overview_of", "queue_glance", "totals_of"]

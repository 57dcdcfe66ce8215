"""What is wrong, as people read it: one row per trouble, the worst first. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import quote

from engine.admin.health import engine_findings, queue_findings, server_findings
from engine.admin.words import many, span
from schemas.overview import Kind, QueueGlance, Trouble, Verdict
from schemas.schedule import ScheduleView
from schemas.stats import EngineStats, Finding, HeldType, Server

ORDER = (
    *("served", "reachable", "memory", "eviction", "keys", "held", "full"),
    *("schedules", "backlog", "filling", "dead", "blocked", "engine", "version", "persistence"),
)
"""The checks of ``health``, the worst first."""


def troubles_of(
    server: Server,
    engines: Sequence[EngineStats],
    queues: Mapping[str, QueueGlance],
    schedules: Sequence[ScheduleView],
    *,
    backlog_age_ms_max: int,
) -> list[Trouble]:
    """
    List what is wrong, the worst first; what somebody paused is not.

    Args:
        server: What the server of the queues says of itself.
        engines: The engines heard of lately.
        queues: The queues by name.
        schedules: The schedules that have a problem.
        backlog_age_ms_max: Age of the oldest waiting job that is still well.
    """
    found = [_of_server(each) for each in server_findings(server)]
    for engine in engines:
        found += [_of_engine(each, engine) for each in engine_findings(engine)]
    no_engine = not any(engine.live for engine in engines)
    if no_engine and queues:
        found.append(_nobody(queues))
    for glance in queues.values():
        told = queue_findings(glance.stats, must=True, backlog_age_ms_max=backlog_age_ms_max)
        for each in told:
            if each.check == "paused" or (each.check == "served" and no_engine):
                continue
            if each.check != "held":
                found.append(_of_queue(each, glance, server.time_ms, backlog_age_ms_max))
        found += _holds(glance)
        if glance.stats.engines:
            found += _schedules(glance.stats.queue, schedules, server.time_ms)
    return sorted(found, key=lambda trouble: (_rank(trouble), trouble.queue, trouble.key))


def away_of(why: str, since_ms: int) -> Trouble:
    """
    Say that the queues cannot be read.

    Args:
        why: What failed.
        since_ms: When they could be read for the last time.
    """
    return Trouble(
        key="server reachable",
        kind="bad",
        check="reachable",
        what=_sentence(why),
        evidence="What stands here is the last that was known; jobs wait where they are.",
        since_ms=since_ms,
        action="look at the server of the queues",
    )


def _rank(trouble: Trouble) -> tuple[bool, int]:
    at = ORDER.index(trouble.check) if trouble.check in ORDER else len(ORDER)
    return trouble.kind != "bad", at


def _kind(finding: Finding) -> Kind:
    if finding.check == "backlog":
        # Late, but on its way; what stopped altogether stands above it.
        return "warn"
    return "bad" if finding.severity == "error" else "warn"


def _of_server(finding: Finding) -> Trouble:
    return Trouble(
        key=f"server {finding.check}",
        kind=_kind(finding),
        check=finding.check,
        what=_sentence(finding.message),
        action=finding.action,
    )


def _of_engine(finding: Finding, engine: EngineStats) -> Trouble:
    beat = engine.beat
    if engine.live:
        what = f"Its loop was late by {span(beat.loop_lag_ms)}."
        evidence = f"On {beat.host}; a handler blocks it, so all its jobs wait."
    else:
        what = f"Silent for {_seconds(engine.silent_ms)}."
        evidence = f"Process {beat.pid} on {beat.host}; others take over the jobs that it had."
    return Trouble(
        key=f"engine {beat.name} {'late' if engine.live else 'silent'}",
        kind="warn",
        check="engine",
        engine=beat.name,
        what=what,
        evidence=evidence,
        since_ms=0 if engine.live else beat.beat_ms,
        action=finding.action,
        href=f"/engines/{quote(beat.name, safe='')}",
        button="Look at the engine",
    )


def _nobody(queues: Mapping[str, QueueGlance]) -> Trouble:
    waiting = sum(glance.stats.waiting for glance in queues.values())
    return Trouble(
        key="served",
        kind="bad",
        check="served",
        what="No engine runs.",
        evidence=f"{many(waiting, 'job')} wait in {many(len(queues), 'queue')}; none is lost.",
        action="start one: python -m engine run",
        href="/engines",
        button="Look at the engines",
    )


def _holds(glance: QueueGlance) -> Iterator[Trouble]:
    for held in glance.stats.held:
        if held.held:
            yield _hold(glance.stats.queue, held)


def _hold(queue: str, held: HeldType) -> Trouble:
    by = f" by {held.by}" if held.by else ""
    return Trouble(
        key=f"{queue} held {held.type}",
        kind="bad",
        check="held",
        queue=queue,
        what=f"Type {held.type} is held{by}: {held.reason or 'no reason was given'}.",
        evidence=f"{_jobs_are(held.jobs)} set aside, none is lost.",
        since_ms=held.since_ms if held.since_ms > 1 else 0,
        action=f"mend it, then python -m engine resume {queue} --type {held.type}",
        href=f"{_page(queue)}#types",
        button="Look at the hold",
    )


def _schedules(queue: str, schedules: Sequence[ScheduleView], now_ms: int) -> Iterator[Trouble]:
    """Tell of the first schedule of a queue that has a problem, and count the others."""
    wrong = [view for view in schedules if view.queue == queue]
    if not wrong:
        return
    view, others = wrong[0], len(wrong) - 1
    fires = f"It is to fire {view.when}" if view.when else "It does not fire"
    rest = f"; {others} more of {queue} {_verb(others, 'need')} attention" if others else ""
    yield Trouble(
        key=f"{queue} schedules",
        kind="bad",
        check="schedules",
        schedule=view.name,
        what=_sentence(view.problem),
        evidence=f"{fires}{rest}.",
        since_ms=view.next_ms if view.next_ms < now_ms else 0,
        action=f"python -m engine schedule show {view.name}",
        href=f"/schedules?queue={quote(queue, safe='')}",
        button="Look at schedules",
    )


def _of_queue(
    finding: Finding, glance: QueueGlance, now_ms: int, backlog_age_ms_max: int
) -> Trouble:
    stats = glance.stats
    queue = stats.queue
    what, evidence, href, button, since_ms = _sentence(finding.message), "", _page(queue), "", 0
    match finding.check:
        case "served":
            what = "No live engine serves it."
            evidence = f"{many(stats.waiting, 'job')} wait, none is lost."
            href, button = "/engines", "Look at the engines"
        case "backlog":
            limit = _round(backlog_age_ms_max)
            what = f"The oldest job waits {_seconds(stats.oldest_ms)}, limit {limit}."
            evidence = _course(glance)
            button = "Raise concurrency" if _is_busy(glance) else "Look at the queue"
            since_ms = now_ms - stats.oldest_ms + backlog_age_ms_max
        case "dead":
            what = f"{many(stats.recent.get('dead', 0), 'job')} died in the last five minutes."
            evidence = f"Dead letters kept: {stats.dead:,}."
            href, button = f"/dead?queue={quote(queue, safe='')}", "Look at dead letters"
        case "blocked":
            href, button = f"/dead?queue={quote(queue, safe='')}", "Look at dead letters"
        case "full" | "filling":
            button = "Raise the bound"
        case _:
            button = "Look at the queue"
    return Trouble(
        key=f"{queue} {finding.check} {finding.message if finding.check == 'keys' else ''}".strip(),
        kind=_kind(finding),
        check=finding.check,
        queue=queue,
        what=what,
        evidence=evidence,
        since_ms=since_ms,
        action=finding.action,
        href=href,
        button=button,
    )


def _is_busy(glance: QueueGlance) -> bool:
    return bool(glance.slots.all) and glance.slots.busy >= glance.slots.all


def _course(glance: QueueGlance) -> str:
    """Say what keeps a backlog, and whether it will go."""
    parts = []
    slots = glance.slots
    if _is_busy(glance):
        parts.append(f"All {slots.all:,} slots are busy")
    elif slots.all:
        parts.append(f"{slots.busy:,} of {slots.all:,} slots are busy")
    rate = glance.rate
    if rate.done_s is not None and rate.in_s is not None:
        parts.append(f"{_per_s(rate.in_s)} come in, {_per_s(rate.done_s)} are done")
    end = {"never": "it will not empty", "—": ""}.get(glance.empty, f"empty in {glance.empty}")
    told = "; ".join(parts)
    return f"{told}: {end}." if end and glance.empty not in {"held", "paused"} else f"{told}."


def verdict_of(
    queues: Mapping[str, QueueGlance], troubles: Sequence[Trouble], limit_ms: int
) -> Verdict:
    """
    Sum up in a line whether anything is wrong.

    Args:
        queues: The queues by name.
        troubles: What is wrong.
        limit_ms: Age of the oldest waiting job that is still well.
    """
    if not queues:
        return Verdict(
            kind="warn" if troubles else "unknown",
            title="No queue is known yet",
            note="Start an engine, or send a job; both make queues known.",
        )
    sick = {trouble.queue for trouble in troubles if trouble.queue}
    kind: Kind = "well"
    if troubles:
        kind = "bad" if any(trouble.kind == "bad" for trouble in troubles) else "warn"
    return Verdict(
        kind=kind,
        title=_title(len(queues), sick, troubles),
        note=_pauses(queues) or ("" if troubles else _well(queues, limit_ms)),
    )


def _title(queues: int, sick: set[str], troubles: Sequence[Trouble]) -> str:
    if any(trouble.key == "served" for trouble in troubles):
        return "No engine runs"
    if sick:
        needs = "needs" if len(sick) == 1 else "need"
        return f"{len(sick)} of {many(queues, 'queue')} {needs} attention"
    well = "The queue is well" if queues == 1 else f"All {queues} queues are well"
    engines = {trouble.engine for trouble in troubles if trouble.engine}
    if any(trouble.schedule for trouble in troubles):
        return f"{well}, {'engines and ' if engines else ''}schedules need attention"
    if engines:
        return f"{well}, {many(len(engines), 'engine')} {_verb(len(engines), 'need')} attention"
    return f"{well}, the server needs attention" if troubles else well


def _pauses(queues: Mapping[str, QueueGlance]) -> str:
    told = []
    for name, glance in queues.items():
        if glance.stats.paused:
            by = glance.stats.paused_by
            who = f" by {by.who}" if by and by.who else ""
            reason = f", “{by.reason}”" if by and by.reason else ""
            told.append(f"{name} is paused{who}{reason}")
    return "; ".join(told) + "." if told else ""


def _well(queues: Mapping[str, QueueGlance], limit_ms: int) -> str:
    waiting = sum(glance.stats.waiting for glance in queues.values())
    waits = f"No job waits longer than {_round(limit_ms)}" if waiting else "Nothing waits"
    return f"{waits}, and no job died in the last five minutes."


def _page(queue: str) -> str:
    return f"/queues/{quote(queue, safe='')}"


def _sentence(message: str) -> str:
    return f"{message[:1].upper()}{message[1:].rstrip('.')}."


def _jobs_are(jobs: int) -> str:
    return f"{many(jobs, 'job')} {'is' if jobs == 1 else 'are'}"


def _verb(count: int, verb: str) -> str:
    return f"{verb}s" if count == 1 else verb


def _round(ms: int) -> str:
    return span(ms).removesuffix(" 0 s")


def _seconds(ms: int) -> str:
    """Write a duration to the second, so that it does not flicker."""
    return f"{ms // 1000} s" if ms < 10_000 else span(ms)


def _per_s(rate: float) -> str:
    if rate < 0.001:
        return "none"
    return f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.2g}/s"


__all__ = ["ORDER", "away_of", "troubles_of", "verdict_of"]

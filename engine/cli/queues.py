"""``queues``, ``pause``, ``resume`` and ``concurrency``."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import click

from engine.admin import Admin
from engine.admin.explain import span
from engine.admin.health import QueueState, queue_findings, state_of
from engine.cli.completing import queue_names, type_names
from engine.cli.frame import Frame, json_option, note
from engine.cli.gate_tables import gate_pairs, print_limits
from engine.cli.output import Cell, age, fullness, print_json, print_pairs, print_table
from engine.cli.watching import watchable
from schemas.stats import Change, QueueStats

COLUMNS = (
    "QUEUE",
    "STATE",
    ">WAITING",
    ">OLDEST",
    ">ACTIVE",
    ">DELAYED",
    ">HELD",
    ">FULL",
    ">DEAD",
    ">DONE 5M",
    ">ENGINES",
)

FILLING = ("full", "filling up")
COLOURS = {"bad": "red", "paused": "yellow", "warn": "yellow", "well": "green"}

reason_option = click.option("--reason", default="", help="Why, for others and the audit stream.")


@click.command()
@click.argument("names", nargs=-1, metavar="[QUEUE]...", shell_complete=queue_names)
@json_option
@click.pass_obj
@watchable
def queues(frame: Frame, names: tuple[str, ...], as_json: bool) -> None:
    """
    Show queues at a glance, worst first; named ones with lanes and types.

    \b
    Examples:
      python -m engine queues
      python -m engine queues message-delivery
      python -m engine queues --json | jq '.[] | select(.dead > 0) | .queue'
    """  # noqa: D301 - click reads \b
    limit_ms = frame.settings.backlog_age_ms_max
    found = frame.operate(lambda admin: admin.queues(names), known=not names)
    found.sort(key=lambda stats: worse(stats, limit_ms))
    if as_json:
        print_json(found)
        return
    if not found:
        note("no queue is known: name some, or start an engine")
        return
    print_table(
        COLUMNS,
        [_row(stats, limit_ms) for stats in found],
    )
    for stats in found if names else ():
        _print_detail(stats)


def worse(stats: QueueStats, limit_ms: int) -> tuple[int, int, int, str]:
    """Order queues, the worst first."""
    return _state(stats, limit_ms).rank, -stats.oldest_ms, -stats.dead, stats.queue


def _state(stats: QueueStats, limit_ms: int) -> QueueState:
    findings = queue_findings(stats, must=True, backlog_age_ms_max=limit_ms)
    return state_of(stats.queue, findings)


def _row(stats: QueueStats, limit_ms: int) -> list[Cell]:
    state = _state(stats, limit_ms)
    held = sum(each.jobs for each in stats.held)
    return [
        stats.queue,
        (state.word, COLOURS[state.kind]),
        str(stats.waiting),
        span(stats.oldest_ms) if stats.oldest_ms else "-",
        str(stats.active),
        str(stats.delayed),
        str(held),
        _full(stats, state),
        (str(stats.dead), "red" if stats.dead else ""),
        str(stats.recent.get("done", 0)),
        str(len(stats.engines)),
    ]


def _full(stats: QueueStats, state: QueueState) -> Cell:
    """How full a queue with bounds is."""
    found = stats.fullness
    if found is None or not (found.jobs_max or found.bytes_max):
        return "-"
    return f"{found.ratio:.0%}", COLOURS[state.kind] if state.word in FILLING else ""


def _print_detail(stats: QueueStats) -> None:
    click.echo()
    paused = ""
    if stats.paused:
        by = stats.paused_by
        paused = f"by {by.who} {age(by.at_ms)} {by.reason}".rstrip() if by else "yes"
    print_pairs(
        [
            ("queue", stats.queue),
            ("paused", paused),
            ("concurrency", str(stats.concurrency or "as each engine is set")),
            ("holds", fullness(stats.fullness) if stats.fullness else ""),
            ("engines", ", ".join(stats.engines) or "none"),
            ("schedules", str(stats.schedules or "")),
            ("done kept", str(stats.done_kept)),
            ("waiting for children", str(stats.flows) if stats.flows else ""),
            ("cancelling", str(stats.cancelling or "")),
            *gate_pairs(stats.gates),
        ]
        + [
            (f"held {held.type}", f"{held.jobs} jobs, {age(held.since_ms)}: {held.reason}")
            for held in stats.held
        ]
    )
    click.echo()
    print_table(
        ["LANE", ">WAITING", ">PARKED", ">OLDEST", ">ACTIVE"],
        [
            [
                name,
                str(lane.waiting),
                str(lane.parked),
                span(lane.oldest_ms) if lane.oldest_ms else "-",
                str(lane.active),
            ]
            for name, lane in stats.lanes.items()
        ],
    )
    if stats.gates is not None and stats.gates.limits:
        click.echo()
        print_limits(stats.gates.limits)
    types = sorted({name for counts in stats.totals.values() for name in counts})
    if types:
        click.echo()
        outcomes = list(stats.totals)
        print_table(
            ["TYPE", *(f">{outcome.upper()}" for outcome in outcomes)],
            [[name, *(str(stats.totals[o].get(name, 0)) for o in outcomes)] for name in types],
        )


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="QUEUE...", shell_complete=queue_names)
@click.option(
    "--type",
    "job_type",
    default="",
    shell_complete=type_names,
    help="Hold only this type; its jobs are set aside.",
)
@reason_option
@json_option
@click.pass_obj
def pause(frame: Frame, names: tuple[str, ...], job_type: str, reason: str, as_json: bool) -> None:
    """
    Start nothing new in queues, on all engines, within a second.

    Running jobs go on; producers can enqueue; a restart does not undo it.

    \b
    Examples:
      python -m engine pause notification --reason "provider is down"
      python -m engine pause notification --type email --reason "wrong key"
    """  # noqa: D301 - click reads \b

    async def change(admin: Admin, name: str) -> Change:
        if job_type:
            return await admin.hold(name, job_type, reason=reason)
        return await admin.pause(name, reason=reason)

    _each(frame, names, change, as_json)


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="QUEUE...", shell_complete=queue_names)
@click.option(
    "--type",
    "job_type",
    default="",
    shell_complete=type_names,
    help="Release the hold on this type instead.",
)
@reason_option
@json_option
@click.pass_obj
def resume(frame: Frame, names: tuple[str, ...], job_type: str, reason: str, as_json: bool) -> None:
    """
    Let queues go on, or a held type of them.

    \b
    Examples:
      python -m engine resume notification
      python -m engine resume notification --type email
    """  # noqa: D301 - click reads \b

    async def change(admin: Admin, name: str) -> Change:
        if job_type:
            return await admin.release(name, job_type, reason=reason)
        return await admin.resume(name, reason=reason)

    _each(frame, names, change, as_json)


@click.command()
@click.argument("queue", shell_complete=queue_names)
@click.argument("jobs", metavar="N|default")
@reason_option
@json_option
@click.pass_obj
def concurrency(frame: Frame, queue: str, jobs: str, reason: str, as_json: bool) -> None:
    """
    Set how many jobs of a queue each engine runs at a time, live.

    `default` gives each engine its own setting back.

    \b
    Examples:
      python -m engine concurrency indexing 64
      python -m engine concurrency indexing default
    """  # noqa: D301 - click reads \b
    if jobs != "default" and not (jobs.isascii() and jobs.isdigit()):
        raise click.UsageError(f"{jobs!r} is neither a number nor `default`")
    wanted = None if jobs == "default" else int(jobs)

    async def change(admin: Admin, name: str) -> Change:
        return await admin.concurrency(name, wanted, reason=reason)

    _each(frame, (queue,), change, as_json)


Changing = Callable[[Admin, str], Coroutine[Any, Any, Change]]


def _each(frame: Frame, names: tuple[str, ...], change: Changing, as_json: bool) -> None:
    async def all_of(admin: Admin) -> tuple[list[Change], list[QueueStats]]:
        changes = [await change(admin, name) for name in names]
        return changes, await admin.queues(names)

    changes, stats = frame.operate(all_of, known=False)
    if as_json:
        print_json(changes)
    for each in changes if not as_json else ():
        click.echo(_told(each))
    for queue in stats:
        if not queue.engines:
            note(f"no engine serves queue {queue.queue} now; what was set waits for one")


def _told(change: Change) -> str:
    number = f"{change.after} jobs at a time per engine" if change.after else "each engine's own"
    words = {
        "pause": ("paused", "was paused already"),
        "resume": ("resumed", "was not paused"),
        "hold": (f"holds {change.after} now", f"held {change.after} already"),
        "release": ("released its hold", "had no such hold"),
        "concurrency": (
            f"concurrency is {number}",
            f"concurrency was {number} already",
        ),
    }
    done, already = words[change.what]
    return f"{change.queue}: {done if change.changed else already}"

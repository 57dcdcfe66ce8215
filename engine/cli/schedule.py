"""``schedule``: list, show, next, add, change, pause, resume, run, delete."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import click
import msgspec

from engine.admin import Admin
from engine.cli.completing import queue_names
from engine.cli.enqueue import read_headers, read_payload
from engine.cli.frame import Frame, json_option, note
from engine.cli.lines import LineError, moment, span_ms
from engine.cli.output import Cell, age, print_json, print_pairs, print_table
from engine.cli.queues import reason_option
from engine.cli.watching import watchable
from engine.errors import RegistryError
from engine.registry import JobType
from engine.store.schedules import moment_ms, new_schedule
from schemas.rules import LANES
from schemas.schedule import CatchUp, Schedule, ScheduleChanged, ScheduleView

COLOURS = {"on": "green", "paused": "yellow", "ended": "", "broken": "red"}

name_argument = click.argument("name")
queue_option = click.option(
    "--queue", default="", shell_complete=queue_names, help="Its queue, if several have this name."
)
tz_option = click.option("--tz", help="IANA zone of the cron expression; UTC if left out.")


@click.group(invoke_without_command=False)
def schedule() -> None:
    """
    Look at what jobs are made by the clock, and change it live.

    \b
    Examples:
      python -m engine schedule list
      python -m engine schedule add nightly cleanup --cron "0 3 * * *" --tz Europe/Berlin
      python -m engine schedule run nightly
    """  # noqa: D301 - click reads \b


@schedule.command("list")
@click.argument("names", nargs=-1, metavar="[QUEUE]...", shell_complete=queue_names)
@json_option
@click.pass_obj
@watchable
def list_(frame: Frame, names: tuple[str, ...], as_json: bool) -> None:
    """
    List schedules: when they tick, when next, and what keeps them from it.

    \b
    Examples:
      python -m engine schedule list
      python -m engine schedule list maintenance --json
    """  # noqa: D301 - click reads \b
    found = frame.operate(lambda admin: admin.schedules(names), known=not names)
    if as_json:
        print_json(found)
    elif found:
        print_table(
            ["QUEUE", "NAME", "STATE", "TYPE", ">TICKS", "LAST", "NEXT", "WHEN", "PROBLEM"],
            map_rows(found),
        )
    else:
        note("no schedule is known: `schedule add` one, or declare it in the app")


def map_rows(found: list[ScheduleView]) -> list[list[Cell]]:
    """Return the rows of a list."""
    return [
        [
            view.queue,
            view.name,
            (view.state, COLOURS[view.state]),
            view.type,
            str(view.ticks),
            age(view.last_ms),
            view.next or "-",
            view.when,
            (view.problem, "red"),
        ]
        for view in found
    ]


@schedule.command()
@name_argument
@queue_option
@json_option
@click.pass_obj
def show(frame: Frame, name: str, queue: str, as_json: bool) -> None:
    """
    Tell all about one schedule.

    \b
    Example:
      python -m engine schedule show nightly-cleanup
    """  # noqa: D301 - click reads \b
    view = frame.operate(lambda admin: admin.schedule(name, queue=queue), known=not queue)
    if as_json:
        print_json(view)
    else:
        print_view(view)


def print_view(view: ScheduleView) -> None:
    """Print everything that is known of a schedule."""
    preview = [age(at_ms) for at_ms in view.upcoming[1:]]
    print_pairs(
        [
            ("schedule", view.name),
            ("state", (view.state, COLOURS[view.state])),
            ("problem", (view.problem, "red")),
            ("when", view.when),
            ("next", view.next),
            ("then", ", ".join(preview)),
            ("last", age(view.last_ms)),
            ("ticks", str(view.ticks)),
            ("makes", f"{view.type} in {view.queue}, lane {view.lane}" if view.type else ""),
            ("data", "" if view.data is None else msgspec.json.encode(view.data).decode()),
            ("fields", ", ".join(f"{name}={value}" for name, value in view.fields.items())),
            ("catch up", view.catch_up),
            ("owner", f"code of {view.app}" if view.source == "code" else view.source),
        ]
    )


def times(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say when, and what the jobs are like."""
    options: list[Callable[..., Any]] = [
        click.option("--cron", help="Five fields: minute, hour, day, month, weekday."),
        tz_option,
        click.option("--every", help="Interval: 30s, 5m, 2h; counted from the Unix epoch."),
        click.option("--at", help="Once: Unix ms, or ISO 8601 with its zone."),
        click.option("--data", help="The payload, a JSON object; @PATH reads a file."),
        click.option("--lane", type=click.Choice(LANES), help="Lane; normal if left out."),
        click.option(
            "--catch-up",
            type=click.Choice(get_args(CatchUp)),
            help="Which missed ticks are made up for; last if left out.",
        ),
        click.option("--jitter", help="Most by which a tick is put off: 30s, 5m."),
        click.option("--key", help="Ordering key of its jobs."),
        click.option("--unique", help="Uniqueness value of its jobs."),
        click.option("--ttl", help="Its jobs are dead as expired unless started within this."),
        click.option("--attempts", type=int, help="Most attempts of its jobs, 1 to 100."),
        click.option("--header", "headers", multiple=True, metavar="NAME=VALUE", help="Field."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


@schedule.command()
@name_argument
@click.argument("job_type", metavar="TYPE")
@times
@click.option(
    "--queue",
    default="",
    shell_complete=queue_names,
    help="The queue; else the one that the app names.",
)
@reason_option
@json_option
@click.pass_obj
def add(
    frame: Frame,
    /,
    *,
    name: str,
    job_type: str,
    queue: str,
    reason: str,
    as_json: bool,
    **said: Any,
) -> None:
    """
    Make a schedule, for all engines, from now on.

    \b
    Examples:
      python -m engine schedule add nightly cleanup --cron "0 3 * * *" --tz Europe/Berlin
      python -m engine schedule add pulse cleanup --every 5m --data '{"olderThanDays": 30}'
      python -m engine schedule add sale notification --at 2026-12-24T18:00+01:00 --jitter 10m
    """  # noqa: D301 - click reads \b
    known = type_of(frame, job_type)
    queue = queue or (known.queue if known else "")
    if not queue:
        raise click.UsageError(f"no queue is known for {job_type!r}: give its --queue")
    given = settings_of(said)
    payload = given.pop("data", b"{}")
    spec = new_schedule(
        name,
        payload=payload,
        decode=decoder_of(known),
        version=known.version if known else 1,
        type=job_type,
        **given,
    )
    told(
        frame.operate(
            lambda admin: admin.schedule_add(queue, name, spec, reason=reason), known=False
        ),
        as_json,
    )


@schedule.command()
@name_argument
@times
@queue_option
@reason_option
@json_option
@click.pass_obj
def change(
    frame: Frame, /, *, name: str, queue: str, reason: str, as_json: bool, **said: Any
) -> None:
    """
    Change what is given of a schedule; new times begin now.

    \b
    Examples:
      python -m engine schedule change nightly --cron "30 4 * * *"
      python -m engine schedule change pulse --every 10m --catch-up none
    """  # noqa: D301 - click reads \b
    given = settings_of(said)
    if not given:
        raise click.UsageError("say what to change")

    async def verb(admin: Admin) -> ScheduleChanged:
        view = await admin.schedule(name, queue=queue)
        changes = dict(given)
        if "fields" in changes:
            changes["fields"] = {**view.fields, **changes["fields"]}
        if "data" in changes:
            decode = decoder_of(type_of(frame, view.type))
            if decode is not None:
                decode(changes["data"])
            changes["data"] = msgspec.Raw(changes["data"])
        return await admin.schedule_change(view.queue, name, changes, reason=reason)

    told(frame.operate(verb, known=not queue), as_json)


def _simple(verb: str, text: str) -> click.Command:
    @click.pass_obj
    def command(frame: Frame, name: str, queue: str, reason: str, as_json: bool) -> None:
        async def act(admin: Admin) -> ScheduleChanged:
            found = queue or (await admin.schedule(name)).queue
            changed: ScheduleChanged = await getattr(admin, f"schedule_{verb}")(
                found, name, reason=reason
            )
            return changed

        told(frame.operate(act, known=not queue), as_json)

    for option in (json_option, reason_option, queue_option, name_argument):
        command = option(command)
    return schedule.command(verb, help=text)(command)


pause = _simple("pause", "Fire no ticks until `schedule resume`; a restart does not undo it.")
resume = _simple("resume", "Go on from now; ticks of the pause are left out.")
run = _simple("run", "Enqueue one job now, beside the ticks; also of a paused schedule.")


@schedule.command()
@name_argument
@queue_option
@click.option("--force", is_flag=True, help="Also one that code declares.")
@reason_option
@json_option
@click.pass_obj
def delete(
    frame: Frame, /, *, name: str, queue: str, force: bool, reason: str, as_json: bool
) -> None:
    """
    Take a schedule away, also one that cannot be read.

    One that code declares comes back when an engine with that code starts.
    """

    async def act(admin: Admin) -> ScheduleChanged:
        found = queue or (await admin.schedule(name)).queue
        return await admin.schedule_delete(found, name, force=force, reason=reason)

    told(frame.operate(act, known=not queue), as_json)


@schedule.command("next")
@click.argument("cron")
@tz_option
@click.option("--count", type=click.IntRange(1, 1_000), default=5, show_default=True)
@json_option
@click.pass_obj
def next_(frame: Frame, cron: str, tz: str | None, count: int, as_json: bool) -> None:
    """
    Say when a cron expression would tick; nothing is written.

    \b
    Example:
      python -m engine schedule next "0 9 * * MON-FRI" --tz Europe/Berlin --count 5
    """  # noqa: D301 - click reads \b
    from engine.admin.schedules import preview
    from engine.clock import SystemClock

    del frame
    spec = Schedule(type="preview", cron=cron, tz=tz or "UTC")
    found = preview(spec, SystemClock().now_ms(), count)
    if as_json:
        print_json(found)
        return
    click.echo(found.when)
    for line in found.words:
        click.echo(f"  {line}")


def settings_of(said: dict[str, Any]) -> dict[str, Any]:
    """Turn options into attributes of a schedule; what was not said is left out."""
    try:
        at = moment("at", said["at"])
        found = {
            "cron": said["cron"],
            "tz": said["tz"],
            "every_ms": span_ms("every", said["every"]),
            "at": None if at is None else moment_ms(at),
            "lane": said["lane"],
            "catch_up": said["catch_up"],
            "jitter_ms": span_ms("jitter", said["jitter"]),
            "data": None if said["data"] is None else read_payload(said["data"]),
        }
        ttl_ms = span_ms("ttl", said["ttl"])
    except LineError as error:
        raise click.UsageError(str(error)) from None
    numbers = {"ttl": ttl_ms, "attempts": said["attempts"]}
    fields = {name: said[name] for name in ("key", "unique") if said[name] is not None}
    fields |= {name: str(number) for name, number in numbers.items() if number is not None}
    fields |= read_headers(said["headers"]) or {}
    given = {name: value for name, value in found.items() if value is not None}
    return {**given, "fields": fields} if fields else given


def type_of(frame: Frame, job_type: str) -> JobType | None:
    """Find a type in the app; where that does not load, a note says so."""
    try:
        return frame.app().registry.types.get(job_type)
    except RegistryError as error:
        note(f"the payload is not checked against its type, since {error}")
        return None


def decoder_of(known: JobType | None) -> Callable[[bytes], Any] | None:
    """Return what judges a type's payload."""
    from engine.wire.payload import payload_decoder

    return None if known is None else payload_decoder(known.payload)


def told(changed: ScheduleChanged, as_json: bool) -> None:
    """Say what became of a change."""
    if as_json:
        print_json(changed)
        return
    words = {
        "schedule-add": ("added", ""),
        "schedule-change": ("changed", "was so already"),
        "schedule-pause": ("paused", "was paused already"),
        "schedule-resume": ("resumed", "was not paused"),
        "schedule-run": (f"enqueued job {changed.job}", ""),
        "schedule-delete": ("deleted", ""),
    }
    done, already = words[changed.what]
    view = changed.now
    line = f"{changed.name}: {done if changed.changed else already}"
    if view is not None:
        line += f"; {view.when}" + (f"; next {view.next}" if view.next else "")
    click.echo(line)
    if view is not None and view.problem:
        note(view.problem)

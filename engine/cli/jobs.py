"""``jobs`` and ``job``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import get_args

import click
import orjson

from engine.admin.explain import span
from engine.cli.completing import queue_names, type_names
from engine.cli.frame import Frame, json_option, note, queue_argument
from engine.cli.output import (
    Cell,
    age,
    clean,
    clean_lines,
    clock_time,
    print_json,
    print_pairs,
    print_table,
    size,
)
from engine.cli.watching import watchable
from engine.errors import NotFound
from engine.store.operator import Query
from schemas.job import JobState
from schemas.rules import LANES
from schemas.story import ChildRow, JobPage, JobRow, JobStory

STATES = get_args(JobState)
VALUE_CHARS_MAX = 2_000
COLOURS = {
    "waiting-children": "blue",
    "dead": "red",
    "held": "yellow",
    "parked": "yellow",
    "active": "blue",
    "done": "green",
}


@click.command()
@queue_argument
@click.argument("of", required=False, type=click.Choice(STATES), metavar="[STATE]")
@click.option(
    "--state", type=click.Choice(STATES), help="Which ones, as STATE; waiting if left out."
)
@click.option(
    "--type", "job_type", default="", metavar="TYPE", shell_complete=type_names, help="Job type."
)
@click.option("--id", "job_id", default="", help="Job id.")
@click.option("--text", default="", help="Text in id, error or fields, any case.")
@click.option("--lane", "lanes", multiple=True, type=click.Choice(LANES), help="Lane; repeatable.")
@click.option("--oldest", is_flag=True, help="The oldest first; for delayed, the next due.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@click.option(
    "--search-max",
    type=click.IntRange(1),
    default=25_000,
    show_default=True,
    help="Most jobs to look at.",
)
@click.option("--cursor", default="", help="Go on where an earlier answer ended.")
@json_option
@click.pass_obj
@watchable
def jobs(
    frame: Frame,
    /,
    *,
    queue: str,
    of: JobState | None,
    state: JobState | None,
    job_type: str,
    job_id: str,
    text: str,
    lanes: tuple[str, ...],
    oldest: bool,
    limit: int,
    search_max: int,
    cursor: str,
    as_json: bool,
) -> None:
    """
    List the jobs of a queue in one state.

    \b
    Examples:
      python -m engine jobs message-delivery
      python -m engine jobs message-delivery delayed --oldest
      python -m engine jobs message-delivery done --text 5f1c --json
    """  # noqa: D301 - click reads \b
    if of and state and of != state:
        raise click.UsageError(f"one state at a time, not {of} and {state}")
    wanted = of or state or "waiting"
    query = Query(
        type=job_type,
        id=job_id,
        text=text,
        lanes=lanes or LANES,
        newest=not oldest,
        limit=limit,
        search_max=search_max,
        cursor=cursor,
    )
    try:
        page = frame.operate(lambda admin: admin.jobs(queue, wanted, query), known=False)
    except NotFound:
        # The app, which takes longer to load, may name a queue that nobody has used yet.
        page = frame.operate(lambda admin: admin.jobs(queue, wanted, query))
    if as_json:
        print_json(page)
        return
    print_page(page)


def print_page(page: JobPage) -> None:
    """Print a list of jobs, and how much of the state it covers."""
    if page.jobs:
        print_table(
            ["ID", "TYPE", "LANE", "STATE", "WHEN", ">ATTEMPTS", ">SIZE", "NOTE", "ERROR"],
            [_row(job) for job in page.jobs],
        )
    covered = f"{len(page.jobs)} shown, {page.searched} of {page.total} {page.state} searched"
    if page.cursor:
        covered += f"; go on with --cursor {page.cursor}"
    elif not page.complete:
        covered += "; there are more"
    note(covered)


def _row(job: JobRow) -> list[Cell]:
    took = f" in {span(job.run_ms)}" if job.run_ms is not None else ""
    return [
        job.id,
        job.type,
        job.lane,
        (job.state, COLOURS.get(job.state, "")),
        age(job.at_ms) + took,
        str(job.attempts),
        size(job.size_bytes),
        job.note,
        job.error,
    ]


@click.command()
@click.argument("job_id", metavar="ID")
@click.option(
    "--queue",
    default="",
    shell_complete=queue_names,
    help="Look only here; else in all known queues.",
)
@click.option("--all", "every", is_flag=True, help="Find every job of this id, not the first.")
@click.option(
    "--search-max",
    type=click.IntRange(1),
    default=100_000,
    show_default=True,
    help="Most jobs of one state to look at.",
)
@json_option
@click.pass_obj
@watchable
def job(
    frame: Frame, /, *, job_id: str, queue: str, every: bool, search_max: int, as_json: bool
) -> None:
    """
    Tell one job's whole story, wherever it is, and why it is not running.

    ID is the producer's own id, or the one that the engine gave: the lane's
    initial and the entry id, such as n-1763769600000-0.

    \b
    Examples:
      python -m engine job n-1763769600000-0
      python -m engine job order-4711 --queue message-delivery --json
    """  # noqa: D301 - click reads \b
    search = frame.operate(
        lambda admin: admin.job(job_id, queue=queue, every=every, search_max=search_max),
        known=not queue,
    )
    if as_json:
        print_json(search)
        return
    for number, story in enumerate(search.found):
        if number:
            click.echo()
        print_story(story)


def print_story(story: JobStory) -> None:
    """Print everything that is known of a job."""
    job = story.job
    print_pairs(
        [
            ("job", job.id),
            ("state", (job.state, COLOURS.get(job.state, ""))),
            ("why", story.why),
            ("cancelled", _order(story)),
            ("type", job.type),
            ("schedule", story.schedule),
            ("parent", story.parent),
            ("place", f"{job.queue}, lane {job.lane}" + (f", entry {job.entry}" * bool(job.entry))),
            ("enqueued", _moment(job.enqueued_ms)),
            (_when(job.state), _moment(job.at_ms)),
            ("attempts", str(job.attempts) if job.state != "done" else ""),
            ("deliveries", _count(story.deliveries)),
            ("lost", _count(story.lost)),
            ("snoozes", _count(story.snoozes)),
            ("redrives", _count(story.redrives)),
            ("progress", _json(story.progress)),
            ("result", _json(story.result)),
        ]
    )
    _print_children(story.children)
    _print_history(story)
    _print_death(story)
    _print_fields(story)


def _print_children(children: Sequence[ChildRow]) -> None:
    if children:
        click.echo("\nchildren")
        print_table([">#", "ID", "TYPE", "QUEUE", "STATE"], list(_child_rows(children, "")))


def _child_rows(children: Sequence[ChildRow], indent: str) -> Iterator[list[Cell]]:
    for child in children:
        colour = {"failed": "red", "done": "green", "sent": "blue"}.get(child.state, "")
        place = f"{indent}{child.number}"
        yield [place, child.id, child.type, child.queue, (child.state, colour)]
        yield from _child_rows(child.children, f"{place}.")


def _order(story: JobStory) -> str:
    order = story.cancelled
    if order is None:
        return ""
    who = " by ".join(filter(None, (_moment(order.at_ms) or "by hand", order.who)))
    return f"{who}: {order.reason}" if order.reason else who


def _print_history(story: JobStory) -> None:
    if not story.history:
        return
    click.echo("\nattempts")
    print_table(
        [">#", "ENDED", ">RAN", "ENGINE", "OUTCOME", "ERROR"],
        [
            [
                str(attempt.number),
                clock_time(attempt.at_ms),
                span(attempt.run_ms),
                attempt.engine,
                attempt.outcome,
                f"{attempt.error.kind}: {attempt.error.message}" if attempt.error else "",
            ]
            for attempt in story.history
        ],
    )


def _print_death(story: JobStory) -> None:
    dead = story.dead
    if dead is None:
        return
    click.echo("\ndeath")
    print_pairs(
        [
            ("reason", (dead.reason, "red")),
            ("rule", dead.rule),
            ("path", dead.path),
            ("error", ": ".join(filter(None, (dead.error.kind, dead.error.message)))),
            ("group", dead.fingerprint),
            ("cut", f"{size(dead.cut)} not kept, sha256 {dead.sha256}" if dead.cut else ""),
        ]
    )
    for line in clean_lines(dead.error.traceback) if dead.error.traceback else ():
        click.echo(f"  {line}")


def _print_fields(story: JobStory) -> None:
    if not story.fields:
        return
    click.echo("\nfields")
    for field in story.fields:
        value = clean(field.value)
        if len(value) > VALUE_CHARS_MAX:
            value = f"{value[:VALUE_CHARS_MAX]}… ({len(value)} characters, all of them in --json)"
        mark = " (base64)" if field.encoding == "base64" else ""
        click.echo(f"  {clean(field.name)}{mark}  {value}")


def _when(state: JobState) -> str:
    return {
        "waiting": "in its lane",
        "parked": "came",
        "active": "last sign of life",
        "delayed": "due",
        "held": "set aside",
        "waiting-children": "waits since",
        "done": "done",
        "dead": "died",
    }[state]


def _moment(at_ms: int) -> str:
    return f"{clock_time(at_ms)} ({age(at_ms)})" if at_ms else ""


def _count(number: int) -> str:
    return str(number) if number else ""


def _json(value: object) -> str:
    return "" if value is None else orjson.dumps(value).decode()

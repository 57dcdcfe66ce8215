"""``cancel``, ``reschedule``, ``run-now`` and ``priority``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import click

from engine.admin import Admin
from engine.cli.completing import queue_names
from engine.cli.frame import Frame, json_option
from engine.cli.output import due_ms, print_json
from engine.cli.queues import reason_option
from engine.errors import NotFound
from schemas.rules import LANES
from schemas.story import JobOrder

id_argument = click.argument("job_id", metavar="ID")
queue_option = click.option(
    "--queue",
    default="",
    shell_complete=queue_names,
    help="Look only here; else in all known queues.",
)
search_option = click.option(
    "--search-max",
    type=click.IntRange(1),
    default=100_000,
    show_default=True,
    help="Most jobs of one state to look at.",
)


@click.command()
@id_argument
@queue_option
@click.option(
    "--even-if-absent",
    is_flag=True,
    help="Where there is no such job, stop one that comes within an hour.",
)
@search_option
@reason_option
@json_option
@click.pass_obj
def cancel(
    frame: Frame,
    /,
    *,
    job_id: str,
    queue: str,
    even_if_absent: bool,
    search_max: int,
    reason: str,
    as_json: bool,
) -> None:
    """
    End a job for good, wherever it is: dead, with the reason `cancelled`.

    A running handler is cancelled within a second; a waiting job ends when its
    turn comes; a delayed, held or parked one comes to its lane at once, and ends
    there. Jobs that are done or dead already stay as they are.

    \b
    Examples:
      python -m engine cancel order-4711 --reason "customer withdrew"
      python -m engine cancel order-4711 --queue message-delivery --even-if-absent
    """  # noqa: D301 - click reads \b
    if even_if_absent and not queue:
        raise click.UsageError("--even-if-absent needs --queue")

    def order(admin: Admin) -> Awaitable[JobOrder]:
        return admin.cancel(
            job_id,
            queue=queue,
            reason=reason,
            even_if_absent=even_if_absent,
            search_max=search_max,
        )

    _give(frame, queue, order, as_json)


@click.command()
@id_argument
@click.option("--at", "at", metavar="TIME", help="When: ISO time, UTC where it names no zone.")
@click.option("--in", "after", metavar="SPAN", help="In how long: 90s, 15m, 2h, 1d.")
@queue_option
@search_option
@reason_option
@json_option
@click.pass_obj
def reschedule(
    frame: Frame,
    /,
    *,
    job_id: str,
    at: str | None,
    after: str | None,
    queue: str,
    search_max: int,
    reason: str,
    as_json: bool,
) -> None:
    """
    Let a job that has not started wait until another time.

    \b
    Examples:
      python -m engine reschedule order-4711 --in 2h
      python -m engine reschedule order-4711 --at 2026-12-24T08:00:00+01:00
    """  # noqa: D301 - click reads \b
    if bool(at) == bool(after):
        raise click.UsageError("give either --at or --in")
    text = at or after or ""
    try:
        at_ms, in_ms = due_ms(text)
    except ValueError:
        raise click.UsageError(f"{text!r} is neither a span such as 15m nor an ISO time") from None
    if bool(at) != bool(at_ms):
        raise click.UsageError("--at takes an ISO time, --in a span such as 15m")

    def order(admin: Admin) -> Awaitable[JobOrder]:
        return admin.reschedule(
            job_id, at_ms=at_ms, in_ms=in_ms, queue=queue, reason=reason, search_max=search_max
        )

    _give(frame, queue, order, as_json)


@click.command("run-now")
@id_argument
@queue_option
@search_option
@reason_option
@json_option
@click.pass_obj
def run_now(
    frame: Frame, /, *, job_id: str, queue: str, search_max: int, reason: str, as_json: bool
) -> None:
    """
    Start a job now that waits for its time: delayed, snoozed or backing off.

    It spends no further attempt by that and keeps its story.

    \b
    Example:
      python -m engine run-now order-4711
    """  # noqa: D301 - click reads \b

    def order(admin: Admin) -> Awaitable[JobOrder]:
        return admin.run_now(job_id, queue=queue, reason=reason, search_max=search_max)

    _give(frame, queue, order, as_json)


@click.command()
@id_argument
@click.argument("lane", type=click.Choice(LANES))
@queue_option
@search_option
@reason_option
@json_option
@click.pass_obj
def priority(
    frame: Frame,
    /,
    *,
    job_id: str,
    lane: str,
    queue: str,
    search_max: int,
    reason: str,
    as_json: bool,
) -> None:
    """
    Move a job that has not started to the end of another lane.

    \b
    Example:
      python -m engine priority order-4711 critical
    """  # noqa: D301 - click reads \b

    def order(admin: Admin) -> Awaitable[JobOrder]:
        return admin.change_priority(
            job_id, lane, queue=queue, reason=reason, search_max=search_max
        )

    _give(frame, queue, order, as_json)


def _give(
    frame: Frame, queue: str, order: Callable[[Admin], Awaitable[JobOrder]], as_json: bool
) -> None:
    """Give an order, and print what comes of it."""
    try:
        done = frame.operate(order, known=False)
    except NotFound:
        if queue:
            raise
        # The app, which takes longer to load, may name a queue that no engine serves now.
        done = frame.operate(order)
    if as_json:
        print_json(done)
        return
    click.echo(f"{done.queue}: job {done.id} {done.told}")

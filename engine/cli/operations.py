"""``operations list``, ``show``, ``stop``, ``resume`` and ``undo``; and starting one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import click

from engine.admin import Admin
from engine.admin.words import many, span
from engine.cli.completing import queue_names
from engine.cli.frame import Frame, json_option, queue_argument
from engine.cli.output import Cell, age, bar, print_json, print_pairs, print_table
from engine.cli.watching import watchable
from schemas.operations import Operation, Plan
from schemas.stats import DeadFilter

STYLES = {"finished": "green", "stopped": "yellow", "undone": "yellow"}
WORDS = {
    "waiting": "starts soon",
    "canary": "sending the canary",
    "watching": "watching the canary",
    "following": "waiting for ends",
}

Verb = Callable[[Admin, str, str, str], Awaitable[Operation]]


name_argument = click.argument("name", metavar="ID")


@click.group()
def operations() -> None:
    """
    Follow retries and discards that engines carry out in the background.

    \b
    Examples:
      python -m engine operations list
      python -m engine dead retry message-delivery --background --rate 20
    """  # noqa: D301 - click reads \b


@operations.command("list")
@click.argument("queue", default="", shell_complete=queue_names)
@click.option("--limit", type=click.IntRange(1, 200), default=50, show_default=True)
@json_option
@click.pass_obj
@watchable
def list_(frame: Frame, queue: str, limit: int, as_json: bool) -> None:
    """
    List operations of one queue or of all, the latest first.

    \b
    Examples:
      python -m engine operations list
      python -m engine operations list message-delivery --watch
    """  # noqa: D301 - click reads \b
    found = frame.operate(lambda admin: admin.operations(queue, limit=limit), known=not queue)
    if as_json:
        print_json(found)
        return
    rows = [_row(each) for each in found.operations]
    print_table(
        ["ID", "QUEUE", "WHAT", "STATE", ">MOVED", ">DONE", ">DIED", ">LEFT", "STARTED", "BY"], rows
    )
    if found.more:
        click.echo(f"and {found.more} older ones")


@operations.command()
@queue_argument
@name_argument
@json_option
@click.pass_obj
@watchable
def show(frame: Frame, queue: str, name: str, as_json: bool) -> None:
    """
    Show one operation: its state, how far it is, and what can be done with it.

    \b
    Example:
      python -m engine operations show message-delivery 1a203f9456a-9afdfcf0 --watch
    """  # noqa: D301 - click reads \b
    found = frame.operate(lambda admin: admin.operation(queue, name), known=False)
    _print(found, as_json)


def _turning(name: str, text: str, verb: Verb) -> None:
    """Make the command that turns an operation to another state."""

    @operations.command(name, help=text)
    @queue_argument
    @name_argument
    @click.option("--why", default="", help="Reason for the audit stream.")
    @json_option
    @click.pass_obj
    def turn(frame: Frame, queue: str, name: str, why: str, as_json: bool) -> None:
        found = frame.operate(lambda admin: verb(admin, queue, name, why), known=False)
        _print(found, as_json)


_turning(
    "stop",
    "Move no further jobs; those that were moved go on.",
    lambda admin, queue, name, why: admin.stop_operation(queue, name, reason=why),
)
_turning(
    "resume",
    "Let a stopped one go on, also where its canary had failed.",
    lambda admin, queue, name, why: admin.resume_operation(queue, name, reason=why),
)
_turning(
    "undo",
    """Make the jobs of a retry that have not started dead letters again, as they were.

    A discard can be undone for ten seconds, before it begins.""",
    lambda admin, queue, name, why: admin.undo_operation(queue, name, reason=why),
)


def start(
    frame: Frame,
    action: str,
    queue: str,
    wanted: DeadFilter,
    *,
    rate: float,
    canary: int,
    why: str,
    agreed: Callable[[Plan], bool],
    as_json: bool,
) -> int:
    """Plan an operation and let the engines carry it out."""

    async def verb(admin: Admin) -> Operation | None:
        plan = await admin.plan_operation(
            queue,
            "discard" if action == "discard" else "retry",
            wanted,
            rate=rate,
            canary=canary,
        )
        with bar("counting", 0 if plan.complete else plan.total) as shown:
            while not plan.complete:
                plan = await admin.continue_plan(plan.id)
                if shown:
                    shown(plan.searched, plan.total)
        if not agreed(plan):
            return None
        return await admin.start_operation(plan.id, reason=why, confirm=queue)

    started = frame.operate(verb, known=False)
    if started is None:
        raise click.ClickException("nothing was started")
    _print(started, as_json)
    return 0


def _can(found: Operation, verb: str) -> str:
    if verb != "undo" or found.record.action == "discard":
        return verb
    return f"undo (up to {many(found.undoable, 'job')}, those that have not started)"


def _state(found: Operation) -> Cell:
    state = found.record.state
    return (WORDS.get(state, state), STYLES.get(state, ""))


def _row(found: Operation) -> list[Cell]:
    record = found.record
    return [
        record.id,
        record.queue,
        f"{record.action} {'' if record.exact else '≈'}{record.planned}",
        _state(found),
        str(found.moved),
        str(found.done),
        (str(found.died_again), "red" if found.died_again else ""),
        str(found.left),
        age(record.started_ms),
        record.who,
    ]


def _print(found: Operation, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    record = found.record
    is_retry = record.action == "retry"
    unable = [f"{jobs} cannot be brought back: {why}" for why, jobs in found.unable.items()]
    ahead_s = (found.left + found.waiting) / record.rate
    moving = record.state in {"releasing", "discarding"}
    print_pairs(
        [
            ("id", record.id),
            ("queue", record.queue),
            ("what", f"{record.action} {'' if record.exact else '≈ '}{record.planned} jobs"),
            ("state", _state(found)),
            ("why", record.why),
            ("rate", f"{record.rate:g} a second"),
            ("canary", f"{record.canary} jobs" if record.canary else ""),
            ("moved" if is_retry else "dropped", str(found.moved)),
            ("waiting", f"{found.waiting} for their time" if found.waiting else ""),
            ("released", str(found.released) if is_retry else ""),
            ("done", str(found.done) if is_retry else ""),
            ("died again", (str(found.died_again), "red") if found.died_again else ""),
            ("undone", str(found.undone) if found.undone else ""),
            ("left", f"{found.left}, about {span(ahead_s * 1e3)}" if moving and ahead_s else ""),
            ("left out", "; ".join(unable)),
            ("started", f"{age(record.started_ms)} by {record.who}"),
            ("reason", record.reason),
            ("can", ", ".join(_can(found, verb) for verb in found.can)),
        ]
    )

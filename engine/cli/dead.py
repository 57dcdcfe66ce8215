"""``dead list``, ``show``, ``analyse``, ``retry`` and ``discard``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine
from typing import Any

import click

from engine.admin import Admin
from engine.admin.words import many
from engine.cli.completing import queue_names
from engine.cli.frame import Frame, filters, json_option, note, queue_argument
from engine.cli.jobs import print_page, print_story
from engine.cli.operations import start
from engine.cli.output import Cell, age, bar, print_json, print_table
from engine.cli.watching import watchable
from engine.errors import NotFound
from schemas.stats import BulkResult, DeadAnalysis, DeadFilter

RATE, DISCARD_RATE = 20.0, 500.0
"""Jobs per second of operations in the background."""

ids_argument = click.argument("ids", nargs=-1, metavar="[ID]...")


@click.group(invoke_without_command=False)
def dead() -> None:
    """Look at dead letters, bring them back, or drop them."""


@dead.command("list")
@queue_argument
@ids_argument
@filters
@click.option("--oldest", is_flag=True, help="The oldest first.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@json_option
@click.pass_obj
@watchable
def list_(
    frame: Frame,
    /,
    *,
    queue: str,
    ids: tuple[str, ...],
    oldest: bool,
    limit: int,
    as_json: bool,
    **chosen: Any,
) -> None:
    """
    List dead letters, the newest first.

    \b
    Examples:
      python -m engine dead list message-delivery --since 1h
      python -m engine dead list message-delivery --reason malformed --json
    """  # noqa: D301 - click reads \b
    wanted = _filter(ids, **chosen)
    page = frame.operate(
        lambda admin: admin.dead_list(queue, wanted, limit=limit, newest=not oldest), known=False
    )
    if as_json:
        print_json(page)
    else:
        print_page(page)


@dead.command()
@queue_argument
@click.argument("job_id", metavar="ID")
@json_option
@click.pass_obj
def show(frame: Frame, queue: str, job_id: str, as_json: bool) -> None:
    """
    Tell one dead letter's whole story, by job id or entry id.

    \b
    Example:
      python -m engine dead show message-delivery n-1763769600000-0
    """  # noqa: D301 - click reads \b
    story = frame.operate(lambda admin: admin.dead_show(queue, job_id), known=False)
    if as_json:
        print_json(story)
    else:
        print_story(story)


@dead.command()
@click.argument("names", nargs=-1, metavar="[QUEUE]...", shell_complete=queue_names)
@filters
@click.option("--scan", is_flag=True, help="Read all of them, rather than the engines' counts.")
@json_option
@click.pass_obj
@watchable
def analyse(
    frame: Frame, /, *, names: tuple[str, ...], scan: bool, as_json: bool, **chosen: Any
) -> None:
    """
    Show what dead letters have in common, the largest groups first.

    Without a filter this shows what engines have counted, at once. With one, or
    with --scan, it reads the dead letters, in bounded memory and steps.

    \b
    Examples:
      python -m engine dead analyse
      python -m engine dead analyse message-delivery
      python -m engine dead analyse message-delivery --since 1h --type send-message
      python -m engine dead retry message-delivery --fingerprint 0123456789ab
    """  # noqa: D301 - click reads \b
    given = _filter((), **chosen)
    wanted = given if scan or given != DeadFilter() else None

    async def gather(admin: Admin) -> list[DeadAnalysis]:
        analyses = []
        for stats in await admin.queues(names):
            with bar(stats.queue, stats.dead if wanted else 0) as progress:
                found = await admin.dead_analysis(stats.queue, wanted, progress=progress)
            analyses.append(found)
        return analyses

    analyses = frame.operate(gather, known=not names)
    analyses.sort(key=lambda analysis: -analysis.matched)
    if as_json:
        print_json(analyses)
        return
    # Of all queues, those that have some; of named ones, each.
    shown = [each for each in analyses if names or each.matched]
    for analysis in shown:
        _print_analysis(analysis)
    if not shown:
        click.echo(f"no dead letter in {many(len(analyses), 'queue')}")


def _print_analysis(analysis: DeadAnalysis) -> None:
    of = f" of {analysis.dead}" if analysis.matched != analysis.dead else ""
    click.echo(
        f"{analysis.queue}: {analysis.matched}{of} dead in {many(len(analysis.groups), 'group')}"
    )
    if not analysis.groups:
        return
    rows: list[list[Cell]] = [
        [
            group.fingerprint,
            (str(group.jobs), "red"),
            group.type,
            group.reason,
            age(group.first_ms),
            age(group.last_ms),
            ": ".join(filter(None, (group.kind, group.message))),
            group.sample,
        ]
        for group in analysis.groups
    ]
    print_table(
        ["FINGERPRINT", ">JOBS", "TYPE", "REASON", "FIRST", "LAST", "ERROR", "SAMPLE"], rows
    )


def bulk_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add what retry and discard have in common."""
    options: list[Callable[..., Any]] = [
        queue_argument,
        ids_argument,
        filters,
        click.option("--all", "every", is_flag=True, help="All of the queue's dead letters."),
        click.option("--dry-run", is_flag=True, help="Change nothing, say what would be done."),
        click.option("--limit", type=click.IntRange(1), help="Most jobs."),
        click.option("--rate", type=click.FloatRange(0, min_open=True), help="Jobs per second."),
        click.option("--why", default="", help="Reason for the audit stream."),
        click.option("--background", is_flag=True, help="Let engines do it; see `operations`."),
        click.option("--yes", "-y", is_flag=True, help="Do not ask."),
        json_option,
        click.pass_obj,
    ]
    for option in reversed(options):
        function = option(function)
    return function


@dead.command()
@click.option("--canary", type=click.IntRange(1), help="Jobs that go first; with --background.")
@bulk_options
def retry(frame: Frame, queue: str, ids: tuple[str, ...], **options: Any) -> int:
    """
    Bring dead letters back to their lanes, as if they were enqueued now.

    Attempts and ttl count anew. Each comes back once, whoever else retries it.
    One with an ordering key comes before all that wait for that key.

    With --background the engines do it, also when this terminal is gone:
    20 a second unless --rate says otherwise, and it can be stopped and undone.

    \b
    Examples:
      python -m engine dead retry message-delivery n-1763769600000-0
      python -m engine dead retry message-delivery --fingerprint 0123456789ab --dry-run
      python -m engine dead retry message-delivery --all --rate 20
      python -m engine dead retry message-delivery --all --background --canary 10
    """  # noqa: D301 - click reads \b
    return _bulk(frame, "retry", queue, ids, **options)


@dead.command()
@bulk_options
def discard(frame: Frame, queue: str, ids: tuple[str, ...], **options: Any) -> int:
    """
    Drop dead letters for good.

    Asks first on a terminal; elsewhere it wants --yes.

    \b
    Examples:
      python -m engine dead discard message-delivery --reason malformed --dry-run
      python -m engine dead discard message-delivery --before 30d --yes
    """  # noqa: D301 - click reads \b
    return _bulk(frame, "discard", queue, ids, **options)


Verb = Callable[..., Coroutine[Any, Any, BulkResult]]


def _bulk(
    frame: Frame,
    action: str,
    queue: str,
    ids: tuple[str, ...],
    *,
    every: bool,
    dry_run: bool,
    limit: int | None,
    rate: float | None,
    why: str,
    background: bool,
    yes: bool,
    as_json: bool,
    canary: int | None = None,
    **chosen: Any,
) -> int:
    wanted = _wanted(ids, every, **chosen)
    if canary and not background:
        raise click.UsageError("--canary needs --background: engines watch the first jobs")

    def verb(admin: Admin) -> Verb:
        verbs: dict[str, Verb] = {"retry": admin.retry_dead, "discard": admin.discard_dead}
        return verbs[action]

    def plan() -> BulkResult:
        return frame.operate(
            lambda admin: verb(admin)(queue, wanted, dry_run=True, limit=limit or 0), known=False
        )

    asks = action == "discard" and not dry_run and not yes
    if asks and not sys.stdin.isatty():
        raise click.UsageError("discard drops jobs for good: say --yes, or try --dry-run")
    if background and not dry_run:
        return _in_background(frame, action, queue, wanted, limit, rate, canary, why, asks, as_json)
    shows_bar = not dry_run and sys.stderr.isatty()
    planned = plan() if dry_run or asks or shows_bar else None
    if dry_run and planned is not None:
        return _print_result(planned, ids, as_json)
    if asks and planned is not None and not _agreed(planned.changed, queue):
        raise click.ClickException("nothing was dropped")
    with bar("jobs", planned.changed if planned else 0) as shown:
        progress = (lambda result: shown(result.changed, result.matched)) if shown else None
        result = frame.operate(
            lambda admin: verb(admin)(
                queue, wanted, limit=limit or 0, rate=rate or 0, progress=progress, reason=why
            ),
            known=False,
        )
    return _print_result(result, ids, as_json)


def _in_background(  # noqa: PLR0917 - the options as they were given
    frame: Frame,
    action: str,
    queue: str,
    wanted: DeadFilter,
    limit: int | None,
    rate: float | None,
    canary: int | None,
    why: str,
    asks: bool,
    as_json: bool,
) -> int:
    if limit:
        raise click.UsageError("--background takes all that fit: leave --limit out")
    return start(
        frame,
        action,
        queue,
        wanted,
        rate=rate or (RATE if action == "retry" else DISCARD_RATE),
        canary=canary or 0,
        why=why,
        agreed=lambda plan: not asks or _agreed(plan.count, queue),
        as_json=as_json,
    )


def _agreed(jobs: int, queue: str) -> bool:
    return click.confirm(f"Drop {jobs} dead letters of {queue}?", err=True)


def _print_result(result: BulkResult, ids: tuple[str, ...], as_json: bool) -> int:
    if as_json:
        print_json(result)
    else:
        verbs = {"retry": "brought back", "discard": "dropped"}
        would = "would be " if result.dry_run else ""
        click.echo(f"{result.changed} of {result.matched} {would}{verbs[result.action]}")
    for why, count in result.unable.items():
        note(f"{count} cannot be brought back: {why}")
    if result.gone:
        note(f"{result.gone} were taken by somebody else meanwhile")
    if not result.complete:
        note("a limit ended it; there are more")
    if ids and not result.matched:
        raise NotFound(f"no dead letter {', '.join(ids)} in queue {result.queue}")
    return 1 if ids and not result.changed and not result.gone else 0


def _wanted(ids: tuple[str, ...], every: bool, **chosen: Any) -> DeadFilter:
    wanted = _filter(ids, **chosen)
    if (wanted != DeadFilter()) == every:
        raise click.UsageError("say which: ids, a filter, or --all")
    return wanted


def _filter(
    ids: tuple[str, ...],
    *,
    job_type: str,
    reason: str,
    fingerprint: str,
    text: str,
    since: int | None,
    before: int | None,
) -> DeadFilter:
    return DeadFilter(
        ids=ids,
        type=job_type,
        reason=reason,
        fingerprint=fingerprint,
        text=text,
        after_ms=since or 0,
        before_ms=before or 0,
    )

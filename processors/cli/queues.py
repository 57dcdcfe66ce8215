"""``health``, ``failed``, ``retry-failed`` and ``bulk``: all queues of messaging at once."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any, TypeVar

import click

from engine import NewJob
from engine.admin.words import many, span
from engine.cli.frame import filters, json_option, note, whoami
from engine.cli.lines import Line, LineError, read_line
from engine.cli.output import Cell, age, clean, print_json, print_table
from engine.settings import load_engine
from processors.applications import open_integration
from processors.services.queue_health import Limits
from processors.services.queue_integration import QueueIntegrationService
from schemas.queues import BackEndHealth, BulkItem, FailedAnalysis, RetryReport
from schemas.stats import DeadFilter

Result = TypeVar("Result")


def operate(
    environ: Mapping[str, str], verb: Callable[[QueueIntegrationService], Awaitable[Result]]
) -> Result:
    """Call a verb on the services that the environment names."""
    settings = load_engine(environ).settings

    async def call() -> Result:
        async with open_integration(
            settings.redis_url, who=whoami(), postgres_url=settings.postgres_url, environ=environ
        ) as service:
            return await verb(service)

    return asyncio.run(call())


@click.command()
@click.option(
    "--backlog-s", type=click.IntRange(1), default=300, show_default=True,
    help="Age of the oldest waiting job that is still well.",
)  # fmt: skip
@click.option(
    "--outbox-s", type=click.IntRange(1), default=60, show_default=True,
    help="Age of the oldest row in the outbox that is still well.",
)  # fmt: skip
@json_option
@click.pass_obj
def health(environ: Mapping[str, str], /, *, backlog_s: int, outbox_s: int, as_json: bool) -> None:
    """
    Look at both servers, all queues, the engines and the outbox.

    Exit code 1 means that something is wrong.

    \b
    Examples:
      python -m processors health
      python -m processors health --outbox-s 10 --json
    """  # noqa: D301 - click reads \b
    limits = Limits(backlog_ms=backlog_s * 1000, outbox_ms=outbox_s * 1000)
    found = operate(environ, lambda service: service.health(limits))
    if as_json:
        print_json(found)
    else:
        _print_health(found)
    if not found.healthy:
        raise SystemExit(1)


@click.command()
@click.argument("queues", nargs=-1, metavar="[QUEUE]...")
@json_option
@click.pass_obj
def failed(environ: Mapping[str, str], /, *, queues: tuple[str, ...], as_json: bool) -> None:
    """
    Show what failed jobs have in common, the largest groups first.

    \b
    Examples:
      python -m processors failed
      python -m processors failed notification --json
    """  # noqa: D301 - click reads \b
    found = operate(environ, lambda service: service.analyse_failed(queues))
    if as_json:
        print_json(found)
    else:
        _print_failed(found)


@click.command("retry-failed")
@click.argument("queues", nargs=-1, metavar="[QUEUE]...")
@filters
@click.option("--dry-run", is_flag=True, help="Change nothing, say what would be done.")
@click.option("--force", is_flag=True, help="Also those that would only die again.")
@click.option("--limit", type=click.IntRange(1), help="Most jobs.")
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="Jobs per second.")
@click.option("--why", default="", help="Reason for the audit stream.")
@json_option
@click.pass_obj
def retry_failed(
    environ: Mapping[str, str],
    /,
    *,
    queues: tuple[str, ...],
    dry_run: bool,
    force: bool,
    limit: int | None,
    rate: float | None,
    why: str,
    as_json: bool,
    **chosen: Any,
) -> None:
    """
    Bring failed jobs of all queues, or of those named, back to their lanes.

    Jobs that would only die again (refused, malformed, expired, crashing) stay,
    unless --force says otherwise.

    \b
    Examples:
      python -m processors retry-failed --dry-run
      python -m processors retry-failed notification --since 2h --rate 50
    """  # noqa: D301 - click reads \b
    wanted = DeadFilter(
        type=chosen["job_type"],
        reason=chosen["reason"],
        fingerprint=chosen["fingerprint"],
        text=chosen["text"],
        after_ms=chosen["since"] or 0,
        before_ms=chosen["before"] or 0,
    )

    async def retry(service: QueueIntegrationService) -> RetryReport:
        dead = (await service.analyse_failed(queues)).dead if sys.stderr.isatty() else 0
        with _bar("failed jobs", dead) as moved:
            return await service.retry_failed(
                wanted,
                queues=queues,
                dry_run=dry_run,
                force=force,
                limit=limit or 0,
                rate=rate or 0,
                reason=why,
                on_progress=moved,
            )

    found = operate(environ, retry)
    if as_json:
        print_json(found)
    else:
        _print_retried(found)


@click.command()
@click.argument("file", type=click.File("rb"))
@click.option("--name", default="", help="What tells this bulk from one with the same jobs.")
@click.option("--type", "job_type", help="Type of lines that name none.")
@click.option("--queue", help="Queue of types that the app does not know.")
@click.option("--lane", help="Lane of lines that name none.")
@json_option
@click.pass_obj
def bulk(
    environ: Mapping[str, str],
    /,
    *,
    file: IO[bytes],
    name: str,
    as_json: bool,
    job_type: str | None,
    queue: str | None,
    lane: str | None,
) -> None:
    """
    Enqueue many jobs from JSON lines (- for stdin), and say what became of each.

    A line names the fields of a job: {"type": "indexing", "data": {…}}. Ids follow
    from name, place and content, so the same file again within five minutes adds
    nothing. With --json there is one line of JSON for each job. Exit code 1 means
    that some were not accepted.

    \b
    Examples:
      python -m processors bulk jobs.jsonl
      gzip -dc jobs.gz | python -m processors bulk - --name import-7 --json
    """  # noqa: D301 - click reads \b
    lines = _Lines(file, Line(type=job_type, queue=queue, lane=lane))
    counts: Counter[str] = Counter()

    async def create(service: QueueIntegrationService) -> None:
        with _bar("jobs", None) as moved:
            async for item in service.bulk_each(lines, name=name):
                counts[item.status] += 1
                _tell(item, lines.numbers.pop(item.index), as_json=as_json)
                moved(counts.total())

    operate(environ, create)
    for number, error in lines.faults:
        note(f"line {number}: {clean(error)}")
    refused = len(lines.faults) + counts.total() - counts["accepted"] - counts["duplicate"]
    told = ", ".join(f"{count} {status}" for status, count in counts.most_common())
    click.echo(f"{told or 'nothing'}{f', {len(lines.faults)} no jobs' if lines.faults else ''}",
               err=as_json)  # fmt: skip
    if refused:
        raise SystemExit(1)


class _Lines:
    """Jobs of JSON lines; remembers the line of each until its result is there."""

    def __init__(self, stream: IO[bytes], defaults: Line) -> None:
        self._stream = stream
        self._defaults = defaults
        self.numbers: dict[int, int] = {}
        self.faults: list[tuple[int, str]] = []

    def __iter__(self) -> Iterator[NewJob]:
        index = 0
        for number, text in enumerate(self._stream, 1):
            if not text.strip():
                continue
            try:
                job = read_line(text, self._defaults)
            except LineError as error:
                self.faults.append((number, str(error)))
                continue
            self.numbers[index] = number
            index += 1
            yield job


def _tell(item: BulkItem, line: int, *, as_json: bool) -> None:
    if as_json:
        print_json({"line": line, "id": item.id, "status": item.status, "error": item.error})
    elif item.status not in ("accepted", "duplicate"):
        note(f"line {line}: {item.status}: {clean(item.error)}")


def _print_health(found: BackEndHealth) -> None:
    redis = "away" if found.redis_ms is None else f"{found.redis_ms:.1f} ms"
    postgres = "away" if found.postgres_ms is None else f"{found.postgres_ms:.1f} ms"
    live = sum(engine.live for engine in found.engines)
    click.echo(f"Redis {redis}, PostgreSQL {postgres}, {many(live, 'live engine')}")
    if found.outbox is not None:
        box = found.outbox
        click.echo(
            f"outbox: {many(box.events, 'event')} ({span(box.events_oldest_ms)}), "
            f"{many(box.jobs, 'job')} ({span(box.jobs_oldest_ms)}), {box.set_aside} set aside"
        )
    rows: list[list[Cell]] = [
        [
            each.queue,
            str(each.waiting),
            str(each.active),
            str(each.delayed),
            str(each.stalled),
            span(each.oldest_ms),
            f"{each.dead} (+{each.dead_recent})",
            str(each.engines),
            each.state,
        ]
        for each in found.queues
    ]
    if rows:
        print_table(
            ["QUEUE", ">WAITING", ">ACTIVE", ">DELAYED", ">STALLED", ">OLDEST", ">DEAD",
             ">ENGINES", "STATE"],
            rows,
        )  # fmt: skip
    for finding in found.findings:
        click.echo(f"{finding.severity}: {clean(finding.message)}\n  {clean(finding.action)}")
    click.echo("healthy" if found.healthy else "not healthy")


def _print_failed(found: FailedAnalysis) -> None:
    click.echo(f"{many(found.dead, 'dead job')}, {found.permanent} of which would only die again")
    rows: list[list[Cell]] = [
        [
            group.queue,
            (str(group.jobs), "red"),
            group.type,
            group.reason,
            "no" if group.permanent else "yes",
            age(group.first_ms),
            age(group.last_ms),
            group.fingerprint,
            ": ".join(filter(None, (group.kind, group.message))),
        ]
        for group in found.groups
    ]
    if rows:
        print_table(
            ["QUEUE", ">JOBS", "TYPE", "REASON", "RETRY", "FIRST", "LAST", "FINGERPRINT", "ERROR"],
            rows,
        )


def _print_retried(found: RetryReport) -> None:
    would = "would come" if found.dry_run else "came"
    click.echo(f"{many(found.retried, 'job')} {would} back")
    for result in found.queues:
        if result.changed:
            click.echo(f"  {result.queue}: {result.changed}")
    if found.skipped_permanent:
        note(f"{found.skipped_permanent} would only die again; --force brings them back, too")
    for why, count in found.unable.items():
        note(f"{count} cannot be brought back: {clean(why)}")
    if found.gone:
        note(f"{found.gone} were taken by somebody else meanwhile")
    if not found.complete:
        note("a limit ended it; there are more")


@contextmanager
def _bar(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on stderr, where that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)

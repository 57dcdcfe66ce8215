"""``enqueue``: one job from the command line, or many from JSON lines."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import stat
import sys
from collections import deque
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import IO, Any

import click
import msgspec

from engine.cli.frame import Frame, json_option, note
from engine.cli.lines import Line, LineError, LineSource, new_job, read_line
from engine.cli.output import clean, print_json
from engine.client import (
    Client,
    Enqueued,
    EnqueueStopped,
    JobRefused,
    NewJob,
    QueueFull,
    Refusal,
    Shed,
)
from engine.client.full import CHOICES, Choice
from engine.client.jobs import Result
from engine.errors import EnqueueError, RegistryError, StoreUnavailable
from engine.registry import Registry
from schemas.rules import LANES

FAILED = 1
UNREACHABLE = 3
INTERRUPTED = 130
SHOWN_MAX = 100
KEPT_MAX = 1_000


@click.command()
@click.argument("job_type", metavar="[TYPE]", required=False)
@click.option("--data", help="The payload, a JSON object; @PATH reads a file, - reads stdin.")
@click.option("--file", "path", help="JSON lines, one job each; - reads stdin.")
@click.option("--queue", help="The queue; else the one that the app names for the type.")
@click.option("--lane", type=click.Choice(LANES), help="Lane; normal if left out.")
@click.option("--id", "own_id", help="The job's own id; again within minutes, a duplicate.")
@click.option("--delay", help="Not before: ms from now, or 500ms, 30s, 2h.")
@click.option("--at", help="Not before: Unix ms, or ISO 8601 with its zone.")
@click.option("--ttl", help="Dead as expired unless started within this time.")
@click.option("--expires", help="Likewise, as a moment.")
@click.option("--attempts", type=int, help="Most attempts, 1 to 100.")
@click.option("--v", "version", type=int, help="Payload version.")
@click.option("--reply", help="A stream that gets the outcome.")
@click.option("--traceparent", help="W3C trace context.")
@click.option("--key", help="Ordering key.")
@click.option("--unique", help="Uniqueness value: one job of it at a time.")
@click.option("--window", help="With --unique: and for this time from the first one.")
@click.option("--debounce", help="With --unique: wait this time; a later job takes its place.")
@click.option("--debounce-max", help="The longest that the first of a burst waits.")
@click.option("--throttle", help="With --unique: one in this time.")
@click.option("--header", "headers", multiple=True, metavar="NAME=VALUE", help="Further field.")
@click.option(
    "--give-up",
    "give_up_s",
    type=click.FloatRange(0, 300),
    default=10,
    show_default=True,
    metavar="SECONDS",
    help="How long to go on while the server is away or the queue is full.",
)
@click.option(
    "--when-full",
    type=click.Choice(CHOICES),
    default="wait",
    show_default=True,
    help="What to do where the queue has no room: wait for it, fail, or drop the job.",
)
@click.option("--stop-on-error", is_flag=True, help="Stop at the first line that is refused.")
@json_option
@click.pass_obj
def enqueue(
    frame: Frame,
    /,
    *,
    job_type: str | None,
    data: str | None,
    path: str | None,
    own_id: str | None,
    version: int | None,
    headers: tuple[str, ...],
    give_up_s: float,
    when_full: Choice,
    stop_on_error: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """
    Enqueue one job, or many from JSON lines.

    A line names the fields of a job: {"type": "send-message", "data": {…},
    "lane": "high", "delay": 500}. Options stand in for what a line leaves out.

    \b
    Examples:
      python -m engine enqueue cleanup --data '{"olderThanDays": 30}'
      python -m engine enqueue send-message --data @message.json --lane high --delay 30s
      python -m engine enqueue --file jobs.jsonl
      gzip -dc jobs.gz | python -m engine enqueue cleanup --file - --queue cleanup
    """  # noqa: D301 - click reads \b
    if (data is None) == (path is None):
        raise click.UsageError("give --data for one job, or --file for many")
    defaults = Line(type=job_type, id=own_id, v=version, headers=read_headers(headers), **options)
    if path is not None:
        if own_id is not None:
            raise click.UsageError("--id names one job; in a file each line names its own")
        client = _client_of(frame, give_up_s, when_full)
        with _opened(path) as stream:
            many = Many(stream, defaults, stop_on_error=stop_on_error, as_json=as_json)
            return asyncio.run(many.run(client))
    if job_type is None:
        raise click.UsageError("TYPE is missing")
    assert data is not None
    job = _job(defaults, read_payload(data))
    return asyncio.run(_one(_client_of(frame, give_up_s, when_full), job, as_json=as_json))


async def _one(client: Client, job: NewJob, *, as_json: bool) -> int:
    async with client:
        report = await _settled(client, job)
    if isinstance(report, EnqueueError):
        return _failed(report)
    if as_json:
        is_shed = isinstance(report, Shed)
        print_json(msgspec.to_builtins(report) | ({"shed": True} if is_shed else {}))
    elif isinstance(report, Shed):
        # Nothing on stdout, where a program would look for the id of a job.
        note(f"shed: {report.why}")
    else:
        if report.duplicate_of:
            note(f"duplicate of {report.duplicate_of}, which waits or runs: nothing was added")
        elif report.replaces:
            note(f"replaces {report.replaces}")
        click.echo(report.id)
    return 0


async def _settled(client: Client, job: NewJob) -> Enqueued | Shed | EnqueueError:
    try:
        async with contextlib.aclosing(client.enqueue_each([job])) as results:
            async for result in results:
                return result.error if isinstance(result, Refusal) else result
    except EnqueueStopped as error:
        return error
    raise AssertionError("one job has one result")


class Many:
    """
    Enqueues the jobs of JSON lines and says what became of them.

    Args:
        stream: The lines.
        defaults: What lines leave out.
        stop_on_error: Stop at the first refused line.
        as_json: Print the summary as JSON.
    """

    def __init__(
        self, stream: IO[bytes], defaults: Line, *, stop_on_error: bool, as_json: bool
    ) -> None:
        self._stream = stream
        self._source = LineSource(stream.fileno())
        self._bar = Bar(None, None)
        self._defaults = defaults
        self._stop_on_error = stop_on_error
        self._as_json = as_json
        self._accepted = 0
        self._refused = 0
        self._shed = self._full = 0
        self._why_full: QueueFull | None = None
        self._kept: list[dict[str, Any]] = []
        self._is_interrupted = False
        # Lines of jobs that are on their way, in their order.
        self._under_way: deque[int] = deque()

    async def run(self, client: Client) -> int:
        """Enqueue every line, and return the exit code."""
        stopped: EnqueueError | None = None
        with self._interruptible(), _bar(self._stream) as self._bar:
            async with client:
                try:
                    async with contextlib.aclosing(client.enqueue_each(self._jobs())) as results:
                        async for result in results:
                            self._take(result)
                except EnqueueStopped as error:
                    stopped = error
        return self._summary(stopped)

    async def _jobs(self) -> AsyncIterator[NewJob]:
        number = 0
        async for text in self._source.lines():
            number += 1
            self._bar.at(self._source.bytes_read, self._accepted, self._refused)
            if text is not None and not text.strip():
                continue
            try:
                if text is None:
                    raise LineError("line-too-long", "a line has at most 64 MiB")
                job = read_line(text, self._defaults)
            except LineError as error:
                self._refuse(number, error)
                continue
            self._under_way.append(number)
            yield job

    def _take(self, result: Result) -> None:
        number = self._under_way.popleft()
        if isinstance(result, Enqueued):
            self._accepted += 1
        elif isinstance(result, Shed):
            self._shed += 1
        elif isinstance(result.error, QueueFull):
            self._full += 1
            self._why_full = result.error
            if self._stop_on_error:
                self._source.stop()
        elif isinstance(result.error, JobRefused):
            self._refuse(number, result.error)

    def _refuse(self, line: int, error: LineError | JobRefused) -> None:
        self._refused += 1
        if len(self._kept) < KEPT_MAX:
            told = {"rule": error.rule, "path": error.path, "detail": error.detail}
            self._kept.append({"line": line, **told})
        if not self._as_json and self._refused <= SHOWN_MAX:
            self._bar.say(f"line {line}: {clean(str(error))}")
        if self._stop_on_error:
            self._source.stop()

    @contextlib.contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Let the first Ctrl-C end the lines, so that what was accepted is known."""
        loop = asyncio.get_running_loop()

        def interrupt() -> None:
            self._is_interrupted = True
            self._source.stop()
            loop.remove_signal_handler(signal.SIGINT)

        loop.add_signal_handler(signal.SIGINT, interrupt)
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGINT)

    def _summary(self, stopped: EnqueueError | None) -> int:
        if self._as_json:
            found: dict[str, Any] = {
                "accepted": self._accepted,
                "refused": self._refused,
                "shed": self._shed,
                "full": self._full,
                "interrupted": self._is_interrupted,
                "refusals": self._kept,
            }
            if isinstance(stopped, EnqueueStopped):
                found |= {"unsent": stopped.report.unsent, "unsure": stopped.report.unsure}
            print_json(found)
        else:
            hidden = self._refused - SHOWN_MAX
            if hidden > 0:
                note(f"{hidden} more lines were refused; --json lists up to {KEPT_MAX}")
            word = "interrupted: " if self._is_interrupted else ""
            more = f", {self._shed} shed" if self._shed else ""
            more += f", {self._full} not accepted since the queue is full" if self._full else ""
            click.echo(f"{word}{self._accepted} accepted, {self._refused} refused{more}")
        if stopped is not None:
            return _failed(stopped)
        if self._is_interrupted:
            return INTERRUPTED
        if self._why_full is not None:
            return _failed(self._why_full)
        return FAILED if self._refused else 0


class Bar:
    """A progress bar where somebody looks at it; else nothing but what has to be said."""

    def __init__(self, progress: Any, task: Any) -> None:
        self._progress = progress
        self._task = task

    def at(self, done: int, accepted: int, refused: int) -> None:
        """Show how far it is."""
        if self._progress is not None:
            text = f"{accepted} accepted, {refused} refused"
            self._progress.update(self._task, completed=done, description=text)

    def say(self, text: str) -> None:
        """Print a line on stderr, above the bar."""
        if self._progress is not None:
            self._progress.console.print(text, markup=False, highlight=False)
        else:
            click.echo(text, err=True)


@contextlib.contextmanager
def _bar(stream: IO[bytes]) -> Iterator[Bar]:
    if not sys.stderr.isatty():
        yield Bar(None, None)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    found = os.fstat(stream.fileno())
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        total = found.st_size if stat.S_ISREG(found.st_mode) else None
        yield Bar(progress, progress.add_task("", total=total))


def _client_of(frame: Frame, give_up_s: float, when_full: Choice) -> Client:
    settings = frame.settings
    return Client(
        settings.redis_url,
        registry=_registry(frame),
        give_up_s=give_up_s,
        data_bytes_max=settings.data_bytes_max,
        reply_patterns=settings.reply_patterns,
        when_full=when_full,
    )


def _registry(frame: Frame) -> Registry | None:
    from engine.runtime.loading import load_app

    try:
        return load_app(frame.settings).registry
    except RegistryError as error:
        note(f"jobs are not checked against their types, since {error}")
        return None


def _job(defaults: Line, data: bytes) -> NewJob:
    try:
        return new_job(Line(data=msgspec.Raw(data)), defaults)
    except LineError as error:
        raise EnqueueError(str(error)) from None


def read_payload(data: str) -> bytes:
    """Read what ``--data`` says: JSON, @PATH or - for stdin."""
    if data == "-":
        return sys.stdin.buffer.read()
    if not data.startswith("@"):
        return data.encode("utf-8", "surrogateescape")
    try:
        return Path(data[1:]).read_bytes()
    except OSError as error:
        raise click.UsageError(f"cannot read {data[1:]}: {error.strerror}") from None


@contextlib.contextmanager
def _opened(path: str) -> Iterator[IO[bytes]]:
    if path == "-":
        yield sys.stdin.buffer
        return
    try:
        stream = Path(path).open("rb")  # noqa: SIM115 - closed below; only opening may fail here
    except OSError as error:
        raise click.UsageError(f"cannot read {path}: {error.strerror}") from None
    with stream:
        yield stream


def read_headers(pairs: tuple[str, ...]) -> dict[str, str] | None:
    """Read what ``--header`` says."""
    split = [pair.partition("=") for pair in pairs]
    if any(not separator for _, separator, _ in split):
        raise click.UsageError("--header must be written NAME=VALUE")
    return {name: value for name, _, value in split} or None


def _failed(error: EnqueueError) -> int:
    """Say an error in one line, and return the exit code."""
    click.echo(f"error: {clean(' '.join(str(error).split()))}", err=True)
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, StoreUnavailable):
            return UNREACHABLE
        cause = cause.__cause__
    return FAILED

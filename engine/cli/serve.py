"""``run`` and ``dev``: the daemon."""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from engine.cli.frame import Frame, note
from engine.clock import SystemClock
from engine.registry import App
from engine.settings import EngineSettings, http_address

if TYPE_CHECKING:
    from engine.embedded import EmbeddedServers, Ports

ENVIRONMENT = "env"
"""The file, in the data directory of `dev`, by which other shells find its servers."""

queues_option = click.option("--queues", help="Queues to serve, as a,b; else all of the app.")
concurrency_option = click.option(
    "--concurrency", type=click.IntRange(1, 10_000), help="Jobs of one queue at a time."
)
app_option = click.option("--app", help="The handlers, as module:object.")


@click.command()
@queues_option
@concurrency_option
@click.option("--processes", type=click.IntRange(1, 256), help="Engine processes, one per core.")
@click.option("--burst", is_flag=True, help="End once nothing waits and nothing runs.")
@app_option
@click.pass_obj
def run(
    frame: Frame,
    /,
    *,
    queues: str | None,
    concurrency: int | None,
    processes: int | None,
    burst: bool,
    app: str | None,
) -> int:
    """
    Run the daemon until SIGTERM or Ctrl-C, which drain it.

    \b
    Examples:
      python -m engine run
      python -m engine run --queues message-delivery,indexing --concurrency 50
      python -m engine run --processes 4
      python -m engine run --app shop.jobs:registry --burst
    """  # noqa: D301 - click reads \b
    loaded = frame.load(
        queues=_names(queues), concurrency=concurrency, processes=processes, app=app
    )
    settings = loaded.settings
    # What is wrong with the app is told once, by this process.
    found = frame.app(app)
    if settings.processes == 1:
        return _serve(settings, found, burst=burst)
    given = {"--queues": queues, "--concurrency": concurrency, "--app": app}
    arguments = [*frame.arguments(), "run", *_options(given), *(["--burst"] if burst else [])]
    return _supervise(settings, arguments, frame.environ(), burst=burst)


@click.command()
@queues_option
@concurrency_option
@app_option
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".dev"),
    show_default=True,
    help="Where the servers keep their data.",
)
@click.option("--no-seed", is_flag=True, help="Put no demo data in place.")
@click.pass_obj
def dev(
    frame: Frame,
    /,
    *,
    queues: str | None,
    concurrency: int | None,
    app: str | None,
    data: Path,
    no_seed: bool,
) -> int:
    """
    Try everything out: embedded Valkey and PostgreSQL, migrations, engine, page.

    Prints the URLs of all of them when it is up; `. .dev/env` sets them in
    another shell. Data stay in the directory over Ctrl-C, which drains, and
    over kill -9. Needs the extra `embedded`.

    \b
    Example:
      python -m engine dev
    """  # noqa: D301 - click reads \b
    from engine.embedded import EmbeddedServers

    # What is wrong with the settings is told before any server is started.
    frame.load(queues=_names(queues), concurrency=concurrency, app=app)
    with EmbeddedServers(data) as servers:
        loaded = frame.load(
            queues=_names(queues),
            concurrency=concurrency,
            app=app,
            redis_url=servers.redis_url,
            postgres_url=servers.postgres_url,
            processes=1,
            http=_page_address(frame, servers.ports),
        )
        return _serve_dev(loaded.settings, servers, seed=not no_seed)


def _serve(
    settings: EngineSettings,
    app: App,
    *,
    burst: bool = False,
    on_ready: Callable[[str], None] | None = None,
) -> int:
    from engine.cli.side import http_side
    from engine.runtime import serve

    with _logs(settings):
        return serve(settings, app, burst=burst, side=http_side, on_ready=on_ready)


def _supervise(
    settings: EngineSettings, arguments: list[str], environ: dict[str, str], *, burst: bool
) -> int:
    from engine.runtime.supervisor import supervise

    with _logs(settings):
        return supervise(settings, arguments, environ=environ, burst=burst)


@contextmanager
def _logs(settings: EngineSettings) -> Iterator[None]:
    from engine.logs import flush, set_up

    set_up(log_format=settings.log_format, log_level=settings.log_level, clock=SystemClock())
    try:
        yield
    finally:
        flush()


def _serve_dev(settings: EngineSettings, servers: EmbeddedServers, *, seed: bool) -> int:
    from engine.cli.setup import run_migrations
    from engine.runtime.loading import load_app

    app = load_app(settings)
    run_migrations(app)
    hints = asyncio.run(_lines(app.seed)) if seed else []
    addresses = asyncio.run(_lines(app.dev))
    # For other commands, in another shell.
    exports = [
        f"export ENGINE_REDIS_URL={shlex.quote(settings.redis_url)}",
        f"export ENGINE_POSTGRES_URL={shlex.quote(settings.postgres_url)}",
    ]
    environment = servers.directory / ENVIRONMENT

    def ready(address: str) -> None:
        _write_private(environment, exports)
        for line in servers.ports.notes:
            note(line)
        for line in (
            f"redis {settings.redis_url}",
            f"postgres {settings.postgres_url}",
            f"page http://{address}/",
            f"metrics http://{address}/metrics",
            *addresses,
            *exports,
            *hints,
        ):
            click.echo(line)

    try:
        return _serve(settings, app, on_ready=ready)
    finally:
        environment.unlink(missing_ok=True)


def _write_private(path: Path, lines: list[str]) -> None:
    """Write a file that nobody else may read, since the lines hold passwords."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.writelines(f"{line}\n" for line in lines)


async def _lines(step: Callable[[], Awaitable[list[str]]] | None) -> list[str]:
    """Take a step of the app's, if it has one, and return what it tells people."""
    return await step() if step is not None else []


def _page_address(frame: Frame, ports: Ports) -> str:
    """Return where the page is served: as set, else at the usual port or near it."""
    loaded = frame.load()
    if loaded.settings.http and "http" in loaded.sources:
        return loaded.settings.http
    host, port = http_address(EngineSettings().http)
    return f"{host}:{ports.near(port, what='the page')}"


def _options(given: Mapping[str, object]) -> list[str]:
    """Write options as they were given."""
    told = [(name, str(value)) for name, value in given.items() if value is not None]
    return [part for pair in told for part in pair]


def _names(text: str | None) -> Any:
    if text is None:
        return None
    return [name.strip() for name in text.split(",") if name.strip()]

"""``demo``: a small chat day to watch."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
from collections.abc import Mapping
from functools import partial
from typing import Any

import click
import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from engine import Admin, Client, EngineError, load_engine
from processors.app import open_services, registry
from processors.day.acts import Stage, play
from processors.day.cast import Browser, raise_curtain
from processors.day.tally import Totals, closing, show, totals_of
from processors.settings import ProcessorSettings, from_env

GATEWAY = "127.0.0.1:8788"


@click.command()
@click.option(
    "--messages", type=click.IntRange(4, 10_000), default=120, show_default=True, help="To write."
)
@click.option(
    "--recipients",
    type=click.IntRange(1, 9_999),
    default=2_000,
    show_default=True,
    help="Of the batch.",
)
@click.option("--wait", type=float, default=120.0, show_default=True, help="Longest act, seconds.")
@click.option("--json", "as_json", is_flag=True, help="Print the closing tables as JSON.")
@click.pass_obj
def demo(
    environ: Mapping[str, str], /, *, messages: int, recipients: int, wait: float, as_json: bool
) -> None:
    """
    Play a small chat day against a running `make run`.

    People connect, write and read; a photo, a security notice, a batch; some
    providers fail, one job ends dead. New people play in every run, so it can
    be watched again and again.

    \b
    Example:
      make demo
    """  # noqa: D301 - click reads \b
    console = Console(stderr=as_json)
    found = asyncio.run(
        _day(environ, console, messages=messages, recipients=recipients, wait_s=wait)
    )
    if as_json:
        click.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2))
    else:
        show(console, found)
    # A day that did not end in time is a failure, for scripts.
    sys.exit(1 if any(" after " in told for told in found["told"].values()) else 0)


async def _day(
    environ: Mapping[str, str], console: Console, *, messages: int, recipients: int, wait_s: float
) -> dict[str, Any]:
    loaded, own = load_engine(environ).settings, from_env(environ)
    types = registry(own)
    queues = {queue: list(types.in_queue(queue)) for queue in types.queues()}
    async with contextlib.AsyncExitStack() as stack:
        admin = await stack.enter_async_context(Admin(loaded.redis_url, who="demo", types=queues))
        await _require_engine(admin)
        services = await stack.enter_async_context(open_services(loaded, own))
        client = await stack.enter_async_context(Client(loaded.redis_url, registry=types))
        cast = await raise_curtain(
            services.database,
            services.conversations,
            crowd=recipients,
            topic=next(iter(own.push.apns_topics), ""),
            browser=_browser(environ),
        )
        before = totals_of(await admin.queues())
        with Progress(
            TextColumn("{task.description:<40}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
        ) as progress:
            stage = Stage(
                services,
                client,
                cast,
                _gateway(own),
                progress,
                wait_s,
                is_idle=partial(_is_idle, admin),
            )
            await play(stage, messages=messages, lines=random.Random(7))  # noqa: S311 - chatter
        return await closing(stage, before, await _after(admin))


async def _after(admin: Admin) -> Totals:
    return totals_of(await admin.queues())


async def _is_idle(admin: Admin) -> bool:
    return not any(queue.waiting or queue.active or queue.overdue for queue in await admin.queues())


async def _require_engine(admin: Admin) -> None:
    if not any(engine.live for engine in await admin.engines()):
        raise EngineError(
            "no engine is running: start `make run`, and in another terminal `make demo`"
        )


def _gateway(own: ProcessorSettings) -> str:
    return own.gateway.listen or GATEWAY


def _browser(environ: Mapping[str, str]) -> Browser | None:
    """Return the browser that the demo's push service stands for, where there is one."""
    prefix = "DEMO_WEBPUSH_"
    names = ("ENDPOINT", "P256DH", "AUTH")
    values = [environ.get(prefix + name, "") for name in names]
    return Browser(*values) if all(values) else None

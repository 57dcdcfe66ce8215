"""``--watch``: an answer again and again, on a terminal in place, else one below the other."""

from __future__ import annotations

import functools
import io
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import click

from engine.cli.output import clock_time, is_terminal
from engine.clock import Clock, SystemClock
from engine.errors import EngineError

EVERY_S = 2.0


class Page(io.StringIO):
    """Takes what a command prints as a terminal would, colours included."""

    def isatty(self) -> bool:
        """Claim to be a terminal, so that tables are coloured and fitted."""
        return True


def watchable(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--watch`` and ``--every`` to a command that looks."""

    @click.option("--watch", is_flag=True, help="Show it again and again, until Ctrl-C.")
    @click.option(
        "--every",
        "every_s",
        type=click.FloatRange(0.2, 3_600),
        default=EVERY_S,
        show_default=True,
        metavar="SECONDS",
        help="Time between two looks of --watch.",
    )
    @functools.wraps(function)
    def command(*args: Any, watch: bool, every_s: float, **given: Any) -> Any:
        def look() -> Any:
            return function(*args, **given)

        return watch_for_ever(look, every_s) if watch else look()

    return command


def watch_for_ever(
    look: Callable[[], Any], every_s: float, *, sleep: Callable[[float], object] = time.sleep
) -> None:
    """
    Call a command again and again, until Ctrl-C.

    Args:
        look: Prints one answer; what fails is told, and tried again.
        every_s: Time between two answers.
        sleep: Waits for so many seconds.
    """
    told = SystemClock()
    draw = _drawing() if is_terminal() else None
    try:
        if draw is None:
            while True:
                _print_once(look, told)
                sleep(every_s)
        with draw as live:
            while True:
                live.update(_page(look, every_s, told), refresh=True)
                sleep(every_s)
    except KeyboardInterrupt:
        return


def _print_once(look: Callable[[], Any], clock: Clock) -> None:
    try:
        look()
    except EngineError as error:
        # What cannot be seen now is looked at again; programs read the answers from stdout alone.
        click.echo(f"{clock_time(clock.now_ms())} error: {error}", err=True)


def _drawing() -> Any:
    from rich.console import Console
    from rich.live import Live

    return Live(console=Console(), screen=True, auto_refresh=False, vertical_overflow="crop")


def _page(look: Callable[[], Any], every_s: float, clock: Clock) -> Any:
    from rich.text import Text

    page = Page()
    with redirect_stdout(page), redirect_stderr(page):
        click.secho(f"{clock_time(clock.now_ms())}, every {every_s:g} s; Ctrl-C ends", dim=True)
        click.echo()
        try:
            look()
        except EngineError as error:
            click.secho(f"error: {error}", fg="red")
    return Text.from_ansi(page.getvalue())

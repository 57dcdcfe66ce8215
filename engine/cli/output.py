"""How answers are printed: tables for people, aligned text for pipes, JSON for programs."""

from __future__ import annotations

import os
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import click
import msgspec
import orjson

from engine.admin.explain import span
from engine.clock import SystemClock
from schemas.pressure import Fullness

_UNITS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)(ms|s|m|h|d)")

GAP = 2
LAST_WIDTH_MIN = 24

Cell = str | tuple[str, str]
"""Text, or text and its style."""


def print_json(value: Any) -> None:
    """Print structs as camelCase JSON; indented on a terminal."""
    option = orjson.OPT_INDENT_2 if sys.stdout.isatty() else 0
    click.echo(orjson.dumps(msgspec.to_builtins(value), option=option))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    """
    Print rows under headings, aligned; on a terminal the last column is wrapped to its width.

    Args:
        columns: Headings; a ``>`` before one puts its column to the right.
        rows: As many cells each as there are columns.
    """
    names = [column.lstrip(">") for column in columns]
    right = [column.startswith(">") for column in columns]
    cells = [[clean(_text(cell)) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(names, *cells, strict=True)]
    indent = sum(widths[:-1]) + GAP * (len(widths) - 1)
    is_terminal = sys.stdout.isatty()
    room = max(LAST_WIDTH_MIN, terminal_width() - indent) if is_terminal else 0
    styles = [[_style(cell) for cell in row] for row in rows]
    for texts, colours in zip([names, *cells], [["bold"] * len(names), *styles], strict=True):
        first, *more = textwrap.wrap(texts[-1], room) or [""] if room else [texts[-1]]
        parts = []
        for at, text in enumerate([*texts[:-1], first]):
            spaces = " " * (widths[at] - len(text))
            shown = styled(text, colours[at]) if is_terminal else text
            parts.append(spaces + shown if right[at] else shown + spaces)
        click.echo((" " * GAP).join(parts).rstrip())
        for line in more:
            click.echo(" " * indent + line)


@contextmanager
def bar(what: str, total: int) -> Iterator[Callable[[int, int], None] | None]:
    """
    Show a progress bar on stderr, where that is a terminal and there is something to do.

    Args:
        what: What stands before it.
        total: How much there is to do.

    Yields:
        What is to be told how much of it is done; None where nothing is shown.
    """
    if not total or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(what, total=total)
        yield lambda done, _: shown.update(task, completed=done)


def is_terminal() -> bool:
    """Tell whether answers go to a terminal."""
    return sys.stdout.isatty()


def styled(text: str, style: str) -> str:
    """Colour text for a terminal, unless NO_COLOR is set."""
    if not style or os.environ.get("NO_COLOR"):
        return text
    return click.style(text, bold=True) if style == "bold" else click.style(text, fg=style)


def terminal_width() -> int:
    """Return how many columns the terminal has."""
    return shutil.get_terminal_size().columns


def print_pairs(pairs: Sequence[tuple[str, Cell]]) -> None:
    """Print names and values, one a line; empty values are left out."""
    shown = [(name, cell) for name, cell in pairs if _text(cell)]
    width = max((len(name) for name, _ in shown), default=0)
    for name, cell in shown:
        value = clean(_text(cell))
        if sys.stdout.isatty():
            value = styled(value, _style(cell))
        click.echo(f"{name.ljust(width)}  {value}")


def clean(text: str) -> str:
    """Take the power over the terminal from text that strangers wrote."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def clean_lines(text: str) -> list[str]:
    """Clean text of several lines."""
    return [clean(line.expandtabs(4)) for line in text.split("\n")]


def age(at_ms: int, now_ms: int | None = None) -> str:
    """Write how long ago, or in how long, a moment is."""
    if not at_ms:
        return ""
    now = SystemClock().now_ms() if now_ms is None else now_ms
    return f"{span(now - at_ms)} ago" if at_ms <= now else f"in {span(at_ms - now)}"


def clock_time(at_ms: int) -> str:
    """Write a moment in UTC, to the ms."""
    if not 0 < at_ms < 253_402_300_800_000:
        return str(at_ms) if at_ms else ""
    moment = datetime.fromtimestamp(at_ms / 1000, UTC)
    return moment.isoformat(sep=" ", timespec="milliseconds").replace("+00:00", " UTC")


def size(count: int) -> str:
    """Write a number of bytes."""
    if count < 1024:
        return f"{count} B"
    return f"{count / 1024:.1f} KiB" if count < 1_048_576 else f"{count / 1_048_576:.1f} MiB"


def fullness(found: Fullness) -> str:
    """Say what a queue holds and may hold."""
    held = f"{found.jobs:,} of {found.jobs_max:,}" if found.jobs_max else f"{found.jobs:,}"
    jobs = f"{held} {'job' if held == '1' else 'jobs'}"
    taken = size(found.bytes)
    taken = f"{taken} of {size(found.bytes_max)}" if found.bytes_max else taken
    if not found.ratio and not (found.jobs_max or found.bytes_max):
        return f"{jobs}, {taken}; no bounds"
    source = "set live" if found.set_live else "set by engines"
    return f"{jobs}, {taken}, {found.ratio:.0%} full; {source}"


def moment_ms(text: str) -> int:
    """
    Read a moment: a duration back from now, or ISO 8601 (UTC where it names no zone).

    Raises:
        ValueError: It is neither.
    """
    duration = _DURATION.fullmatch(text.strip())
    if duration:
        back = float(duration[1]) * _UNITS[duration[2]]
        return max(0, SystemClock().now_ms() - round(back))
    moment = datetime.fromisoformat(text.strip())
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)


def due_ms(text: str) -> tuple[int, int]:
    """
    Read a duration ahead, or ISO 8601 (UTC where it names no zone).

    Returns:
        Unix ms and 0, or 0 and the ms from now on.

    Raises:
        ValueError: It is neither.
    """
    duration = _DURATION.fullmatch(text.strip())
    if duration:
        return 0, round(float(duration[1]) * _UNITS[duration[2]])
    return moment_ms(text), 0


def _text(cell: Cell) -> str:
    return cell if isinstance(cell, str) else cell[0]


def _style(cell: Cell) -> str:
    return "" if isinstance(cell, str) else cell[1]

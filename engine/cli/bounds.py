"""``bounds``."""

from __future__ import annotations

import re

import click

from engine.admin import Admin
from engine.cli.frame import Frame, json_option, note, queue_argument
from engine.cli.output import fullness, print_json
from engine.cli.queues import reason_option
from schemas.stats import Change, QueueStats

_UNITS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,3})?) ?([kmgt]?)(?:i?b)?", re.IGNORECASE)


class Size(click.ParamType[int]):
    """Bytes: a number, or such as 64MiB, 2g; ``none``."""

    name = "size"

    def convert(
        self, value: str | int, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Read what was typed."""
        if isinstance(value, int) or value == "none":
            return 0 if value == "none" else int(value)
        found = _SIZE.fullmatch(value.strip())
        if found is None:
            self.fail(f"{value!r} is neither bytes, nor such as 64MiB or 2g, nor none", param, ctx)
        return round(float(found[1]) * (1 << _UNITS[found[2].lower()]))


class Number(click.ParamType[int]):
    """A count, or ``none``."""

    name = "number"

    def convert(
        self, value: str | int, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Read what was typed."""
        if value == "none":
            return 0
        if isinstance(value, str) and not (value.isascii() and value.isdigit()):
            self.fail(f"{value!r} is neither a number nor none", param, ctx)
        return int(value)


@click.command()
@queue_argument
@click.option("--jobs", type=Number(), metavar="N|none", help="Jobs that it may hold.")
@click.option(
    "--bytes",
    "bytes_max",
    type=Size(),
    metavar="SIZE|none",
    help="Memory that they may take on the server, such as 64MiB.",
)
@click.option("--clear", is_flag=True, help="Take live bounds away; engines' settings stand.")
@reason_option
@json_option
@click.pass_obj
def bounds(
    frame: Frame,
    /,
    *,
    queue: str,
    jobs: int | None,
    bytes_max: int | None,
    clear: bool,
    reason: str,
    as_json: bool,
) -> None:
    """
    Bound what a queue may hold, or show how full it is.

    It counts jobs that wait, run, are delayed or set aside. Clients of producers
    wait, fail or shed when it is full, within a second or two of a change; a bare
    XADD is not stopped. `none` lifts a bound that engines are set to.

    \b
    Examples:
      python -m engine bounds notification
      python -m engine bounds notification --jobs 100000 --bytes 512MiB
      python -m engine bounds notification --clear
    """  # noqa: D301 - click reads \b
    if jobs is None and bytes_max is None and not clear:
        stats = frame.operate(lambda admin: admin.queue(queue), known=False)
        if as_json:
            print_json(stats.fullness)
        elif stats.fullness is not None:
            click.echo(f"{queue}: {fullness(stats.fullness)}")
        return

    async def change(admin: Admin) -> tuple[Change, QueueStats]:
        changed = await admin.bounds(queue, jobs=jobs, size=bytes_max, clear=clear, reason=reason)
        return changed, await admin.queue(queue)

    changed, stats = frame.operate(change, known=False)
    if as_json:
        print_json(changed)
        return
    if not changed.changed:
        note("it was set so already")
    if stats.fullness is not None:
        click.echo(f"{queue}: {fullness(stats.fullness)}")

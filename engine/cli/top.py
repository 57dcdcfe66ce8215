"""``top``: everything at a glance, live in the terminal."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

import click
from rich.console import Console
from rich.live import Live

from engine.admin import Admin
from engine.admin.health import engine_findings, queue_findings, server_findings
from engine.cli.completing import queue_names
from engine.cli.frame import Frame, json_option, whoami
from engine.cli.keyboard import keys
from engine.cli.output import print_json
from engine.cli.queues import worse
from engine.cli.top_fit import fitted
from engine.cli.top_screen import TREND_CELLS, Screen, Seen, draw
from engine.errors import EngineError
from schemas.stats import QueueStats

AUDITED = 5
PRINTED_COLUMNS = 140


@click.command()
@click.argument("names", nargs=-1, metavar="[QUEUE]...", shell_complete=queue_names)
@click.option(
    "--every",
    "every_s",
    type=click.FloatRange(0.2, 60),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="Time between two looks.",
)
@click.option(
    "--count",
    type=click.IntRange(0),
    default=None,
    help="End after so many looks; 0 for never. Without a terminal it is 1 if not said.",
)
@json_option
@click.pass_obj
def top(
    frame: Frame,
    /,
    *,
    names: tuple[str, ...],
    every_s: float,
    count: int | None,
    as_json: bool,
) -> None:
    """
    Watch queues and engines live; queues can be paused and resumed from it.

    \b
    Keys: up and down (or j, k) choose a queue, Enter opens its lanes, types and
    dead groups, p pauses or resumes it, space freezes the view, q ends.

    \b
    Examples:
      python -m engine top
      python -m engine top notification indexing --every 2
      python -m engine top --json --count 0 | jq '.queues[] | {queue, waiting}'
    """  # noqa: D301 - click reads \b
    shown = sys.stdout.isatty() and not as_json
    looks = (0 if shown else 1) if count is None else count
    settings = frame.settings
    types = {} if names else frame.types()

    async def watch() -> None:
        async with Admin(settings.redis_url, who=whoami(), types=types) as admin:
            view = _View(admin, names, settings.backlog_age_ms_max, every_s)
            if shown:
                await view.on_terminal(looks)
            else:
                await view.printed(looks, as_json=as_json)

    try:
        asyncio.run(watch())
    except KeyboardInterrupt:
        return


class _View:
    """Looks again and again, and does what keys say."""

    def __init__(
        self, admin: Admin, names: Sequence[str], backlog_age_ms_max: int, every_s: float
    ) -> None:
        self._admin = admin
        self._names = names
        self._backlog_age_ms_max = backlog_age_ms_max
        self._screen = Screen(every_s=every_s)
        self._seen: Seen | None = None

    async def printed(self, looks: int, *, as_json: bool) -> None:
        """Print one look below the other; what fails ends it."""
        self._screen.interactive = False
        # Wide enough for everything, wherever it goes.
        console = Console(width=PRINTED_COLUMNS)
        number = 0
        while True:
            seen = await self._look()
            if as_json:
                print_json(seen)
            else:
                console.print(draw(seen, self._screen))
            number += 1
            if number == looks:
                return
            await asyncio.sleep(self._screen.every_s)

    async def on_terminal(self, looks: int) -> None:
        """Show looks in place, until a key, or so many looks, end it."""
        self._screen.interactive = sys.stdin.isatty()
        # The first look fails as any other command does: nothing is known to be shown.
        await self._look()
        live = Live(console=Console(), screen=True, auto_refresh=False, vertical_overflow="crop")
        with live, keys() as pressed:
            number = 0
            while number != looks or not looks:
                number += 1
                self._refresh(live)
                if await self._wait(pressed, live):
                    return
                if not self._screen.frozen:
                    await self._try_look()

    def _refresh(self, live: Live) -> None:
        assert self._seen is not None
        live.update(fitted(self._seen, self._screen, live.console), refresh=True)

    async def _wait(self, pressed: asyncio.Queue[str], live: Live) -> bool:
        """Take keys until it is time to look again; tells whether one of them ends it."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._screen.every_s
        while True:
            try:
                async with asyncio.timeout_at(until):
                    key = await pressed.get()
            except TimeoutError:
                return False
            if key == "q":
                return True
            await self._press(key)
            self._refresh(live)

    async def _press(self, key: str) -> None:
        screen = self._screen
        screen.told = ""
        if key == "space":
            screen.frozen = not screen.frozen
        elif key in {"up", "k"}:
            self._choose(-1)
        elif key in {"down", "j"}:
            self._choose(1)
        elif key in {"enter", "escape"}:
            screen.details = key == "enter" and not screen.details
            await self._try_look()
        elif key == "p":
            await self._pause_or_resume()

    def _choose(self, step: int) -> None:
        assert self._seen is not None
        names = [each.queue for each in self._seen.queues]
        if names:
            at = names.index(self._screen.chosen) if self._screen.chosen in names else 0
            self._screen.chosen = names[(at + step) % len(names)]

    async def _pause_or_resume(self) -> None:
        assert self._seen is not None
        name = self._screen.chosen
        paused = any(each.queue == name and each.paused for each in self._seen.queues)
        try:
            if paused:
                await self._admin.resume(name, reason="top")
            else:
                await self._admin.pause(name, reason="top")
        except EngineError as error:
            self._screen.told = f"{name}: {error}"
            return
        self._screen.told = f"{name} is {'resumed' if paused else 'paused; p resumes it'}"
        await self._try_look()

    async def _try_look(self) -> None:
        try:
            await self._look()
            self._screen.trouble = ""
        except EngineError as error:
            # What was known stays on the screen.
            self._screen.trouble = str(error)

    async def _look(self) -> Seen:
        admin, before = self._admin, self._seen
        server = await admin.server()
        engines = await admin.engines()
        queues = await admin.queues(self._names)
        queues.sort(key=lambda stats: worse(stats, self._backlog_age_ms_max))
        findings = server_findings(server)
        for engine in engines:
            findings += engine_findings(engine)
        for queue in queues:
            findings += queue_findings(
                queue, must=True, backlog_age_ms_max=self._backlog_age_ms_max
            )
        screen = self._screen
        if queues and not any(queue.queue == screen.chosen for queue in queues):
            screen.chosen = queues[0].queue
        self._seen = seen = Seen(
            at_ms=server.time_ms,
            server=server,
            engines=engines,
            queues=queues,
            findings=sorted(findings, key=lambda finding: finding.severity != "error"),
            audit=await admin.audit(AUDITED),
            groups=await admin.dead_groups(screen.chosen) if screen.details else [],
        )
        if before is not None:
            note_rates(screen.rates, before, seen)
        return seen


def note_rates(rates: dict[str, list[float]], before: Seen, now: Seen) -> None:
    """Add how many jobs each queue has done per second between two looks."""
    passed_s = (now.at_ms - before.at_ms) / 1_000
    if passed_s <= 0:
        return
    known = {each.queue: _done(each) for each in before.queues}
    for each in now.queues:
        if each.queue in known:
            done = max(0, _done(each) - known[each.queue])
            kept = rates.setdefault(each.queue, [])
            kept.append(done / passed_s)
            del kept[:-TREND_CELLS]


def _done(stats: QueueStats) -> int:
    return sum(stats.totals.get("done", {}).values())

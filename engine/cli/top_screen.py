"""What ``top`` shows, drawn from what was read. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from engine.admin.health import QueueState, state_of
from engine.admin.words import many, span
from engine.cli.output import age, clean, clock_time, size
from schemas.stats import Audited, DeadGroup, EngineStats, Finding, QueueStats, Server, View

COLOURS = {"bad": "red", "paused": "magenta", "warn": "yellow", "well": "green"}
SIGNS = {"bad": "✖", "paused": "‖", "warn": "▲", "well": "✔"}
LANE_COLOURS = {"critical": "white", "high": "cyan", "normal": "blue", "low": "bright_black"}
BAR_CELLS = 16
TREND_CELLS = 20
BLOCKS = " ▁▂▃▄▅▆▇█"
QUEUE_COLUMNS = (
    ("state", 34),
    (">oldest", 56),
    (">waiting", 24),
    ("by lane", 112),
    (">run", 64),
    (">delayed", 76),
    (">dead", 24),
    (">done/s", 88),
    ("trend", 124),
)
"""Columns about a queue, and from which width of the window on they are shown."""
KEYS = "↑↓ queue   Enter details   p pause/resume   space freeze   q quit"


class Seen(View, frozen=True, kw_only=True):
    """
    One look at everything.

    Attributes:
        at_ms: The server's clock, Unix ms.
        server: The server of the queues.
        engines: The engines.
        queues: The queues, the worst first.
        findings: What is wrong, the worst first.
        audit: The latest changes that people made.
        groups: Groups of dead letters of the queue whose details are open.
    """

    at_ms: int
    server: Server
    engines: list[EngineStats]
    queues: list[QueueStats]
    findings: list[Finding]
    audit: list[Audited]
    groups: list[DeadGroup] = msgspec.field(default_factory=list)


class Screen(msgspec.Struct, kw_only=True):
    """
    What a person has chosen to look at.

    Attributes:
        every_s: Time between two looks.
        rates: Jobs done per second by queue, one number a look, the newest last.
        chosen: The queue whose row is marked.
        details: Whether that queue's details are shown.
        frozen: Nothing new is shown.
        trouble: Why nothing newer is known.
        told: What the last key did.
        interactive: Whether keys are read.
    """

    every_s: float
    rates: dict[str, list[float]] = {}
    chosen: str = ""
    details: bool = False
    frozen: bool = False
    trouble: str = ""
    told: str = ""
    interactive: bool = True


def draw(seen: Seen, screen: Screen) -> RenderableType:
    """Draw one look, whatever its size."""
    parts: list[RenderableType] = [head_of(seen, screen), figures_of(seen, screen)]
    if seen.findings:
        parts.append(findings_of(seen.findings))
    parts.append(queues_of(seen, screen, range(len(seen.queues))))
    parts += details_of(seen, screen) or others_of(seen)
    return Group(*parts, *foot_of(screen))


def details_of(seen: Seen, screen: Screen) -> list[RenderableType]:
    """Draw the chosen queue's details; nothing where they are not open."""
    chosen = next((each for each in seen.queues if each.queue == screen.chosen), None)
    if not screen.details or chosen is None:
        return []
    return [_lanes(chosen), _types(chosen), _groups(seen.groups)]


def others_of(seen: Seen) -> list[RenderableType]:
    """Draw what stands under the queues: engines, and what people changed."""
    return [_engines(seen.engines), _audit(seen)]


def foot_of(screen: Screen) -> list[RenderableType]:
    """Draw the keys, or what the last one did; nothing where none are read."""
    if not screen.interactive:
        return []
    style = "bold" if screen.told else "dim"
    return [Text(screen.told or KEYS, style=style, no_wrap=True, overflow="ellipsis")]


def head_of(seen: Seen, screen: Screen) -> RenderableType:
    """Draw when this was, and how the server is."""
    state = "frozen" if screen.frozen else f"every {screen.every_s:g} s"
    line = Text.assemble(
        *(("Streamlane", "bold"), "  ", (clock_time(seen.at_ms), ""), (f"  {state}  ", "dim")),
        no_wrap=True,
        overflow="ellipsis",
    )
    server = seen.server
    used = size(server.memory_bytes)
    if server.memory_bytes_max:
        used += f" of {size(server.memory_bytes_max)}"
    line.append(f"{clean(server.version)}, {used}, {clean(server.role)}", "dim")
    if screen.trouble:
        line.append(f"\nno news: {clean(screen.trouble)}", "bold red")
    return line


def figures_of(seen: Seen, screen: Screen) -> RenderableType:
    """Draw all queues together."""
    queues = seen.queues
    oldest = max(queues, key=lambda each: each.oldest_ms, default=None)
    live = sum(each.live for each in seen.engines)
    done = sum(rates[-1] for rates in screen.rates.values() if rates)
    figures = [
        (
            "oldest",
            f"{span(oldest.oldest_ms)} {oldest.queue}" if oldest and oldest.waiting else "-",
        ),
        ("waiting", f"{sum(each.waiting for each in queues):,}"),
        ("running", f"{sum(each.active for each in queues):,}"),
        ("delayed", f"{sum(each.delayed for each in queues):,}"),
        ("done", f"{done:,.0f}/s"),
        ("dead", f"{sum(each.dead for each in queues):,}"),
        ("engines", f"{live} of {len(seen.engines)}"),
    ]
    line = Text(no_wrap=True, overflow="ellipsis")
    for name, value in figures:
        line.append(f"{name} ", "dim").append(value, "bold").append("   ")
    return line


def findings_of(findings: Sequence[Finding]) -> RenderableType:
    """Draw what is wrong."""
    table = Table.grid(padding=(0, 1))
    for finding in findings[:5]:
        kind = "bad" if finding.severity == "error" else "warn"
        action = Text(clean(finding.action), style="dim")
        what = Text(clean(finding.message))
        table.add_row(Text(SIGNS[kind], style=COLOURS[kind]), Text("\n").join([what, action]))
    if len(findings) > 5:
        table.add_row("", Text(f"and {many(len(findings) - 5, 'more')}", style="dim"))
    style = "red" if findings[0].severity == "error" else "yellow"
    return Panel(table, title="needs attention", title_align="left", border_style=style)


def queues_of(
    seen: Seen, screen: Screen, rows: range, *, width: int = 0, slim: bool = False
) -> Table:
    """
    Draw queues.

    Args:
        seen: What is known.
        screen: What a person has chosen.
        rows: Which of the queues.
        width: Columns of the window; what matters least is left out where it is narrow. 0 for all.
        slim: Without lines around the head.
    """
    shown = seen.queues[rows.start : rows.stop]
    some = f" {rows.start + 1}-{rows.stop} of {len(seen.queues)}"
    names = [name for name, from_width in QUEUE_COLUMNS if not width or width >= from_width]
    table = _table("queue" + some * (len(shown) < len(seen.queues)), *names)
    if slim:
        table.box = None
    for each in shown:
        rates = screen.rates.get(each.queue, [])
        marked = screen.interactive and each.queue == screen.chosen
        cells = _cells(each, state_of(each.queue, seen.findings), rates)
        table.add_row(
            Text(("▶ " if marked else "  ") + clean(each.queue), style="bold"),
            *(cells[name.lstrip(">")] for name in names),
            style="reverse" if marked else "",
        )
    return table


def _cells(
    stats: QueueStats, state: QueueState, rates: Sequence[float]
) -> dict[str, RenderableType]:
    return {
        "state": Text(f"{SIGNS[state.kind]} {state.word}", style=COLOURS[state.kind]),
        "oldest": span(stats.oldest_ms) if stats.waiting else "-",
        "waiting": f"{stats.waiting:,}",
        "by lane": lane_bar(stats),
        "run": f"{stats.active:,}",
        "delayed": f"{stats.delayed:,}",
        "dead": Text(f"{stats.dead:,}", style="red" if stats.dead else "dim"),
        "done/s": f"{rates[-1]:,.0f}" if rates else "-",
        "trend": Text(trend(rates), style="cyan"),
    }


def lane_bar(stats: QueueStats) -> Text:
    """Draw how waiting jobs share out over lanes, the highest first; none is left out."""
    line = Text(no_wrap=True)
    total = sum(lane.waiting for lane in stats.lanes.values())
    for name, lane in stats.lanes.items():
        if lane.waiting:
            cells = max(1, round(lane.waiting / total * BAR_CELLS))
            line.append("━" * cells, LANE_COLOURS[name])
    return line


def trend(values: Sequence[float]) -> str:
    """Draw the last values from zero up."""
    shown = values[-TREND_CELLS:]
    top = max(shown, default=0.0)
    if not top:
        return BLOCKS[1] * len(shown)
    return "".join(BLOCKS[1 + round(value / top * 7)] for value in shown)


def _engines(engines: Sequence[EngineStats]) -> RenderableType:
    if not engines:
        return Text("No engine has been heard of: python -m engine run", style="dim")
    worst = sorted(engines, key=lambda each: (each.live, -each.beat.loop_lag_ms))
    table = _table("engine", "state", ">load", ">loop lag", ">memory", ">beat", "host", "version")
    for each in worst[:8]:
        beat = each.beat
        running = sum(load.running for load in beat.queues.values())
        slots = sum(load.concurrency for load in beat.queues.values())
        state = clean(beat.state) if each.live else "silent"
        table.add_row(
            Text("  " + clean(beat.name), style="bold"),
            Text(state, style="green" if each.live else "red"),
            f"{running}/{slots}",
            Text(span(beat.loop_lag_ms), style="red" if beat.loop_lag_ms > 250 else ""),
            size(beat.rss_bytes),
            f"{span(each.silent_ms)} ago",
            clean(beat.host),
            clean(beat.version),
        )
    if len(worst) > 8:
        table.caption = f"worst 8 of {len(worst)}"
    return table


def _audit(seen: Seen) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    for each in seen.audit:
        reason = f"“{clean(each.reason)}”" if each.reason else ""
        table.add_row(
            Text(age(each.at, seen.at_ms), style="dim"),
            Text(clean(each.who), style="bold"),
            f"{clean(each.what)} {clean(each.queue)}",
            Text(reason, style="dim"),
        )
    return table


def _lanes(stats: QueueStats) -> RenderableType:
    table = _table("lane", ">waiting", ">parked", ">oldest", ">run")
    for name, lane in stats.lanes.items():
        oldest = span(lane.oldest_ms) if lane.oldest_ms else "-"
        numbers = (f"{lane.waiting:,}", f"{lane.parked:,}", oldest, f"{lane.active:,}")
        table.add_row(Text(f"  {name}", style=LANE_COLOURS[name]), *numbers)
    return table


def _types(stats: QueueStats) -> RenderableType:
    outcomes = list(stats.totals)
    table = _table("type", *(f">{name}" for name in outcomes))
    held = {each.type for each in stats.held if each.held}
    for name in sorted({name for counts in stats.totals.values() for name in counts}):
        label = Text("  " + clean(name), style="bold").append(" held" * (name in held), "red")
        table.add_row(label, *(f"{stats.totals[each].get(name, 0):,}" for each in outcomes))
    return table


def _groups(groups: Sequence[DeadGroup]) -> RenderableType:
    if not groups:
        return Text("  No dead letters.", style="dim")
    table = _table("dead group", ">jobs", "type", "reason", ">last", "error")
    for group in groups[:8]:
        error = ": ".join(filter(None, (group.kind, group.message)))
        table.add_row(
            "  " + clean(group.fingerprint),
            Text(f"{group.jobs:,}", style="red"),
            clean(group.type),
            clean(group.reason),
            age(group.last_ms),
            Text(clean(error), no_wrap=True, overflow="ellipsis"),
        )
    return table


def _table(*names: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=False, header_style="dim")
    for name in names:
        right: Any = "right" if name.startswith(">") else "left"
        table.add_column(name.lstrip(">"), justify=right, no_wrap=True, overflow="ellipsis")
    return table

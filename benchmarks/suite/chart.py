"""The results as one picture: a panel for each workload that was measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from benchmarks.suite.catalog import ENTRIES
from benchmarks.suite.results import Document
from benchmarks.suite.targets import Results, of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OURS, PEERS, LIMITS = "#c2410c", "#5b7c99", "#b8b8b8"
PANEL_INCHES = 5.4
BAR_INCHES = 0.3
MARGIN_INCHES = 1.1


class NoChart(Exception):
    """There is nothing to draw, or nothing to draw with; the message says which."""


class Panel(msgspec.Struct, frozen=True):
    """
    One panel.

    Attributes:
        workload: Whose figures.
        name: Which of them.
        title: What stands above.
        is_time: Whether less is better.
    """

    workload: str
    name: str
    title: str
    is_time: bool = False


PANELS = (
    Panel("w1", "jobs_per_s", "no-op jobs/s"),
    Panel("w2", "jobs_per_s", "jobs/s that sleep 5 ms, 100 at a time"),
    Panel("w3", "one_per_s", "enqueued/s, each awaited"),
    Panel("w3", "bulk_per_s", "enqueued/s in bulk"),
    Panel("w4", "p50_ms", "ms to the handler at 500/s, p50", is_time=True),
    Panel("w4", "p99_ms", "ms to the handler at 500/s, p99", is_time=True),
    Panel("w5", "jobs_per_s", "jobs/s that fail once"),
    Panel("w1-lanes", "jobs_per_s", "jobs/s, 4 lanes and 7 types, 200 B and 2 KB"),
)


def bars(results: Results, panel: Panel) -> list[tuple[str, float]]:
    """List the bars of one panel, the best last, as they are drawn from below."""
    found = [(system, of(results, panel.workload, system, panel.name)) for system in ENTRIES]
    drawn = [(system, value) for system, value in found if value]
    return sorted(drawn, key=lambda bar: bar[1], reverse=panel.is_time)


def draw(document: Document, path: Path) -> None:
    """
    Draw a chart; the ending of the path chooses SVG, PNG or PDF.

    Raises:
        NoChart: Nothing was measured, the ending is unknown, or matplotlib is not installed.
    """
    panels = [(panel, found) for panel in PANELS if (found := bars(document.results, panel))]
    if not panels:
        raise NoChart("there are no figures to draw")
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise NoChart("a chart needs matplotlib: pip install 'streamlane[bench]'") from None
    rows = [panels[at : at + 2] for at in range(0, len(panels), 2)]
    heights = [max(len(found) for _, found in row) * BAR_INCHES + MARGIN_INCHES for row in rows]
    columns = min(2, len(panels))
    # The same figures make the same file.
    with mpl.rc_context({"svg.hashsalt": "streamlane", "font.size": 9}):
        figure = Figure(figsize=(PANEL_INCHES * columns, sum(heights) + 0.6), layout="constrained")
        grid = figure.subplots(len(rows), columns, squeeze=False, height_ratios=heights)
        for row, places in zip(rows, grid, strict=True):
            for place, drawn in zip(places, row, strict=False):
                _panel(place, *drawn)
            for place in places[len(row) :]:
                place.set_axis_off()
        figure.suptitle(_title(document), fontsize=10)
        _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    ending = path.suffix.removeprefix(".").lower()
    if ending not in {"svg", "png", "pdf"}:
        raise NoChart(f"{path.name} must end in .svg, .png or .pdf")
    figure.savefig(path, metadata={"Date": None} if ending == "svg" else None)


def _panel(place: Axes, panel: Panel, found: list[tuple[str, float]]) -> None:
    names, values = [name for name, _ in found], [value for _, value in found]
    place.barh(names, values, color=[_colour(name) for name in names], height=0.7)
    place.set_xscale("log")
    place.set_xlim(min(values) / 3, max(values) * 5)
    place.set_title(panel.title, fontsize=9, loc="left")
    for at, value in enumerate(values):
        text = f" {value:,.2f}" if value < 100 else f" {value:,.0f}"
        place.text(value, at, text, va="center", fontsize=8)
    place.tick_params(axis="x", labelsize=7, colors="#777777")
    place.tick_params(axis="y", length=0)
    place.spines[["top", "right", "left"]].set_visible(False)
    place.minorticks_off()


def _colour(system: str) -> str:
    if system == "streamlane":
        return OURS
    return PEERS if ENTRIES[system].is_peer else LIMITS


def _title(document: Document) -> str:
    machine, versions = document.machine, document.versions
    return (
        f"{document.date}, {machine['cores']} cores, Python {versions['python']}, "
        f"{versions.get('server', 'Valkey')}; one worker process on one core, logarithmic"
    )

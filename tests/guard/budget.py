"""The written bounds: how they are read, judged, and written."""

from __future__ import annotations

import math
import sys
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path

from tests.guard.measure import MEASURES, Measured
from tests.guard.probes import Figures
from tests.guard.workloads import WORKLOADS

BUDGET = Path(__file__).with_name("budget.toml")
PYTHON = "3.11"
OF_PYTHON = {"calls", "instructions", "held_blocks", "held_objects"}
"""What differs from one Python to the next is judged on this one alone."""

KEPT = 0.05
"""Allocations that a job may leave behind: what is made once, spread over the jobs."""

SLACK = {
    "commands_sent": (0.10, 0.5),
    "commands_run": (0.02, 0.5),
    "scripts": (0.10, 0.5),
    "socket_reads": (0.25, 0.5),
    "socket_writes": (0.25, 0.5),
    "bytes_in": (0.03, math.inf),
    "bytes_out": (0.03, math.inf),
    "calls": (0.03, 0.75),
    "instructions": (0.01, math.inf),
    "held_blocks": (0.05, 0.5),
    "held_objects": (0.10, 0.25),
    "queued_bytes": (0.02, math.inf),
}
"""Room above what was found, as a share and at most: less than one of anything more per job."""

SHOWN = 25
HEAD = """\
# What the fixed workloads of tests/guard may take, per job; the idle engine's per second.
#
#   python -m tests.guard                  what they take now, beside these bounds
#   python -m tests.guard --write          lower the bounds to what they take now, with some room
#   python -m tests.guard --raise W.M      raise that of measure M in workload W; say why in the
#                                          commit that does it
#
# None of these is a time, so a busy machine changes none of them. The comments are what was found
# when a bound was written. Calls, instructions and what is held are those of Python {python}, and
# judged on no other.
"""

Bounds = dict[str, Figures]


def read() -> Bounds:
    """Read the written bounds."""
    return tomllib.loads(BUDGET.read_text()) if BUDGET.exists() else {}


def bound_for(measure: str, found: float, *, unit: str = "job") -> float:
    """A bound for what was found: room for chance, and too little for one more of it per job."""
    if measure == "kept_blocks":
        return KEPT
    share, most = SLACK[measure]
    room = found * share
    return _rounded_up(found + (min(room, most) if unit == "job" else room))


def _rounded_up(value: float) -> float:
    """Round up to four digits."""
    if value <= 0:
        return 0.0
    step = 10.0 ** (math.floor(math.log10(value)) - 3)
    return float(f"{math.ceil(value / step) * step:.10g}")


def is_judged(workload: str, measure: str, *, python: str | None = None) -> bool:
    """Tell whether a figure is held to a bound."""
    if measure in OF_PYTHON:
        return (python or "{}.{}".format(*sys.version_info)) == PYTHON
    # An engine at rest fills its windows of recent readings.
    return measure != "kept_blocks" or WORKLOADS[workload].unit == "job"


def renewed(
    bounds: Bounds, found: Mapping[str, Measured], *, raised: Collection[str] = ()
) -> Bounds:
    """Lower bounds to what was found; raise none but the named ones."""
    new: Bounds = {}
    for workload, work in WORKLOADS.items():
        old = bounds.get(workload, {})
        if workload not in found:
            new[workload] = old
            continue
        figures = found[workload].figures
        new[workload] = {}
        for measure in MEASURES:
            if measure not in figures or not is_judged(workload, measure, python=PYTHON):
                continue
            fresh = bound_for(measure, figures[measure], unit=work.unit)
            is_named = f"{workload}.{measure}" in raised or measure not in old
            new[workload][measure] = fresh if is_named else min(fresh, old[measure])
    return new


def text_of(bounds: Bounds, found: Mapping[str, Measured]) -> str:
    """Write the table of bounds."""
    lines = [HEAD.format(python=PYTHON)]
    for workload, figures in bounds.items():
        lines.append(f"[{workload}]  # {WORKLOADS[workload].about}")
        for measure, bound in figures.items():
            seen = found[workload].figures.get(measure) if workload in found else None
            comment = f"  # {seen:.4g}" if seen is not None else ""
            lines.append(f"{measure} = {bound:.10g}{comment}")
        lines.append("")
    return "\n".join(lines)


def over(bounds: Bounds, found: Mapping[str, Measured]) -> list[tuple[str, str]]:
    """List what is above its bound, as workload and measure."""
    return [
        (workload, measure)
        for workload, measured in found.items()
        for measure, figure in measured.figures.items()
        if is_judged(workload, measure) and figure > bounds.get(workload, {}).get(measure, math.inf)
    ]


def complaint(workload: str, measure: str, bound: float, measured: Measured) -> str:
    """Say which bound is missed by how much, what it is made of, and how to change it."""
    work, found = WORKLOADS[workload], measured.figures[measure]
    missed = f"{measure} of {workload} ({work.about}): {found:.5g} a {work.unit}"
    compared = f"`python -m tests.guard {workload} --all` here and in a checkout of before"
    raising = f"`python -m tests.guard --raise {workload}.{measure}`"
    return "\n".join(
        [
            f"{missed}, and the bound in tests/guard/budget.toml is {bound:.5g}.",
            f"It counts {MEASURES[measure]}.",
            *_made_of(measure, measured, work.unit),
            f"Where it comes from: {compared}; the counts are the same each time.",
            f"If it is meant: {raising}, and say in the commit why it is worth it.",
        ]
    )


def _made_of(measure: str, measured: Measured, unit: str) -> list[str]:
    told = {"commands_sent", "calls", "instructions"}
    shown = measure if measure in told else "calls" if "_blocks" in measure else "commands_run"
    shown = "calls" if measure == "held_objects" else shown
    parts = sorted(measured.made_of[shown].items(), key=lambda part: -part[1])
    return [
        f"Most of {shown} a {unit}:",
        *(f"  {count:10.4f}  {name}" for name, count in parts[:SHOWN]),
    ]


def table(bounds: Bounds, found: Mapping[str, Measured]) -> str:
    """Show what was found beside the bounds, one row per measure."""
    names = list(found)
    rows = [["measure", *names]]
    for measure in MEASURES:
        cells = []
        for workload in names:
            figure = found[workload].figures.get(measure)
            bound = bounds.get(workload, {}).get(measure)
            cells.append(
                "" if figure is None else f"{figure:.4g}" + (f" ≤ {bound:.4g}" if bound else "")
            )
        rows.append([measure, *cells])
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    lines = [
        " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]
    lines.insert(1, "-|-".join("-" * width for width in widths))
    return "\n".join(f"| {line} |" if at != 1 else f"|-{line}-|" for at, line in enumerate(lines))

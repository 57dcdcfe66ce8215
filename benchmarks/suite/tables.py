"""Tables for people: Markdown that reads well on a terminal, too."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from benchmarks.suite.statistics import Run, Spread, column
from benchmarks.suite.targets import Results, Verdict, verdicts
from benchmarks.suite.workloads import WORKLOADS, Kind


class Column(msgspec.Struct, frozen=True):
    """
    One column: the figure's name in a run, its heading, and its digits behind the point.

    Attributes:
        name: The figure's name.
        heading: What stands above.
        digits: Digits behind the point.
        has_span: Whether least and most follow in brackets.
    """

    name: str
    heading: str
    digits: int = 0
    has_span: bool = False


COSTS = (Column("worker_us", "worker µs", 2), Column("server_us", "server µs", 2))
COLUMNS: dict[Kind, tuple[Column, ...]] = {
    "drain": (
        Column("jobs_per_s", "jobs/s", has_span=True),
        *COSTS,
        Column("commands", "commands", 3),
        Column("reads", "reads", 3),
        Column("bytes_in", "B in"),
        Column("bytes_out", "B out"),
        Column("peak_rss_mib", "peak MiB"),
        Column("queued_bytes", "queued B"),
        Column("left_bytes", "left B"),
        Column("jobs", "jobs"),
        Column("others", "others", 2),
    ),
    "enqueue": (
        Column("one_per_s", "one/s", has_span=True),
        Column("one_client_us", "client µs", 1),
        Column("one_server_us", "server µs", 1),
        Column("one_commands", "commands", 2),
        Column("bulk_per_s", "bulk/s", has_span=True),
        Column("bulk_client_us", "client µs", 2),
        Column("bulk_server_us", "server µs", 2),
        Column("bulk_commands", "commands", 2),
    ),
    "latency": (
        Column("p50_ms", "p50 ms", 2, has_span=True),
        Column("p99_ms", "p99 ms", 2, has_span=True),
        Column("p999_ms", "p99.9 ms", 2),
        Column("max_ms", "most ms", 1),
        Column("rate", "jobs/s"),
        *COSTS,
        Column("producer_late_ms", "producer late ms", 1),
        Column("others", "others", 2),
    ),
    "memory": (
        Column("idle_rss_mib", "idle MiB", 1),
        Column("loaded_rss_mib", "loaded MiB", 1),
        Column("grown_rss_mib", "gained MiB", 1),
        Column("queued_bytes", "queued B"),
        Column("bare_bytes", "bare B"),
    ),
    "processes": (
        Column("jobs_per_s", "two, jobs/s", has_span=True),
        Column("one_per_s", "one, jobs/s", has_span=True),
        Column("speedup", "ratio", 2),
        Column("speedup_possible", "possible", 2),
        *COSTS,
        Column("server_ceiling_per_s", "server's ceiling, jobs/s"),
        Column("cores", "cores"),
    ),
}
WHY_CHARS = 140
SMALLEST_FIRST = frozenset({"p50_ms"})


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Draw one table; columns of numbers are flush right."""
    lines = [head, *rows]
    widths = [max(len(line[at]) for line in lines) for at in range(len(head))]
    is_number = [all(_is_number(row[at]) for row in rows) for at in range(len(head))]

    def drawn(line: Sequence[str]) -> str:
        cells = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, is_number, strict=True)
        ]
        return f"| {' | '.join(cells)} |"

    rules = [
        "-" * (width + 1) + (":" if right else "-")
        for width, right in zip(widths, is_number, strict=True)
    ]
    return "\n".join([drawn(head), f"|{'|'.join(rules)}|", *map(drawn, rows)])


def _is_number(cell: str) -> bool:
    return cell[:1].isdigit() or cell in {"–", ""}


def shown(spread: Spread | None, digits: int = 0, *, has_span: bool = False) -> str:
    """Write a figure, with least and most where they differ."""
    if spread is None:
        return "–"
    text = f"{spread.median:,.{digits}f}"
    least, most = f"{spread.least:,.{digits}f}", f"{spread.most:,.{digits}f}"
    return f"{text} ({least}–{most})" if has_span and least != most else text


def measured(workload: str, results: Results) -> str:
    """Draw the figures of one workload, the best system first; empty without any."""
    columns = COLUMNS[WORKLOADS[workload].kind]
    runs = {
        system: found
        for system, found in results.get(workload, {}).items()
        if isinstance(found, list) and found
    }
    if not runs:
        return ""
    first = columns[0].name
    order = sorted(runs, key=lambda system: _place(runs[system], first))
    rows = [[system, *(_cell(runs[system], each) for each in columns)] for system in order]
    return table(["system", *(each.heading for each in columns)], rows)


def _place(runs: Sequence[Run], name: str) -> float:
    found = column(runs, name)
    if found is None:
        return float("inf")
    return found.median if name in SMALLEST_FIRST else -found.median


def _cell(runs: Sequence[Run], wanted: Column) -> str:
    return shown(column(runs, wanted.name), wanted.digits, has_span=wanted.has_span)


def failures(results: Results) -> str:
    """Draw what could not be measured, and why; empty where everything was."""
    rows = [
        [system, workload, _line(found["error"])]
        for workload, systems in results.items()
        for system, found in systems.items()
        if isinstance(found, dict)
    ]
    return table(["system", "workload", "why it was not measured"], rows) if rows else ""


def _line(told: str) -> str:
    """Bring what went wrong to a bounded length: its end says most."""
    text = " ".join(told.split()).replace("|", "/")
    return text if len(text) <= WHY_CHARS else f"{text[:40]} … {text[43 - WHY_CHARS :]}"


def judged(found: Sequence[Verdict]) -> str:
    """Draw the targets beside what was reached."""
    rows = [
        [
            each.tells,
            each.target,
            each.stretch,
            "–" if each.figure is None else f"{each.figure:.3g}",
            f"**{each.reached}**" if each.reached == "missed" else each.reached,
        ]
        for each in found
    ]
    return table(["figure", "target", "stretch", "reached", "verdict"], rows)


def report(results: Results) -> str:
    """Draw everything: each workload, what failed, and the targets."""
    parts = []
    for name, workload in WORKLOADS.items():
        if drawn := measured(name, results):
            parts.append(f"{name}: {workload.tells}\n\n{drawn}")
    if missing := failures(results):
        parts.append(missing)
    parts.append(f"Targets\n\n{judged(verdicts(results))}")
    return "\n\n".join(parts)

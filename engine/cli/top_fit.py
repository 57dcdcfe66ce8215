"""Fits what ``top`` shows into a terminal's window: what matters most stays, whatever its size."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.text import Text

from engine.admin.words import many
from engine.cli.top_screen import (
    COLOURS,
    SIGNS,
    Screen,
    Seen,
    details_of,
    figures_of,
    findings_of,
    foot_of,
    head_of,
    others_of,
    queues_of,
)
from schemas.stats import Finding

ROWS_BESIDE_FINDINGS = 5
"""Queues for which room must be left for findings to be told in full."""
ROWS_BESIDE_DETAILS = 3
SLIM_LINES = 16
"""Height below which tables are drawn without lines."""


def fitted(seen: Seen, screen: Screen, console: Console) -> RenderableType:
    """
    Draw one look so that it fits into the window.

    Head, figures and keys always stand; queues above and below the chosen one are left out first,
    then what stands under them.
    """
    top = [head_of(seen, screen), figures_of(seen, screen)]
    foot = foot_of(screen)
    room = console.size.height - _lines(console, [*top, *foot])
    width, slim = console.size.width, console.size.height < SLIM_LINES

    def queues(rows: range) -> RenderableType:
        return queues_of(seen, screen, rows, width=width, slim=slim)

    frame = _lines(console, [queues(range(1))]) - 1
    if seen.findings:
        findings = findings_of(seen.findings)
        if room - _lines(console, [findings]) < frame + ROWS_BESIDE_FINDINGS:
            findings = _in_one_line(seen.findings)
        if room > frame + _lines(console, [findings]):
            top.append(findings)
            room -= _lines(console, [findings])
    details = details_of(seen, screen)
    left = room - frame
    if details:
        left = max(ROWS_BESIDE_DETAILS, left - _lines(console, details))
    rows = _around_chosen(seen, screen, max(1, min(left, room - frame)))
    if room > frame:
        top.append(queues(rows))
        room -= frame + len(rows)
    for part in details or others_of(seen):
        lines = _lines(console, [part])
        if lines > room:
            break
        top.append(part)
        room -= lines
    return Group(*top, *foot)


def _lines(console: Console, parts: Sequence[RenderableType]) -> int:
    return sum(len(console.render_lines(part, pad=False)) for part in parts)


def _around_chosen(seen: Seen, screen: Screen, rows: int) -> range:
    """Choose the rows of queues that are shown: the chosen one's among them."""
    names = [each.queue for each in seen.queues]
    at = names.index(screen.chosen) if screen.chosen in names else 0
    first = max(0, min(at - rows // 2, len(names) - rows))
    return range(first, min(first + rows, len(names)))


def _in_one_line(findings: Sequence[Finding]) -> Text:
    kind = "bad" if findings[0].severity == "error" else "warn"
    told = f"{SIGNS[kind]} {many(len(findings), 'finding')}: python -m engine health"
    return Text(told, style=COLOURS[kind], no_wrap=True, overflow="ellipsis")

"""Puts the figures of a file into the document about them."""

from __future__ import annotations

from pathlib import Path

from benchmarks.suite.processes import ROOT
from benchmarks.suite.results import Document
from benchmarks.suite.tables import failures, judged, measured
from benchmarks.suite.targets import verdicts
from benchmarks.suite.workloads import WORKLOADS

README = ROOT / "benchmarks" / "README.md"
BEGIN = "<!-- figures: begin -->\n"
END = "<!-- figures: end -->\n"


class NoPlace(Exception):
    """A document has no place for figures."""


def told(document: Document, source: Path, chart: Path | None = None) -> str:
    """Write what stands between the marks."""
    versions = ", ".join(f"{name} {version}" for name, version in document.versions.items())
    machine = document.machine
    parts = [
        (
            f"{document.date}, {machine['cores']} cores ({machine['processor']}), {versions}; "
            f"[{source.name}]({_link(source)}):"
        ),
        "```sh\n" + "\n".join(document.commands) + "\n```",
    ]
    if chart is not None:
        parts.append(f"![The figures as bars]({_link(chart)})")
    parts.append(judged(verdicts(document.results)))
    for name, workload in WORKLOADS.items():
        if drawn := measured(name, document.results):
            parts.append(f"**{name}**: {workload.tells}.\n\n{drawn}")
    if missing := failures(document.results):
        parts.append(missing)
    systems = [
        f"{system}: {', '.join(f'{name} {version}' for name, version in found.items())}"
        for system, found in document.systems.items()
    ]
    parts.append("Versions: " + "; ".join(systems) + ".")
    return "\n\n".join(parts) + "\n"


def _link(path: Path) -> str:
    """Name a file as seen from the document."""
    resolved = path.resolve()
    if resolved.is_relative_to(README.parent):
        return str(resolved.relative_to(README.parent))
    return path.name


def replaced(text: str, figures: str) -> str:
    """
    Put figures between the marks of a text.

    Raises:
        NoPlace: The text has not both marks, in order.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise NoPlace(f"there is no {BEGIN.strip()} … {END.strip()}")
    return f"{before}{begin}{figures}{end}{after}"


def rewrite(document: Document, source: Path, chart: Path | None = None) -> None:
    """Put the figures of a file into the document."""
    README.write_text(replaced(README.read_text(), told(document, source, chart)))

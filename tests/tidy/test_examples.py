"""Examples in the documents are what the command line and the wire accept."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import click
import pytest

from engine.cli import main
from engine.wire.codec import Limits, parse
from tests.tidy.sources import ROOT, name_of

DOCUMENTS = [
    ROOT / name
    for name in (
        "README.md",
        "CONTRIBUTING.md",
        "engine/README.md",
        "engine/FLOW.md",
        "benchmarks/README.md",
    )
]
NINE_PARTS = [
    "Order by key",
    "Limits",
    "Schedules",
    "Uniqueness",
    "Flows",
    "Cancel, reschedule, run now, change priority",
    "Batch handlers",
    "Backpressure",
    '"Why is this job not running?"',
]
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
PLACEHOLDER = "'{…}'"


def blocks(document: Path) -> list[tuple[str, str]]:
    """List the examples of a document: language and text."""
    return FENCED.findall(document.read_text())


def commands() -> list[tuple[str, str]]:
    found = []
    for document in DOCUMENTS:
        for _, text in blocks(document):
            lines = (line.removeprefix("$ ") for line in text.splitlines())
            found += [(name_of(document), line) for line in lines if is_command(line)]
    return found


def is_command(line: str) -> bool:
    return line.startswith("python -m engine ")


def entries() -> list[tuple[str, str]]:
    """List the XADDs of all examples, which may go over several lines."""
    found = []
    for document in DOCUMENTS:
        for language, text in blocks(document):
            if language in {"", "sh"}:
                adds = re.findall(
                    r"^(?:redis-cli[^\n]*?)?XADD (?:'[^']*'|[^'\n])*$", text, re.MULTILINE
                )
                found += [(name_of(document), add) for add in adds]
    return found


@pytest.mark.parametrize(("document", "line"), commands())
def test_a_command_is_one_that_the_command_line_takes(document: str, line: str) -> None:
    assert isinstance(main, click.Group)
    words = shlex.split(line, comments=True)[3:]
    context = click.Context(main)
    group: click.Command = main

    while isinstance(group, click.Group):
        name, found, words = group.resolve_command(context, words)
        assert name is not None
        assert found is not None
        group = found
    group.make_context(group.name, words)


@pytest.mark.parametrize(("document", "line"), entries())
def test_an_entry_breaks_no_rule(document: str, line: str) -> None:
    words = shlex.split(line.replace(PLACEHOLDER, "'{}'"))
    fields = [word.encode() for word in words[words.index("*") + 1 :]]

    assert parse(fields, entry_ms=1_800_000_000_000, limits=Limits()).type


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_examples_in_python_can_be_compiled(document: Path) -> None:
    for language, text in blocks(document):
        if language == "python":
            compile(text, name_of(document), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_the_parts_of_flow_control_stand_in_their_order() -> None:
    text = (ROOT / "engine" / "FLOW.md").read_text()

    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == NINE_PARTS

"""What must not stand in the repository."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.tidy.sources import ROOT, SOURCES, name_of, repository_files

KEYS = ROOT / "engine" / "wire" / "keys.py"
SELF = Path(__file__).resolve()

UNFINISHED = re.compile(r"\b(TODO|FIXME)\b")
ONE_MACHINE = re.compile(r"(?<![\w.])/(?:root|work|home/\w+|Users/\w+|opt/pypi[\w-]*)(?:/|\b)")
REGISTRIES = re.compile(
    r"index-url|find-links|pypi\.org/simple|registry\.npmjs\.org|pythonhosted\.org"
)


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_keys_are_made_in_one_place(path: Path) -> None:
    if path == KEYS:
        return
    tree = ast.parse(path.read_text())
    literals = {
        f"{name_of(path)}:{node.lineno}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str | bytes)
        and node.value[:3] in ("mq:", b"mq:")
    }

    assert literals == set()


@pytest.mark.parametrize(
    "pattern",
    [
        pytest.param(UNFINISHED, id="unfinished"),
        pytest.param(ONE_MACHINE, id="paths of one machine"),
        pytest.param(REGISTRIES, id="package registries"),
    ],
)
def test_no_file_holds(pattern: re.Pattern[str]) -> None:
    files = repository_files()
    if not files:
        pytest.skip("this is not a git repository")
    found = [
        f"{name_of(path)}:{number}: {line.strip()[:100]}"
        for path in files
        if path.resolve() != SELF
        for number, line in enumerate(text_of(path).splitlines(), 1)
        if pattern.search(line)
    ]

    assert found == []


def text_of(path: Path) -> str:
    data = path.read_bytes()
    return "" if b"\0" in data else data.decode(errors="replace")

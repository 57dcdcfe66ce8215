"""Functions and files stay short enough to be read at once."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.tidy.sources import SOURCES, name_of

FUNCTION_LINES_MAX = 50
FILE_LINES_MAX = 400


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_file_has_at_most_400_lines(path: Path) -> None:
    lines = len(path.read_text().splitlines())

    assert lines <= FILE_LINES_MAX, f"{name_of(path)} has {lines} lines"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_function_has_at_most_50_lines_without_its_docstring(path: Path) -> None:
    functions = [
        node
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    long = {
        f"{name_of(path)}:{function.lineno} {function.name}": lines_of(function)
        for function in functions
        if lines_of(function) > FUNCTION_LINES_MAX
    }

    assert long == {}


def lines_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    assert function.end_lineno is not None
    lines = function.end_lineno - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function, clean=False) is not None:
        assert first.end_lineno is not None
        lines -= first.end_lineno - first.lineno + 1
    return lines

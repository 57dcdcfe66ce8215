"""The file of results: when, where, with what, and what came out."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.suite.processes import ROOT
from benchmarks.suite.statistics import rounded
from benchmarks.suite.targets import verdicts


class ResultsUnreadable(Exception):
    """A file holds no results of this program."""


class Document(msgspec.Struct, kw_only=True):
    """
    Everything that a run tells.

    Attributes:
        date: The day it began, UTC.
        commands: What was called, in order, where a file was added to.
        machine: Processor, cores, system.
        versions: Python, server, this repository's commit.
        settings: How it was measured.
        systems: The versions of each system and of what it runs on.
        results: Workload → system → runs, or ``{"error": …}``.
        targets: How far each figure got.
    """

    date: str
    commands: list[str]
    machine: dict[str, str | int]
    versions: dict[str, str]
    settings: dict[str, Any]
    systems: dict[str, dict[str, str]] = {}
    results: dict[str, dict[str, Any]] = {}
    targets: list[dict[str, Any]] = []


def begun(command: str, settings: dict[str, Any]) -> Document:
    """Begin a document."""
    return Document(
        date=datetime.now(UTC).date().isoformat(),
        commands=[command],
        machine=machine(),
        versions={"python": platform.python_version(), "commit": commit()},
        settings=settings,
    )


def machine() -> dict[str, str | int]:
    """Describe this machine, without its name."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count() or 0,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def commit() -> str:
    """Name the commit that was measured, with a plus where files differ from it."""
    try:
        said = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=12"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return said.stdout.strip()


def read(path: Path) -> Document:
    """
    Read a file of results.

    Raises:
        ResultsUnreadable: There is none, or it is something else.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Document)
    except OSError as error:
        raise ResultsUnreadable(f"{path}: {error.strerror}") from None
    except msgspec.DecodeError as error:
        raise ResultsUnreadable(f"{path} holds no results of this program: {error}") from None


def write(path: Path, document: Document) -> None:
    """Write a file of results, with the targets judged anew."""
    document.targets = [msgspec.to_builtins(each) for each in verdicts(document.results)]
    plain = _rounded(msgspec.to_builtins(document))
    text = msgspec.json.format(msgspec.json.encode(plain), indent=1).decode()
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(f"{text}\n")
    partial.replace(path)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return rounded(value)
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return value

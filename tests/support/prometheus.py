"""Prometheus' programs, where they are installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.promql import PROMETHEUS

MISSING = (
    "the rules were not tried by Prometheus itself: install it (Debian: apt-get install prometheus)"
)


def program(name: str) -> str:
    """Find one of Prometheus' programs, or skip the test."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(MISSING)
    return found


def promtool(*words: str, directory: Path = PROMETHEUS, given: bytes = b"") -> str:
    """Run promtool, which must be content, and return what it says."""
    ended = subprocess.run(
        [program("promtool"), *words],
        cwd=directory,
        input=given,
        capture_output=True,
        timeout=110,
        check=False,
    )
    said = (ended.stdout + ended.stderr).decode()
    assert ended.returncode == 0, said
    return said

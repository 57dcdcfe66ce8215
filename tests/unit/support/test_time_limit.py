"""Tests that hang are ended and named, wherever they hang."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HANGING = """
import asyncio, threading

async def test_waits() -> None:
    await asyncio.Event().wait()

async def test_waits_for_a_task_that_ends_late() -> None:
    async def late() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.Event().wait()
    await asyncio.wait({asyncio.create_task(late())})

async def test_works_and_works() -> None:
    while True:
        await asyncio.sleep(0)

def test_waits_for_a_thread() -> None:
    threading.Event().wait()

async def test_goes_on() -> None:
    await asyncio.sleep(0)
"""


def test_a_test_that_hangs_fails_by_name_and_the_next_one_runs(tmp_path: Path) -> None:
    file = tmp_path / "test_hanging.py"
    file.write_text(HANGING)
    (tmp_path / "conftest.py").write_text(
        "from tests.conftest import pytest_asyncio_loop_factories\n"
        "pytest_plugins = ['tests.support.time_limit']\n"
    )
    options = ["-o", "asyncio_mode=auto", "-o", "timeout=0.5", "-p", "no:cacheprovider"]
    root = Path(__file__).parents[3]

    command = [sys.executable, "-m", "pytest", "-q", f"--rootdir={tmp_path}", *options, str(file)]
    ran = subprocess.run(
        command,
        cwd=root,
        env={"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert "4 failed, 1 passed, 1 error" in ran.stdout, ran.stdout + ran.stderr
    assert "test_waits: Timeout (>0.5s)" in ran.stdout

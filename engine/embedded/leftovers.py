"""Servers that a killed process left behind: found by what they are, never by a pid on file."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterable
from pathlib import Path

import psutil

from engine.embedded.process import STOP_S, STOP_SIGNAL, wait_until


def stop_leftovers(directory: Path, names: Iterable[str]) -> int:
    """
    End the servers that a killed process left running on a directory.

    A process counts as such when its program has one of the names and its working directory is
    this one or below; a number in a file would prove nothing, since pids are used again.

    Returns:
        How many processes were found.
    """
    found = servers_of(directory, names)
    ids = {process.pid for process in found}
    for process in found:
        with contextlib.suppress(psutil.NoSuchProcess):
            # Only the first of a family: it stops its own children in order.
            if process.ppid() not in ids:
                process.send_signal(STOP_SIGNAL)
                process.send_signal(signal.SIGCONT)
    if not wait_until_gone(found):
        for process in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        wait_until_gone(found)
    return len(found)


def servers_of(directory: Path, names: Iterable[str]) -> list[psutil.Process]:
    """List the running programs of the given names whose working directory is this or below."""
    wanted = frozenset(names)
    return [
        process
        for process in psutil.process_iter()
        if _name(process) in wanted and _works_in(process, directory)
    ]


def wait_until_gone(processes: Iterable[psutil.Process], *, limit_s: float = STOP_S) -> bool:
    """Wait until none of the processes runs; False once the limit has passed."""
    awaited = list(processes)
    return wait_until(lambda: not any(map(_runs, awaited)), limit_s=limit_s)


def _name(process: psutil.Process) -> str:
    try:
        return str(process.name())
    except psutil.Error:
        return ""


def _works_in(process: psutil.Process, directory: Path) -> bool:
    try:
        return Path(process.cwd()).is_relative_to(directory)
    except (psutil.Error, OSError):
        # Gone meanwhile, or another user's, which ours never is.
        return False


def _runs(process: psutil.Process) -> bool:
    try:
        # A zombie only waits for its parent to take notice.
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False

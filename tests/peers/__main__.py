"""
Places where pushes, emails and texts arrive, without an account anywhere.

    python -m tests.peers                  run them; set the variables printed in another shell
    python -m tests.peers -- COMMAND …     run COMMAND with the variables set, and them beside it

In the second form COMMAND takes this process's place, so it has its pid, its terminal and its
signals. The sinks run in a session of their own and end when it does, however it does: they hold
the reading end of a pipe whose writing end it has.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
MISSING = "the sinks need packages that are not installed: pip install -e '.[messaging,sinks]'"


def main() -> None:
    """Read the command line, and run one of the two forms."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.peers", description="Places where everything arrives that is sent."
    )
    parser.add_argument("--data", type=Path, help="Where to keep keys and what arrived.")
    parser.add_argument("--pipes", help=argparse.SUPPRESS)
    parser.add_argument("command", nargs="*", metavar="COMMAND", help="What to run beside them.")
    given = parser.parse_args()
    with ExitStack() as stack:
        if given.pipes:
            asyncio.run(_beside(given.data, *map(int, given.pipes.split(","))))
        elif given.command:
            _in_place(given.data or Path(".dev"), given.command)
        else:
            kept = given.data or stack.enter_context(tempfile.TemporaryDirectory())
            asyncio.run(_by_hand(Path(kept)))


async def _by_hand(directory: Path) -> None:
    """Run the sinks until Ctrl-C."""
    from tests.peers.sinks import export_lines, open_sinks

    stopping = _stopped_by_signals()
    async with open_sinks(directory, os.environ) as variables:
        print("\n".join(export_lines(variables)), flush=True)
        await stopping.wait()


def _in_place(directory: Path, command: list[str]) -> None:
    """Start the sinks, then become the command."""
    directory.mkdir(parents=True, exist_ok=True)
    held, ours = os.pipe()
    told, telling = os.pipe()
    arguments = ["-m", "tests.peers", "--data", str(directory), "--pipes", f"{held},{telling}"]
    subprocess.Popen(
        [sys.executable, *arguments],
        cwd=Path.cwd(),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(_search_path())},
        stdin=subprocess.DEVNULL,
        pass_fds=(held, telling),
        start_new_session=True,
    )
    os.close(held)
    os.close(telling)
    with os.fdopen(told) as pipe:
        text = pipe.read()
    if not text:
        sys.exit("error: the sinks did not start")
    variables: dict[str, str] = json.loads(text)
    # Kept open by whatever the command becomes; its own children do not inherit it as a rule.
    os.set_inheritable(ours, True)
    sys.stdout.flush()
    try:
        os.execvpe(command[0], command, {**os.environ, **variables})
    except OSError as error:
        sys.exit(f"error: cannot run {command[0]}: {error.strerror}")


async def _beside(directory: Path, held: int, telling: int) -> None:
    """Run the sinks until the pipe's other end is closed."""
    from tests.peers.sinks import open_sinks

    stopping = _stopped_by_signals()
    asyncio.get_running_loop().add_reader(held, stopping.set)
    async with open_sinks(directory, os.environ) as variables:
        with os.fdopen(telling, "w") as pipe:
            json.dump(variables, pipe)
        await stopping.wait()


def _stopped_by_signals() -> asyncio.Event:
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    return stopping


def _search_path() -> list[str]:
    found: list[Any] = [ROOT, os.environ.get("PYTHONPATH", "")]
    return [str(place) for place in found if place]


if __name__ == "__main__":
    try:
        main()
    except ImportError as error:
        sys.exit(f"error: {MISSING} ({error.name})")

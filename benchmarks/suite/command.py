"""
Measure Streamlane beside other job systems, all on the same server with the same jobs.

Each measurement has a fresh Valkey on one core and one worker process on another. Systems take
turns; a system that cannot be installed or fails is told of in the tables, and the rest goes on.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.suite import results
from benchmarks.suite.bench import Bench
from benchmarks.suite.catalog import ENTRIES, Entry
from benchmarks.suite.chart import NoChart, draw
from benchmarks.suite.cores import cores, stay_on
from benchmarks.suite.environments import Environments, home
from benchmarks.suite.readme import NoPlace, rewrite
from benchmarks.suite.results import Document, ResultsUnreadable
from benchmarks.suite.session import Session
from benchmarks.suite.tables import report
from benchmarks.suite.workloads import WORKLOADS, Workload

INTERRUPTED = 130

EPILOG = """examples:
  python -m benchmarks --json out.json --chart out.svg
  python -m benchmarks --peers raw_task,streamlane --workloads w1 --runs 1 --seconds 2
  python -m benchmarks --show out.json --chart out.svg

Peers are installed when they are first needed, each into an environment of its own below
.bench/, or $STREAMLANE_BENCH_HOME. Compare figures of one run only.
"""


def parser() -> argparse.ArgumentParser:
    """Build what reads the command line."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = made.add_argument
    add("--peers", metavar="A,B", default="all", help="systems to measure; all unless given")
    add("--workloads", metavar="A,B", default="all", help="workloads; all unless given")
    add("--runs", type=_count, default=3, help="runs of each measurement; 3 unless given")
    add("--seconds", type=_seconds, default=8.0, help="how long a run lasts; 8 unless given")
    add("--aof", action="store_true", help="keep an append-only file, everysec, in all workloads")
    add("--json", type=Path, metavar="FILE", help="write results; a file that is there is added to")
    add("--chart", type=Path, metavar="FILE", help="draw the results, as SVG, PNG or PDF")
    add("--show", type=Path, metavar="FILE", help="measure nothing, show the tables of a file")
    add("--readme", action="store_true", help="put the figures of --json or --show into README.md")
    add("--install", action="store_true", help="install the systems and measure nothing")
    add("--list", action="store_true", help="list systems and workloads")
    return made


def _count(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 100:
        raise argparse.ArgumentTypeError(f"{number} is not between 1 and 100")
    return number


def _seconds(text: str) -> float:
    number = float(text)
    if not 0.05 <= number <= 600:
        raise argparse.ArgumentTypeError(f"{text} is not between 0.05 and 600")
    return number


def chosen_systems(text: str) -> list[Entry]:
    """
    Read the systems that are asked for.

    Raises:
        ValueError: One is unknown.
    """
    return [ENTRIES[name] for name in _chosen(text, list(ENTRIES), "system")]


def chosen_workloads(text: str) -> list[Workload]:
    """
    Read the workloads that are asked for.

    Raises:
        ValueError: One is unknown.
    """
    return [WORKLOADS[name] for name in _chosen(text, list(WORKLOADS), "workload")]


def _chosen(text: str, there: list[str], kind: str) -> list[str]:
    if text == "all":
        return there
    asked = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := [name for name in asked if name not in there]:
        raise ValueError(f"there is no {kind} {', '.join(unknown)}; there are {', '.join(there)}")
    if not asked:
        raise ValueError(f"name at least one {kind}: {', '.join(there)}")
    # In their own order, in which one may need the figures of another.
    return [name for name in there if name in asked]


def listed() -> str:
    """List what can be asked for."""
    lines = ["systems:"]
    lines += [f"  {name:14} {entry.tells}" for name, entry in ENTRIES.items()]
    lines += ["", "workloads:"]
    lines += [f"  {name:14} {workload.tells}" for name, workload in WORKLOADS.items()]
    return "\n".join(lines)


def say(text: str) -> None:
    """Tell how it goes, beside the tables."""
    print(time.strftime("%H:%M:%S"), text, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    read = parser()
    asked = read.parse_args(arguments)
    if asked.list:
        print(listed())
        return 0
    try:
        systems, workloads = chosen_systems(asked.peers), chosen_workloads(asked.workloads)
        _check(asked)
        document = results.read(asked.show) if asked.show else _document(asked)
    except (ValueError, ResultsUnreadable) as error:
        read.error(str(error))
    code = 0 if asked.show else _measured(asked, document, systems, workloads)
    if asked.install:
        return code
    print(report(document.results))
    return max(code, _drawn(asked, document))


def _check(asked: argparse.Namespace) -> None:
    """Find out what would go wrong after an hour of measuring."""
    if asked.readme and not (asked.json or asked.show):
        raise ValueError("--readme needs a file of results: --json FILE or --show FILE")
    if asked.show and asked.json:
        raise ValueError("--show measures nothing, so there is nothing for --json")
    for path in (asked.json, asked.chart):
        if path is not None and not path.parent.is_dir():
            raise ValueError(f"{path}: there is no directory {path.parent}")


def _measured(
    asked: argparse.Namespace, document: Document, systems: list[Entry], workloads: list[Workload]
) -> int:
    try:
        session = _session(asked, document)
        if asked.install:
            return 0 if len(session.ready(systems)) == len(systems) else 1
        session.run(systems, workloads, asked.runs)
    except KeyboardInterrupt:
        say("stopped; what was measured so far:")
        return INTERRUPTED
    return 0


def _drawn(asked: argparse.Namespace, document: Document) -> int:
    """Write what is made of the results."""
    try:
        if asked.chart:
            draw(document, asked.chart)
        if asked.readme:
            rewrite(document, asked.json or asked.show, asked.chart)
    except (NoChart, NoPlace) as error:
        say(str(error))
        return 1
    return 0


def _document(asked: argparse.Namespace) -> Document:
    words = ["python", "-m", "benchmarks", *sys.argv[1:]]
    settings = {"runs": asked.runs, "seconds": asked.seconds, "aof": asked.aof}
    document = results.begun(shlex.join(words), settings)
    if asked.json is None or not asked.json.exists():
        return document
    earlier = results.read(asked.json)
    if earlier.machine != document.machine:
        raise ValueError(f"{asked.json} comes from another machine: figures cannot be compared")
    earlier.commands += document.commands
    earlier.versions |= document.versions
    return earlier


def _session(asked: argparse.Namespace, document: Document) -> Session:
    # Asked to end, it still ends what it started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    chosen = cores()
    if len(chosen.all) < 2:
        say("server and worker share a core here: nothing can be compared with other machines")
    # This process sleeps most of the time, beside the server.
    stay_on(chosen.server)
    bench = Bench(
        environments=Environments(home(), say),
        cores=chosen,
        seconds=asked.seconds,
        is_on_disk=asked.aof,
    )
    return Session(bench, document, asked.json, say)

"""
What changes as work grows: backlog, due jobs, dead letters, processes, durability.

    python -m benchmarks.scale [--only backlog,storm,dead,memory,cores,aof] [--secs 5]
                               [--backlog 10000,10000000] [--delayed 1000000] [--dead 1000000]
                               [--json FILE]

Each entry has fresh servers on the first core and engines, as users run them, on the second. With
the sizes above a run needs 6 GB of memory and takes about ten minutes. Where a machine is shared,
CPU time per job says more than jobs/s; ``stolen`` is what its host gave to others.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.scaling import backlog, dead, process, storm
from benchmarks.scaling.rig import table
from benchmarks.suite.results import begun

Rows = list[dict[str, Any]]

TITLES = {
    "backlog": "Jobs/s at a backlog",
    "storm": "Delayed jobs due at once, with 500 fresh ones a second",
    "dead": "Analysis of dead letters",
    "memory": "Memory of one engine, and of a waiting job",
    "cores": "Two processes",
    "aof": "Append-only file",
}


def main() -> None:
    """Measure what was asked for, print tables, write them down."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--only", default=",".join(TITLES), help=f"of {', '.join(TITLES)}")
    parser.add_argument("--secs", type=float, default=5.0, help="of each measurement of jobs/s")
    parser.add_argument("--backlog", default="10000,10000000", help="lengths, the first as base")
    parser.add_argument("--delayed", type=int, default=1_000_000)
    parser.add_argument("--lanes", default="normal,critical", help="of the fresh jobs")
    parser.add_argument("--per-s", type=int, default=500, help="fresh jobs")
    parser.add_argument("--dead", type=int, default=1_000_000)
    parser.add_argument("--loaded", type=int, default=500_000, help="jobs at full load")
    parser.add_argument("--handlers", default="20,200", help="µs of CPU of the handlers")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    wanted = asked.only.split(",")
    if unknown := set(wanted) - set(TITLES):
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    measures: dict[str, Callable[[], Rows]] = {
        "backlog": lambda: backlog.measure(numbers(asked.backlog), asked.secs),
        "storm": lambda: [
            storm.measure(asked.delayed, per_s=asked.per_s, lane=lane)
            for lane in asked.lanes.split(",")
        ],
        "dead": lambda: dead.measure(asked.dead),
        "memory": lambda: process.memory(asked.loaded),
        "cores": lambda: process.cores(numbers(asked.handlers), asked.secs),
        "aof": lambda: process.aof(asked.secs),
    }
    settings = {name: str(value) for name, value in vars(asked).items() if name != "json"}
    document = begun(" ".join(["python -m benchmarks.scale", *sys.argv[1:]]), settings)
    found: dict[str, Rows] = {}
    for name in wanted:
        found[name] = measures[name]()
        table(TITLES[name], found[name])
        if asked.json:
            told = {
                "date": document.date,
                "commands": document.commands,
                "machine": document.machine,
                "versions": document.versions,
                "settings": document.settings,
                "results": found,
            }
            asked.json.write_text(json.dumps(told, ensure_ascii=False, indent=1) + "\n")


def numbers(text: str) -> list[int]:
    """Read numbers parted by commas."""
    return [int(part) for part in text.split(",")]


if __name__ == "__main__":
    main()

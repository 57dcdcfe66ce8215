"""
What fixed pieces of work take: commands, socket reads, bytes, calls, allocations. Never a time.

    python -m tests.guard [WORKLOAD ...]   a table of what they take and of the written bounds
    python -m tests.guard --all            also every command and function, per job
    python -m tests.guard --write          lower the bounds in tests/guard/budget.toml
    python -m tests.guard --raise W.M      raise the bound of measure M in workload W
    python -m tests.guard --json           for programs
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

import msgspec

from tests.guard import budget
from tests.guard.measure import Measured, measure
from tests.guard.workloads import WORKLOADS
from tests.support.servers import RedisTestServer


def main() -> None:
    """Measure, show, and write bounds if asked to."""
    asked = _arguments()
    if os.environ.get("PYTHONHASHSEED") != "0":
        # Sets are gone through in an order of this, which counts a little.
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "tests.guard", *sys.argv[1:]])
    is_writing = asked.write or asked.raised
    # The table is written as a whole.
    found = _measure(list(WORKLOADS) if is_writing else asked.workloads or list(WORKLOADS))
    if asked.json:
        print(msgspec.json.encode(found).decode())
        return
    bounds = budget.read()
    if is_writing:
        bounds = budget.renewed(bounds, found, raised=asked.raised)
        budget.BUDGET.write_text(budget.text_of(bounds, found))
    print(budget.table(bounds, found))
    if asked.all:
        _print_all(found)
    for workload, missed in budget.over(bounds, found):
        print()
        print(budget.complaint(workload, missed, bounds[workload][missed], found[workload]))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.guard",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("workloads", nargs="*", choices=[[], *WORKLOADS], metavar="WORKLOAD")
    parser.add_argument("--all", action="store_true", help="show every command and function")
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument("--write", action="store_true", help="lower the bounds")
    parser.add_argument(
        "--raise", action="append", default=[], dest="raised", metavar="W.M", help="raise a bound"
    )
    return parser.parse_args()


def _measure(workloads: list[str]) -> dict[str, Measured]:
    with tempfile.TemporaryDirectory(prefix="streamlane-") as directory:
        server = RedisTestServer(Path(directory))
        server.start()
        try:
            return {workload: measure(workload, server.url) for workload in workloads}
        finally:
            server.stop()


def _print_all(found: dict[str, Measured]) -> None:
    for workload, measured in found.items():
        for name, parts in measured.made_of.items():
            print(f"\n{workload}, {budget.MEASURES[name]} a {WORKLOADS[workload].unit}:")
            for part, count in sorted(parts.items(), key=lambda pair: (-pair[1], pair[0])):
                print(f"  {count:10.4f}  {part}")


if __name__ == "__main__":
    main()

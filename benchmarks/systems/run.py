"""
One process of a measurement: ``python -P -m benchmarks.systems.run REQUEST``.

It runs in the system's own environment, so it uses the standard library and that system alone.
"""

from __future__ import annotations

import importlib
import sys

from benchmarks.systems.base import System
from benchmarks.systems.recorder import Recorder
from benchmarks.systems.request import Request


def main() -> None:
    """Do what the request says."""
    request = Request.decode(sys.argv[1])
    # Some systems read the command line themselves.
    del sys.argv[1:]
    module = importlib.import_module(f"benchmarks.systems.{request.system}")
    if request.bare:
        module.bare(request)
        return
    system: System = module.SYSTEM(request)
    if request.role == "work":
        system.work(Recorder(request))
        return
    from benchmarks.systems.produce import produce

    system.run(produce(system, request))


if __name__ == "__main__":
    main()

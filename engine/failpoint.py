"""
Places where tests kill or stop the process.

``ENGINE_FAIL="K5@3:kill"`` ends the process with SIGKILL when it passes K5 for the third time;
``stop`` sends SIGSTOP instead. Several are parted by commas. Without the variable a failpoint is
an empty function. The places are named in ``tests/integration/test_kill_points.py``.
"""

from __future__ import annotations

import os
import re
import signal
from collections import Counter

_SPEC = re.compile(r"([A-Z]\w*)@(\d+):(kill|stop)")


def _nothing(name: str) -> None:
    """Pass the place."""


class _Armed:
    def __init__(self, spec: str) -> None:
        self._passed: Counter[str] = Counter()
        self._actions: dict[tuple[str, int], signal.Signals] = {}
        for part in spec.split(","):
            found = _SPEC.fullmatch(part.strip())
            if found is None:
                raise SystemExit(f"ENGINE_FAIL: {part!r} is not PLACE@COUNT:kill or :stop")
            action = signal.SIGKILL if found[3] == "kill" else signal.SIGSTOP
            self._actions[found[1], int(found[2])] = action

    def __call__(self, name: str) -> None:
        self._passed[name] += 1
        action = self._actions.get((name, self._passed[name]))
        if action is not None:
            os.kill(os.getpid(), action)


is_armed = bool(os.environ.get("ENGINE_FAIL"))
failpoint = _Armed(os.environ["ENGINE_FAIL"]) if is_armed else _nothing

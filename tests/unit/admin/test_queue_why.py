"""What keeps a queue from being empty, in one sentence."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from engine.admin.queue_why import queue_why
from schemas.gates import GateStats, LimitStats
from schemas.pressure import Fullness
from schemas.stats import EngineStats, HeldType, PausedBy, QueueLoad
from tests.support import page

NOW_MS = 1_000_000_000_000
IDLE = {"waiting": 0, "active": 0, "delayed": 0, "oldest_ms": 0, "lanes": {}}


def engine(*, running: int = 0, slots: int = 8, state: str = "running") -> EngineStats:
    found = page.engine()
    load = QueueLoad(running=running, buffered=0, concurrency=slots, types=["t"])
    beat = msgspec.structs.replace(found.beat, queues={"q": load}, state=state)
    return msgspec.structs.replace(found, beat=beat)


BY = PausedBy(who="ada", reason="tea", at_ms=NOW_MS - 120_000)
HELD = HeldType(type="mail", jobs=3, held=True, reason="bad key", since_ms=NOW_MS - 60_000)
LIMIT = LimitStats(name="provider", rule="5/s", parked=321)
GATES = GateStats(parked=321, by_limit=321, limits=[LIMIT])
FULL = Fullness(jobs=100, bytes=1, jobs_max=100, bytes_max=0, ratio=1.0, set_live=False)


@pytest.mark.parametrize(
    ("changes", "engines", "why"),
    [
        ({"broken": ["mq:{q}:low"]}, [engine()], "mq:{q}:low holds another type"),
        ({"paused": True, "paused_by": BY}, [engine()], "paused by ada 2 m ago (tea); 321 jobs"),
        ({}, [], "no engine serves it; 321 jobs wait, the oldest for 400 ms"),
        ({}, [engine(state="draining")], "every engine that serves it is stopping"),
        ({"fullness": FULL}, [engine()], "full (100 of 100 jobs)"),
        ({"held": [HELD]}, [engine()], "type mail is held for 1 m: bad key; 3 jobs set aside"),
        ({}, [engine(running=8), engine(running=8)], "all 16 slots of 2 engines are busy; 321"),
        ({"gates": GATES}, [engine()], "all that waits is parked behind limit provider (5/s, 321"),
        ({"gates": GateStats(blocked_keys=2)}, [engine()], "2 keys blocked by dead jobs"),
        ({}, [engine(running=2)], "2 of 8 slots busy; 321 jobs wait"),
        ({**IDLE, "active": 1}, [engine(running=1)], "1 of 8 slots busy; nothing waits"),
        ({**IDLE, "delayed": 5}, [engine()], "nothing waits; 5 jobs delayed"),
        ({**IDLE, "delayed": 5, "overdue": 1}, [engine()], "nothing runs; 1 job of the delayed"),
        ({**IDLE, "flows": 1}, [engine()], "nothing waits but 1 job for their children"),
        (IDLE, [engine()], "idle"),
    ],
)
def test_the_worst_cause_is_said(changes: Any, engines: list[EngineStats], why: str) -> None:
    assert queue_why(page.queue("q", **changes), engines, NOW_MS).startswith(why)

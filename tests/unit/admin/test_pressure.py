"""What health says of a queue that fills up."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from engine.admin.pressure import fullness_findings
from engine.core.pressure import Bounds, Level, ratio
from engine.store.operator.pressure import fullness as fullness_of
from schemas.pressure import Fullness
from schemas.stats import EngineStats, HeldType, LaneStats, QueueLoad, QueueStats
from tests.unit.admin.test_explain import engine, queue

MIB = 1_048_576


def fullness(**changed: Any) -> Fullness:
    numbers = {"jobs": 0, "jobs_max": 0, "bytes": 0, "bytes_max": 0, **changed}
    full = ratio(
        Level(numbers["jobs"], numbers["bytes"]), Bounds(numbers["jobs_max"], numbers["bytes_max"])
    )
    return Fullness(**{"set_live": True, "ratio": full, **numbers})


def filling(**changed: Any) -> QueueStats:
    lanes = {
        "normal": LaneStats(waiting=30, active=5, oldest_ms=1),
        "low": LaneStats(waiting=850, active=0, oldest_ms=1),
    }
    found = fullness(jobs=900, jobs_max=1_000, growth_jobs_s=2.0)
    recent = {"done": 870, "dead": 30}
    known: dict[str, Any] = {"lanes": lanes, "active": 5, "fullness": found, "recent": recent}
    return queue(**{**known, **changed})


def test_a_filling_queue_is_told_with_its_course_and_what_to_do() -> None:
    (found,) = fullness_findings(filling())

    assert found.message == (
        "queue q is 90% full: 900 of 1,000 jobs; about 5 jobs/s come and 3 end; "
        "most of it are 850 waiting in lane low; full in about 50 s"
    )
    assert "start more engines" in found.action
    assert "python -m engine bounds q --jobs 2000" in found.action


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"paused": True}, "python -m engine resume q; or"),
        ({"engines": []}, "start an engine"),
        ({"held": [HeldType(type="mail", jobs=800, held=True)]}, "resume q --type mail; or"),
        (
            {"fullness": fullness(bytes=90 * MIB, bytes_max=100 * MIB)},
            f"--bytes {200 * MIB}",
        ),
    ],
)
def test_the_advice_fits_the_cause(changed: dict[str, Any], said: str) -> None:
    (found,) = fullness_findings(filling(**changed))

    assert said in found.action


@pytest.mark.parametrize(
    ("growth", "said"),
    [
        ({}, "no engine says how fast it grows"),
        ({"growth_jobs_s": -1.0}, "it shrinks"),
        ({"growth_jobs_s": -9.0}, "about 0 jobs/s come and 3 end"),
    ],
)
def test_the_course_is_told_as_far_as_it_is_known(growth: dict[str, float], said: str) -> None:
    (found,) = fullness_findings(filling(fullness=fullness(jobs=9, jobs_max=10, **growth)))

    assert said in found.message


def test_growth_is_what_live_engines_saw() -> None:
    def saw(jobs_s: float | None, *, live: bool = True) -> EngineStats:
        load = QueueLoad(running=0, buffered=0, concurrency=1, types=[], growth_jobs_s=jobs_s)
        found: EngineStats = engine(live=live)
        beat = msgspec.structs.replace(found.beat, queues={"q": load})
        return msgspec.structs.replace(found, beat=beat)

    engines = [saw(2.0), saw(4.0), saw(None), saw(100.0, live=False)]
    control = {b"jobs_max": b"10", b"bytes_max_default": b"4000"}

    found = fullness_of("q", Level(5, 1_000), control, engines)

    assert (found.jobs_max, found.bytes_max, found.ratio, found.set_live) == (10, 4_000, 0.5, True)
    assert (found.growth_jobs_s, found.growth_bytes_s) == (3.0, None)
    assert fullness_of("other", Level(), {}, engines).growth_jobs_s is None

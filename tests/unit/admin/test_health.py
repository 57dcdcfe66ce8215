"""What health thinks of a server, an engine and a queue."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from engine.admin.health import engine_findings, queue_findings, server_findings, state_of
from engine.cli.queues import worse
from schemas.gates import GateStats
from schemas.stats import Finding, HeldType, Server
from tests.unit.admin.test_explain import engine, queue
from tests.unit.admin.test_pressure import fullness

MIB = 1_048_576
SERVER = Server(
    version="valkey 9.1.2",
    time_ms=0,
    memory_bytes=10 * MIB,
    memory_bytes_max=0,
    eviction="noeviction",
    aof=True,
    role="master",
)


def told(findings: list[Finding]) -> list[tuple[str, str]]:
    assert all(finding.action for finding in findings)
    return [(finding.check, finding.severity) for finding in findings]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, []),
        ({"version": "redis 6.2.14"}, []),
        ({"version": "redis 6.0.16"}, [("version", "error")]),
        ({"version": "valkey 7.2.4"}, [("version", "error")]),
        ({"version": "redis ?"}, []),
        ({"memory_bytes_max": 20 * MIB}, []),
        ({"memory_bytes_max": 11 * MIB}, [("memory", "warning")]),
        ({"memory_bytes_max": 10 * MIB}, [("memory", "error")]),
        ({"memory_bytes_max": 90 * MIB, "eviction": "allkeys-lru"}, [("eviction", "error")]),
        ({"eviction": "allkeys-lru"}, []),
        ({"aof": False}, [("persistence", "warning")]),
    ],
)
def test_a_server_is_judged(changed: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert told(server_findings(msgspec.structs.replace(SERVER, **changed))) == expected


@pytest.mark.parametrize(
    ("changed", "must", "expected"),
    [
        ({}, True, []),
        ({"engines": []}, True, [("served", "error")]),
        ({"engines": []}, False, []),
        ({"oldest_ms": 60_001}, True, [("backlog", "error")]),
        ({"oldest_ms": 60_001, "paused": True}, True, [("paused", "warning")]),
        ({"held": [HeldType(type="a", jobs=1, held=True)]}, True, [("held", "error")]),
        ({"held": [HeldType(type="a", jobs=1, held=False)]}, True, []),
        ({"recent": {"dead": 2}}, True, [("dead", "warning")]),
        ({"recent": {"dead": 0, "cancelled": 9}}, True, []),
        ({"gates": GateStats(blocked_keys=1)}, True, [("blocked", "warning")]),
        ({"gates": GateStats(parked=9, on_dead="block")}, True, []),
        ({"broken": ["mq:{q}:low"]}, True, [("keys", "error")]),
        ({"fullness": fullness(jobs=79, jobs_max=100)}, True, []),
        ({"fullness": fullness(jobs=80, jobs_max=100)}, True, [("filling", "warning")]),
        ({"fullness": fullness(jobs=100, jobs_max=100)}, True, [("full", "error")]),
        ({"fullness": fullness(jobs=10_000)}, True, []),
    ],
)
def test_a_queue_is_judged(
    changed: dict[str, Any], must: bool, expected: list[tuple[str, str]]
) -> None:
    findings = queue_findings(queue(**changed), must=must, backlog_age_ms_max=60_000)

    assert told(findings) == expected


def test_an_engine_is_judged() -> None:
    lagging = msgspec.structs.replace(engine().beat, loop_lag_ms=1_500.0)

    assert engine_findings(engine()) == []
    assert told(engine_findings(engine(live=False))) == [("engine", "warning")]
    late = msgspec.structs.replace(engine(), beat=lagging)
    assert told(engine_findings(late)) == [("engine", "warning")]


HELD_TYPE = HeldType(type="a", jobs=1, held=True)


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({}, "well"),
        ({"recent": {"dead": 1}}, "jobs die"),
        ({"recent": {"dead": 1}, "gates": GateStats(blocked_keys=1)}, "keys blocked"),
        ({"recent": {"dead": 1}, "paused": True, "oldest_ms": 60_001}, "paused"),
        ({"recent": {"dead": 1}, "oldest_ms": 60_001}, "behind"),
        ({"fullness": fullness(jobs=9, jobs_max=9), "oldest_ms": 60_001}, "full"),
        ({"fullness": fullness(jobs=8, jobs_max=9), "recent": {"dead": 1}}, "filling up"),
        ({"held": [HELD_TYPE], "paused": True}, "held type"),
        ({"held": [HELD_TYPE], "broken": ["mq:{q}:dead"]}, "broken key"),
        ({"engines": [], "paused": True, "held": [HELD_TYPE]}, "no engine"),
    ],
)
def test_the_worst_that_was_found_names_a_queues_state(changed: dict[str, Any], word: str) -> None:
    """Goal: the page and the command line say the same of a queue, by the same precedence."""
    stats = queue(**changed)
    findings = queue_findings(stats, must=True, backlog_age_ms_max=60_000)
    elsewhere = queue_findings(
        msgspec.structs.replace(stats, queue="else", engines=[]), must=True, backlog_age_ms_max=1
    )

    assert state_of("q", [*elsewhere, *findings]).word == word
    assert worse(stats, 60_000)[0] == state_of("q", findings).rank

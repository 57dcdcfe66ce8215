"""
Engines are killed with SIGKILL at every step of a flow over two queues; others finish it.

========  ==================================================================
place     where
========  ==================================================================
F1a, b    before and after the settlement that opens a flow
F2        a flow was taken, none of its children is sent
F3        children were sent, and the flow does not know of it
F4        the flow knows that they were sent
F5        messages of children that ended were read
F6        their parents' flow knows of them, and they are not forgotten
F7        children of a failed flow were cancelled, and the flow is still there
========  ==================================================================
"""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

import pytest

from engine.wire.done import decode_done
from engine.wire.keys import QueueKeys
from tests.support.daemon import SHORT_LEASES, Start
from tests.support.flow_app import QUEUES
from tests.support.servers import RedisTestServer
from tests.support.waiting import eventually

pytestmark = pytest.mark.servers

APP = "tests.support.flow_app:build"
NEAR, FAR = map(QueueKeys, QUEUES)
TREE = [
    {"queue": "far", "type": "far-work"},
    {"type": "near-work", "results": True, "children": [{"queue": "far", "type": "far-work"}]},
    {"queue": "far", "type": "far-work", "data": {"fails": True}, "onFailure": "ignore"},
]


def send(server: RedisTestServer, job_id: str, children: Any) -> None:
    fields = ("type", "near-work", "data", "{}", "id", job_id, "results", "1")
    tree = json.dumps(children)
    server.call("XADD", NEAR.lane("normal"), "*", *fields, "children", tree)


def ends(server: RedisTestServer, keys: QueueKeys) -> list[tuple[str, bytes]]:
    """Every recorded end of a queue: done ones with their results, dead ones with their reason."""
    client: Any = server.client(protocol=2)
    client.response_callbacks.clear()
    with client:
        done = client.execute_command("XRANGE", keys.done, "-", "+")
        dead = client.execute_command("XRANGE", keys.dead, "-", "+")
    found = [(job.id, job.result) for entry, row in done for job in decode_done(entry, row)]
    records = [json.loads(row[1]) for _, row in dead]
    return found + [(record["id"], record["reason"].encode()) for record in records]


def left(server: RedisTestServer) -> dict[str, int]:
    """What flows and lanes still hold."""
    found: dict[str, int] = {}
    for keys in (NEAR, FAR):
        found |= {key: int(server.call("XLEN", key)) for key in keys.lanes.values()}
        found |= {key: int(server.call("ZCARD", key)) for key in (keys.flows, keys.flows_todo)}
        found |= {keys.flow_ends: int(server.call("XLEN", keys.flow_ends))}
        found |= {keys.flow_sent: int(server.call("HLEN", keys.flow_sent))}
        found |= {keys.delayed: int(server.call("ZCARD", keys.delayed))}
    return {key: count for key, count in found.items() if count}


def is_over(server: RedisTestServer) -> bool:
    found = left(server)
    assert not found, found
    return True


@pytest.mark.parametrize(
    "place",
    [
        pytest.param("F1a", marks=pytest.mark.full),
        pytest.param("F1b", marks=pytest.mark.full),
        pytest.param("F2", marks=pytest.mark.full),
        "F3",
        pytest.param("F4", marks=pytest.mark.full),
        pytest.param("F5", marks=pytest.mark.full),
        "F6",
    ],
)
async def test_a_parent_finishes_wherever_an_engine_dies(
    redis_server: RedisTestServer, start_daemon: Start, place: str
) -> None:
    environ = {**SHORT_LEASES, "ENGINE_FAIL": f"{place}@1:kill"}
    first = start_daemon(redis_server.url, app=APP, environ=environ)
    send(redis_server, "p", TREE)
    assert await eventually(first.has_ended, "killed")
    assert first.wait() == -9

    start_daemon(redis_server.url, app=APP, environ=SHORT_LEASES)
    await eventually(lambda: dict(ends(redis_server, NEAR)).get("p"), "the parent has ended")
    await eventually(lambda: is_over(redis_server), "nothing is left")

    near, far = ends(redis_server, NEAR), ends(redis_server, FAR)
    assert sorted(job_id for job_id, _ in near) == ["p", "p.1"]
    assert sorted(job_id for job_id, _ in far) == ["p.0", "p.1.0", "p.2"]
    inner = {"total": 1, "done": 1, "ignored": 0, "results": ["p.1.0"]}
    told = {"total": 3, "done": 2, "ignored": 1, "results": ["p.0", inner, None]}
    assert json.loads(dict(near)["p"]) == told


@pytest.mark.full
async def test_children_of_a_failed_flow_are_called_back_wherever_an_engine_dies(
    redis_server: RedisTestServer, start_daemon: Start
) -> None:
    environ = {**SHORT_LEASES, "ENGINE_FAIL": "F7@1:kill"}
    first = start_daemon(redis_server.url, app=APP, environ=environ)
    waits = {"queue": "far", "type": "far-work", "delay": 600_000}
    send(redis_server, "p", [{"type": "near-work", "data": {"fails": True}}, waits])
    assert await eventually(first.has_ended, "killed")

    start_daemon(redis_server.url, app=APP, environ=SHORT_LEASES)
    await eventually(lambda: is_over(redis_server) and ends(redis_server, FAR), "all have ended")

    assert dict(ends(redis_server, NEAR)) == {"p.0": b"exhausted", "p": b"child-failed"}
    assert ends(redis_server, FAR) == [("p.1", b"cancelled")]


@pytest.mark.full
async def test_flows_finish_under_engines_that_are_killed_at_random(
    redis_server: RedisTestServer, start_daemon: Start
) -> None:
    """
    Goal: no job of any tree ends twice, each root ends, and nothing is left behind.

    Method: trees of chance over two queues, while three engines are killed and replaced.
    """
    chance = random.Random(7)
    engines = [start_daemon(redis_server.url, app=APP, environ=SHORT_LEASES) for _ in range(3)]
    roots: list[str] = []
    for _ in range(12):
        for _ in range(10):
            roots.append(f"t{len(roots)}")
            send(redis_server, roots[-1], draw_tree(chance, 1))
        at = chance.randrange(3)
        await eventually(engines[at].is_ready, "an engine is up")
        engines[at].kill9()
        engines[at] = start_daemon(redis_server.url, app=APP, environ=SHORT_LEASES)

    await eventually(lambda: is_over(redis_server), "nothing is left", limit_s=60)

    counts = Counter(name for keys in (NEAR, FAR) for name, _ in ends(redis_server, keys))
    assert {name for name, count in counts.items() if count > 1} == set()
    assert set(roots) <= counts.keys()
    for keys in (NEAR, FAR):
        assert int(redis_server.call("HLEN", keys.cancelled)) == 0


def draw_tree(chance: random.Random, depth: int) -> list[dict[str, Any]]:
    specs = []
    for _ in range(chance.choice([1, 2, 4])):
        queue = chance.choice(QUEUES)
        spec: dict[str, Any] = {"queue": queue, "type": f"{queue}-work"}
        spec["onFailure"] = chance.choice(["ignore", "ignore", "fail", "continue"])
        spec["data"] = {"sleep_s": chance.choice([0, 0.05]), "fails": chance.random() < 0.1}
        if depth < 3 and chance.random() < 0.4:
            spec["children"] = draw_tree(chance, depth + 1)
        specs.append(spec)
    return specs

"""What a daemon shows of itself, and what no handler can do to it."""

from __future__ import annotations

import json
import urllib.request
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from engine.wire.keys import QueueKeys
from tests.support.daemon import Daemon, Start
from tests.support.engines import Server
from tests.support.probe_app import QUEUE
from tests.support.servers import RedisTestServer
from tests.support.waiting import eventually

APP = "tests.support.probe_app:build"
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
CANARY = "canary-6c1f"
NAMES = {
    "engine_jobs_total": {"queue", "type", "outcome"},
    "engine_job_run_seconds_bucket": {"queue", "type", "le"},
    "engine_job_run_seconds_count": {"queue", "type"},
    "engine_job_run_seconds_sum": {"queue", "type"},
    "engine_job_wait_seconds_bucket": {"queue", "lane", "le"},
    "engine_queue_waiting": {"queue", "lane"},
    "engine_queue_active": {"queue"},
    "engine_queue_delayed": {"queue"},
    "engine_queue_dead": {"queue"},
    "engine_queue_oldest_seconds": {"queue"},
    "engine_queue_paused": {"queue"},
    "engine_inflight": {"queue"},
    "engine_loop_lag_seconds": set(),
    "engine_reclaimed_total": {"queue"},
    "engine_leases_lost_total": {"queue"},
    "engine_promoted_total": {"queue"},
    "engine_redis_errors_total": {"kind"},
    "engine_info": {"version"},
}


def _get(daemon: Daemon, path: str, accept: str = "*/*") -> tuple[str, str]:
    url = f"http://127.0.0.1:{daemon.port}{path}"
    request = urllib.request.Request(url, headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.read().decode(), answer.headers["Content-Type"]


def _samples(text: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    found = defaultdict(list)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name].append((sample.labels, sample.value))
    return found


def _task(**task: str) -> list[Any]:
    return ["type", "probe", "data", msgspec.json.encode(task)]


@asynccontextmanager
async def _started(start: Start, url: str, **environ: str) -> AsyncIterator[tuple[Daemon, Server]]:
    daemon = start(url, app=APP, environ=environ)
    await eventually(daemon.is_ready, "the engine is ready")
    async with Server(url, QueueKeys(QUEUE)) as server:
        yield daemon, server


async def test_metrics_have_every_name_and_bounded_labels(
    start_daemon: Start, redis_url: str
) -> None:
    async with _started(start_daemon, redis_url) as (daemon, server):
        before, _ = _get(daemon, "/metrics")
        names = {name: set(rows[0][0]) for name, rows in _samples(before).items()}
        assert {name: names.get(name) for name in NAMES} == NAMES

        for do in ("return", "raise", "retry", "snooze", "cancel", "hang"):
            await server.add(*_task(do=do))
        await server.until_ended(6)
        strange = [
            ("type", f"t{number}-{number * 7919 % 10_007}", "data", "{}")
            for number in range(10_000)
        ]
        await server.add_many(strange)
        await server.until_ended(10_006)

        after, _ = _get(daemon, "/metrics")
        assert {name: len(rows) for name, rows in _samples(before).items()} == {
            name: len(rows) for name, rows in _samples(after).items()
        }
        counts = {
            (labels["type"], labels["outcome"]): value
            for labels, value in _samples(after)["engine_jobs_total"]
        }
        # done: return, retry, snooze. dead: raise, cancel, hang. retried: raise, retry, hang.
        assert {outcome: counts["probe", outcome] for outcome in ("done", "dead", "retried")} == {
            "done": 3,
            "dead": 3,
            "retried": 3,
        }
        assert counts["probe", "snoozed"] == 1
        assert counts["other", "dead"] == 10_000
        runs = {labels["type"]: n for labels, n in _samples(after)["engine_job_run_seconds_count"]}
        assert runs["probe"] == 10
        assert runs["other"] == 0

        text, kind = _get(daemon, "/metrics", "application/openmetrics-text; version=1.0.0")
        assert "openmetrics" in kind
        assert list(openmetrics.text_string_to_metric_families(text))
        assert text.endswith("# EOF\n")


async def test_probes_and_discovery_tell_the_truth(
    start_daemon: Start, redis_server: RedisTestServer
) -> None:
    async with _started(start_daemon, redis_server.url) as (one, _):
        two = start_daemon(redis_server.url, app=APP)
        await eventually(two.is_ready, "the second engine is ready")

        assert json.loads(_get(one, "/live")[0])["live"]
        targets = {target for row in json.loads(_get(one, "/sd")[0]) for target in row["targets"]}
        assert targets == {f"127.0.0.1:{one.port}", f"127.0.0.1:{two.port}"}

        redis_server.pause()
        await eventually(lambda: one.is_unready("redis"), "the engine is not ready")
        assert json.loads(_get(one, "/live")[0])["live"]
        redis_server.cont()
        await eventually(one.is_ready, "the engine is ready again")

        assert two.stop() == 0
        await eventually(
            lambda: len(json.loads(_get(one, "/sd")[0])) == 1, "a stopped engine is off the list"
        )


async def test_logs_name_jobs_and_never_show_payloads(start_daemon: Start, redis_url: str) -> None:
    async with _started(start_daemon, redis_url, ENGINE_LOG_LEVEL="debug") as (daemon, server):
        trace = f"00-{TRACE_ID}-b7ad6b7169203331-01"
        for do in ("return", "raise", "retry", "snooze", "cancel", "hang", CANARY):
            await server.add(*_task(do=do, secret=CANARY), "traceparent", trace, "note", CANARY)
        await server.add("type", "probe", "data", f'{{"do": 5, "secret": "{CANARY}"}}')
        await server.add("type", "probe", "data", f'{{"{CANARY}": 1}}')
        await server.add("type", CANARY * 20, "data", f"{{{CANARY}")
        await server.until_ended(10)
        assert daemon.stop() == 0

        text = daemon.log.read_text()
        lines = [json.loads(line) for line in text.splitlines()]
        dead = next(
            line for line in lines if line["event"] == "job_dead" and "user" in line["error"]
        )
        assert dead["trace_id"] == TRACE_ID
        assert (dead["type"], dead["attempt"], dead["queue"]) == ("probe", 2, QUEUE)
        assert dead["job_id"].startswith("n-")
        assert any(line["event"] == "job_retried" for line in lines)
        assert CANARY not in text


@pytest.mark.parametrize("do", ["child-exits", "orphan-exits"])
async def test_a_task_of_a_handler_that_exits_does_not_end_the_engine(
    start_daemon: Start, redis_url: str, do: str
) -> None:
    async with _started(start_daemon, redis_url) as (daemon, server):
        await server.add_many([_task(do=do)] * 3)
        await server.until_ended(3)
        fine = await server.add(*_task())
        await server.until_ended(4)

        assert f"n-{fine}" in await server.done()
        assert not daemon.has_ended()
        assert daemon.stop() == 0

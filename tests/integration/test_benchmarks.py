"""The benchmarks measure: small workloads, from the session to the file of results."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from benchmarks.suite import results
from benchmarks.suite.bench import Bench
from benchmarks.suite.catalog import ENTRIES, Entry
from benchmarks.suite.cores import Cores
from benchmarks.suite.environments import Environments
from benchmarks.suite.results import Document, begun
from benchmarks.suite.session import Session
from benchmarks.suite.workloads import WORKLOADS
from benchmarks.systems.payloads import SMALL_BYTES, Commands, payload
from benchmarks.systems.streamlane import QUEUE, TYPE
from engine import Client
from engine.wire.keys import QueueKeys
from tests.support.servers import RedisTestServer

pytestmark = pytest.mark.servers

JOBS = 2_000
TINY = {
    name: msgspec.structs.replace(ENTRIES[name], pilot_jobs=JOBS)
    for name in ("raw", "raw_task", "streamlane")
}


def measured(tmp_path: Path, entries: list[Entry], workload: str) -> tuple[Document, list[str]]:
    """Measure for as short as can be, on any core; returns the document and what was said."""
    said: list[str] = []
    environments = Environments(tmp_path / "environments", said.append)
    bench = Bench(environments=environments, cores=Cores(), seconds=0.05)
    path = tmp_path / "out.json"
    session = Session(bench, begun("test", {}), path, said.append)

    session.run(entries, [WORKLOADS[workload]], runs=1)

    return results.read(path), said


def test_a_backlog_is_worked_off_and_each_figure_is_there(tmp_path: Path) -> None:
    document, _ = measured(tmp_path, [TINY["raw"], TINY["streamlane"]], "w1")

    found = document.results["w1"]
    for name in ("raw", "streamlane"):
        (run,) = found[name]
        assert run["jobs"] >= JOBS
        assert run["jobs_per_s"] > 0
        # A job waits in memory and goes over the network.
        assert run["bytes_out"] > SMALL_BYTES
        assert run["queued_bytes"] > SMALL_BYTES
        assert 0 < run["commands"] < 10
        assert run["peak_rss_mib"] > 1
        assert run["others"] >= 0
    assert document.versions["server"].startswith("Valkey")
    assert document.systems["raw"]["hiredis"]


def test_latency_is_taken_of_each_job_after_the_first_ones(tmp_path: Path) -> None:
    document, _ = measured(tmp_path, [TINY["raw"], TINY["streamlane"]], "w4")

    for name in ("raw", "streamlane"):
        (run,) = document.results["w4"][name]
        assert 0 < run["p50_ms"] <= run["p99_ms"] <= run["max_ms"]


def test_every_job_fails_once_and_comes_again(tmp_path: Path) -> None:
    document, _ = measured(tmp_path, [TINY["raw"], TINY["streamlane"]], "w5")

    assert {name: len(runs) for name, runs in document.results["w5"].items()} == {
        "raw": 1,
        "streamlane": 1,
    }


def test_a_system_that_cannot_be_had_is_told_of_and_the_rest_goes_on(tmp_path: Path) -> None:
    broken = Entry(name="broken", tells="has no module", pilot_jobs=10)

    document, said = measured(tmp_path, [broken, TINY["raw_task"]], "w1")

    assert (
        "No module named 'benchmarks.systems.broken'" in document.results["w1"]["broken"]["error"]
    )
    assert len(document.results["w1"]["raw_task"]) == 1
    assert any("broken" in line and "failed" in line for line in said)


async def test_bare_entries_are_what_the_client_writes(redis_server: RedisTestServer) -> None:
    lane = QueueKeys(QUEUE).lane("normal")
    async with Client(redis_server.url, queues={TYPE: QUEUE}) as client:
        await client.enqueue(TYPE, payload(7))
    with redis_server.client() as connection:
        (told,) = connection.xrange(lane)
        redis_server.call(*words(Commands([lane], [(TYPE, SMALL_BYTES)]).of(range(7, 8))))
        _, bare = connection.xrange(lane)

    assert bare[1] == told[1]


def words(command: bytes) -> list[bytes]:
    """Read one command as the server does."""
    return command.split(b"\r\n")[2::2]

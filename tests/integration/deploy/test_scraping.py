"""A real Prometheus finds a real engine by ``/sd`` and knows what it did."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.support.daemon import Start
from tests.support.grafana import BOARDS, expressions, filled
from tests.support.ledger import send
from tests.support.prometheus import Prometheus, program, prometheus
from tests.support.promql import DEPLOY
from tests.support.servers import RedisTestServer
from tests.support.waiting import eventually

pytestmark = pytest.mark.servers

TOKEN = "a-token-that-may-scrape-alone"
DONE = 'engine_jobs_total{queue="ledger", type="quick", outcome="done"}'


async def test_prometheus_finds_an_engine_counts_its_jobs_and_misses_it_when_it_dies(
    tmp_path: Path, start_daemon: Start, shared_redis: RedisTestServer, redis_url: str
) -> None:
    program("prometheus")
    daemon = start_daemon(
        redis_url,
        environ={"ENGINE_HTTP_TOKENS": f"prometheus=metrics:{TOKEN}", "ENGINE_NAME": "eng-1"},
    )
    with prometheus(tmp_path, sd=f"127.0.0.1:{daemon.port}", token=TOKEN) as server:
        for number in range(3):
            send(shared_redis, "quick", f"q{number}")
        send(shared_redis, "failing", "f")

        (found,) = await eventually(lambda: counted(server, DONE, 3), "three jobs done")
        assert {name: found[name] for name in ("engine", "job", "instance")} == {
            "engine": "eng-1",
            "job": "streamlane",
            "instance": f"127.0.0.1:{daemon.port}",
        }
        assert found["host"]
        assert found["version"]
        await eventually(
            lambda: counted(server, 'engine_jobs_total{type="failing", outcome="dead"}', 1), "dead"
        )
        await eventually(lambda: counted(server, "streamlane:engines:count", 1), "recorded rules")
        rules = await eventually(lambda: all_evaluated(server), "rules evaluated")
        assert {rule["lastError"] for rule in rules if "lastError" in rule} == set()
        assert len(rules) == len(written_rules())
        assert "firing" not in {rule.get("state") for rule in rules}

        for board in BOARDS.values():
            for expression in expressions(board):
                # Whatever it finds: what cannot be evaluated raises.
                server.query(filled(expression, "ledger"))

        daemon.kill9()
        await eventually(lambda: alert(server, "StreamlaneNoEngine") == "pending", "no engine")


def counted(server: Prometheus, expression: str, wanted: float) -> list[dict[str, str]]:
    """Return the labels of what an expression finds, once it has that value."""
    return [labels for labels, value in server.query(expression) if value == wanted]


def all_evaluated(server: Prometheus) -> list[dict[str, str]]:
    """Return all rules, once each was evaluated."""
    rules = server.rules()
    assert all(rule["health"] != "unknown" for rule in rules)
    return rules


def alert(server: Prometheus, name: str) -> str:
    """Return the state of an alert."""
    return next(rule["state"] for rule in server.rules() if rule["name"] == name)


def written_rules() -> list[object]:
    """List the rules that stand in the files."""
    files = (DEPLOY / "prometheus" / "rules").glob("*.yml")
    groups = [group for file in files for group in yaml.safe_load(file.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"]]

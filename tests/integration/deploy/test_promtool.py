"""Prometheus' own tool reads the configuration and the rules, and plays their cases."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from engine.telemetry import EngineCollector, Meters, QueueMeter
from schemas.rules import LANES
from tests.support.prometheus import promtool
from tests.support.promql import PROMETHEUS

CASES = sorted(path.name for path in (PROMETHEUS / "tests").glob("*.yml"))


def test_the_rules_are_well_formed() -> None:
    promtool("check", "rules", "--lint-fatal", "rules/recording.yml", "rules/alerts.yml")


def test_the_configuration_is_well_formed(tmp_path: Path) -> None:
    copy = shutil.copytree(PROMETHEUS, tmp_path / "prometheus")
    (copy / "streamlane.token").write_text("0123456789abcdef")

    said = promtool("check", "config", "prometheus.yml", directory=copy)

    assert "2 rule files found" in said


@pytest.mark.parametrize("case", CASES)
def test_the_alerts_fire_when_they_should_and_not_else(case: str) -> None:
    promtool("test", "rules", f"tests/{case}")


def test_promtool_finds_no_fault_in_the_names_of_metrics() -> None:
    meters = Meters(["connection"])
    meters.queues["q"] = QueueMeter(["t"], LANES)
    registry = CollectorRegistry()
    registry.register(EngineCollector(meters, "0.1.0"))

    promtool("check", "metrics", given=generate_latest(registry))

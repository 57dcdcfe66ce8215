"""The dashboards of Grafana, and what they ask Prometheus for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from tests.support.promql import DEPLOY

GRAFANA = DEPLOY / "grafana"
BOARDS: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text())
    for path in sorted((GRAFANA / "dashboards").glob("*.json"))
}


def panels(board: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the panels that show something."""
    return (panel for panel in board["panels"] if panel["type"] != "row")


def expressions(board: dict[str, Any]) -> Iterator[str]:
    """Yield all PromQL of a dashboard."""
    for panel in panels(board):
        yield from (target["expr"] for target in panel["targets"])
    yield from (each["expr"] for each in board["annotations"]["list"] if "expr" in each)


def filled(expression: str, value: str = "x") -> str:
    """Put values where Grafana does."""
    return re.sub(r"\$\w+", value, expression.replace("$__rate_interval", "1m"))

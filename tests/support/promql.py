"""Which metrics there are, and which labels an expression over them can rely on."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import promql_parser as promql
import yaml

from engine.telemetry import EngineCollector, Meters, QueueMeter, Sizes
from schemas.rules import LANES

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
PROMETHEUS = DEPLOY / "prometheus"

TARGET = frozenset({"job", "instance", "engine", "host", "version"})
"""Labels that the scrape configuration gives to everything an engine tells."""

PROCESS = (
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_open_fds",
    "process_max_fds",
    "process_start_time_seconds",
)
"""What prometheus_client tells of a process, on Linux."""

_KEEPING = {"topk", "bottomk"}
_LABELLESS = {"time", "vector", "scalar", "absent"}

Known = Mapping[str, frozenset[str]]


class Unknown(Exception):
    """An expression that asks for what nobody tells."""


@functools.cache
def engine_metrics() -> dict[str, frozenset[str]]:
    """List every series that an engine tells, with its labels, as Prometheus stores it."""
    meters = Meters(["connection"])
    meters.queues["q"] = QueueMeter(["t"], LANES)
    meters.queues["q"].types["t"].batches = Sizes()
    found: dict[str, frozenset[str]] = {"up": TARGET}
    for family in EngineCollector(meters, "0.1.0").collect():
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, TARGET) | frozenset(sample.labels)
    return found


@functools.cache
def all_rules() -> list[dict[str, Any]]:
    """List every rule, in the order in which the files and groups have them."""
    return [
        rule
        for file in ("recording.yml", "alerts.yml")
        for group in yaml.safe_load((PROMETHEUS / "rules" / file).read_text())["groups"]
        for rule in group["rules"]
    ]


@functools.cache
def known_metrics() -> dict[str, frozenset[str]]:
    """
    List every series that may be asked for: what engines tell and what rules record.

    Raises:
        Unknown: A rule asks for what is not there before it.
    """
    known = dict(engine_metrics())
    for rule in all_rules():
        if "record" in rule:
            known[rule["record"]] = labels_of(rule["expr"], known)
    return known


@functools.cache
def dashboard_metrics() -> dict[str, frozenset[str]]:
    """List what dashboards may ask for: processes and alerts, too."""
    processes = dict.fromkeys(PROCESS, TARGET)
    named = (rule for rule in all_rules() if "alert" in rule)
    known = known_metrics()
    carried = (labels_of(rule["expr"], known) for rule in named)
    own = frozenset({"alertname", "alertstate", "severity"})
    return {**known, **processes, "ALERTS": own.union(*carried)}


def labels_of(expression: str, known: Known) -> frozenset[str]:
    """
    Say which labels the answer to an expression has.

    Raises:
        Unknown: It names a metric or a label that is not there, or it is no PromQL.
    """
    try:
        parsed = promql.parse(expression)
    except ValueError as error:
        raise Unknown(f"{expression!r} is no PromQL: {error}") from None
    return _labels(parsed, known)


def _labels(node: Any, known: Known) -> frozenset[str]:
    match node:
        case promql.VectorSelector():
            return _selected(node, known)
        case promql.MatrixSelector():
            return _selected(node.vector_selector, known)
        case promql.AggregateExpr():
            return _aggregated(node, known)
        case promql.BinaryExpr():
            return _joined(node, known)
        case promql.Call():
            found = frozenset[str]().union(*(_labels(each, known) for each in node.args))
            if node.func.name == "histogram_quantile":
                _must("le", found, node)
                return found - {"le"}
            return frozenset() if node.func.name in _LABELLESS else found
        case promql.ParenExpr() | promql.UnaryExpr() | promql.SubqueryExpr():
            return _labels(node.expr, known)
        case promql.NumberLiteral() | promql.StringLiteral():
            return frozenset()
    raise Unknown(f"{type(node).__name__} is not understood")


def _selected(node: promql.VectorSelector, known: Known) -> frozenset[str]:
    name = node.name or ""
    if name not in known:
        raise Unknown(f"there is no metric {name!r}")
    for matcher in node.matchers.matchers:
        _must(matcher.name, known[name], node)
    return known[name]


def _aggregated(node: promql.AggregateExpr, known: Known) -> frozenset[str]:
    inner = _labels(node.expr, known)
    if node.modifier is None:
        return inner if str(node.op) in _KEEPING else frozenset()
    named = frozenset(node.modifier.labels)
    for label in named:
        _must(label, inner, node)
    if str(node.op) in _KEEPING:
        return inner
    return inner - named if "without" in str(node.modifier.type).lower() else named


def _joined(node: promql.BinaryExpr, known: Known) -> frozenset[str]:
    left, right = _labels(node.lhs, known), _labels(node.rhs, known)
    word = str(node.op)
    if node.modifier is not None and node.modifier.matching is not None:
        for label in node.modifier.matching.labels:
            _must(label, left, node)
            _must(label, right, node)
    if isinstance(node.lhs, promql.NumberLiteral) or _is_time(node.lhs):
        return right
    return left | right if word == "or" else left


def _is_time(node: Any) -> bool:
    return isinstance(node, promql.Call) and node.func.name == "time"


def _must(label: str, labels: frozenset[str], node: Any) -> None:
    if label not in labels:
        raise Unknown(f"there is no label {label!r} in {node.prettify()}, but {sorted(labels)}")


def inline_expressions(document: str) -> Iterator[str]:
    """Yield what stands as PromQL in the running text of a document."""
    for code in re.findall(r"`([^`\n]+)`", document):
        if re.search(r"\bengine_[a-z_]+|\w:\w+:\w|\bup\{", code) and " -m " not in code:
            yield code

"""Alerts, their runbook and their cases belong together, and ask only for what engines tell."""

from __future__ import annotations

import re
import shlex
from typing import Any

import click
import promql_parser
import pytest
import yaml

from engine.cli import main
from engine.dashboard.server import PAGES
from tests.support.promql import (
    DEPLOY,
    PROMETHEUS,
    Unknown,
    all_rules,
    engine_metrics,
    inline_expressions,
    known_metrics,
    labels_of,
)
from tests.tidy.test_readme import DOCUMENTS

ALERTS = [rule for rule in all_rules() if "alert" in rule]
NAMES = sorted({rule["alert"] for rule in ALERTS})
RUNBOOK = (DEPLOY / "RUNBOOK.md").read_text()
PARTS = ("Symptom.", "What it means.", "Check.", "Action.", "Over when")
CASES = [
    case
    for file in sorted((PROMETHEUS / "tests").glob("*.yml"))
    for case in yaml.safe_load(file.read_text())["tests"]
]
EACH_RULE = pytest.mark.parametrize(
    "rule", ALERTS, ids=[f"{each['alert']}-{each['labels']['severity']}" for each in ALERTS]
)


def sections() -> dict[str, str]:
    """Split the runbook by its headings."""
    found = re.split(r"^## +(.+)$", RUNBOOK, flags=re.MULTILINE)
    return dict(zip(found[1::2], found[2::2], strict=True))


def test_each_alert_has_its_section_and_each_section_its_alert() -> None:
    assert sorted(sections()) == NAMES


def test_links_of_the_runbook_are_checked_with_those_of_other_documents() -> None:
    assert DEPLOY / "RUNBOOK.md" in DOCUMENTS


@pytest.mark.parametrize("typed", sorted(set(re.findall(r"`python -m engine ([^`]+)`", RUNBOOK))))
def test_a_command_of_the_runbook_can_be_typed_as_it_stands(typed: str) -> None:
    words = shlex.split(typed)
    command: click.Command = main
    context = click.Context(main)
    while isinstance(command, click.Group):
        name, found, words = command.resolve_command(context, words)
        assert found is not None
        command, context = found, click.Context(found, parent=context, info_name=name)
    # Raises where an argument is missing, or an option is unknown or out of range.
    command.parse_args(context, words)


def test_every_command_of_the_runbook_stands_on_one_line() -> None:
    assert RUNBOOK.count("python -m engine") == len(
        re.findall(r"`python -m engine [^`\n]+`", RUNBOOK)
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_section_says_what_to_look_at_and_what_to_do(name: str) -> None:
    section = sections()[name]
    places = [section.find(f"**{part}") for part in PARTS]

    assert -1 not in places, dict(zip(PARTS, places, strict=True))
    assert places == sorted(places)
    assert "`" in section[places[2] : places[3]], "nothing to type under Check"


@EACH_RULE
def test_an_alert_says_how_bad_it_is_and_where_to_read_on(rule: dict[str, Any]) -> None:
    notes = rule["annotations"]
    has = labels_of(rule["expr"], known_metrics())

    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert notes["runbook_url"] == f"deploy/RUNBOOK.md#{rule['alert'].lower()}"
    page = re.sub(r"\{\{ \$labels\.\w+ \}\}", "x", notes["page"]).partition("?")[0]
    assert any(re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", each), page) for each in PAGES)
    used = {label for text in notes.values() for label in re.findall(r"\$labels\.(\w+)", text)}
    assert used <= has, "what no series of the alert carries"
    if "queue" in has:
        assert "{{ $labels.queue }}" in notes["description"]


@EACH_RULE
def test_an_alert_has_cases_in_which_it_fires_and_in_which_it_does_not(
    rule: dict[str, Any],
) -> None:
    name, severity = rule["alert"], rule["labels"]["severity"]
    asked = [each for case in CASES for each in case.get("promql_expr_test", ())]
    about = [each for each in asked if covers(each["expr"], name)]
    fired = {
        label
        for each in about
        for sample in each["exp_samples"]
        if f'alertname="{name}"' in (label := sample["labels"])
        and 'alertstate="firing"' in label
        and f'severity="{severity}"' in label
    }

    assert fired, "no case in which it fires"
    assert any(not each["exp_samples"] for each in about), "no case in which it does not"


def covers(expression: str, name: str) -> bool:
    """Tell whether a case asks for the state of an alert."""
    asked = re.search(r'^ALERTS\{alertname=~?"([^"]+)"', expression)
    return bool(asked and re.fullmatch(asked[1], name))


@pytest.mark.parametrize(
    "rule", all_rules(), ids=lambda rule: rule.get("record", rule.get("alert"))
)
def test_a_rule_asks_only_for_metrics_and_labels_that_are_there(rule: dict[str, Any]) -> None:
    labels_of(rule["expr"], known_metrics())


def test_what_the_runbook_asks_for_is_there() -> None:
    known = known_metrics()
    found = list(inline_expressions(RUNBOOK))

    assert len(found) > 20
    for each in found:
        labels_of(each, known)


@pytest.mark.parametrize(
    ("expression", "trouble"),
    [
        ("engine_jobs", "no metric 'engine_jobs'"),
        ('engine_jobs_total{lane="low"}', "no label 'lane'"),
        ("sum by (lane) (engine_jobs_total)", "no label 'lane'"),
        ("sum by (type) (sum by (queue) (engine_jobs_total))", "no label 'type'"),
        ("engine_queue_dead and on (type) engine_jobs_total", "no label 'type'"),
        ("histogram_quantile(0.9, rate(engine_job_run_seconds_sum[5m]))", "no label 'le'"),
        ("sum by (", "no PromQL"),
    ],
)
def test_an_expression_that_asks_for_more_is_found(expression: str, trouble: str) -> None:
    with pytest.raises(Unknown, match=re.escape(trouble)):
        labels_of(expression, engine_metrics())


def test_the_parser_reads_what_the_rules_are_made_of() -> None:
    # The labels of an answer are what the tests above stand on.
    known = engine_metrics()
    text = "sum by (queue, le) (rate(engine_job_run_seconds_bucket[5m]))"

    assert isinstance(promql_parser.parse(text), promql_parser.AggregateExpr)
    assert labels_of(text, known) == {"queue", "le"}
    assert labels_of(f"histogram_quantile(0.9, {text})", known) == {"queue"}
    assert labels_of("sum(engine_inflight) without (queue)", known) == {
        *("engine", "host", "instance", "job", "version")
    }

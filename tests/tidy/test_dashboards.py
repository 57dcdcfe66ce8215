"""The dashboards of Grafana ask only for what engines tell, and are whole."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from tests.support.grafana import BOARDS, GRAFANA, expressions, filled, panels
from tests.support.promql import DEPLOY, dashboard_metrics, labels_of
from tests.tidy.test_alerts import NAMES

EACH_BOARD = pytest.mark.parametrize("name", BOARDS)
BUILT_IN = {"__all", "__rate_interval", "__url_time_range", "__value", "datasource"}
WIDTH = 24
OF_THE_DATA_SOURCE = {
    *(f".annotations.list[].{name}" for name in ("step", "textFormat", "titleFormat")),
    ".templating.list[].definition",
}
"""What Prometheus' part of Grafana reads, which the types of the dashboard leave to it."""
SCHEMA_VERSION_MIN = 39
"""Of Grafana 10.4 and newer."""


def test_there_is_one_of_each() -> None:
    assert BOARDS.keys() == {"streamlane-overview", "streamlane-queue", "streamlane-engine"}


@EACH_BOARD
def test_a_dashboard_asks_only_for_metrics_and_labels_that_are_there(name: str) -> None:
    known = dashboard_metrics()
    asked = list(expressions(BOARDS[name]))

    assert len(asked) > 20
    for each in asked:
        labels_of(filled(each), known)


@EACH_BOARD
def test_a_legend_names_only_labels_that_are_there(name: str) -> None:
    known = dashboard_metrics()
    for panel in panels(BOARDS[name]):
        for target in panel["targets"]:
            named = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            has = labels_of(filled(target["expr"]), known) | {"le"}
            assert named <= has, panel["title"]


@EACH_BOARD
def test_a_variable_takes_its_values_from_what_is_there(name: str) -> None:
    known = dashboard_metrics()
    for variable in BOARDS[name]["templating"]["list"]:
        if variable["type"] != "query":
            continue
        asked = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
        assert asked, variable["name"]
        assert asked[2] in labels_of(filled(asked[1]), known)


@EACH_BOARD
def test_every_variable_that_is_named_exists_and_no_data_source_is_left_to_fill_in(
    name: str,
) -> None:
    board = BOARDS[name]
    text = json.dumps(board)
    there = {variable["name"] for variable in board["templating"]["list"]}
    # Sources of dashboards that were exported rather than provisioned.
    assert "__inputs" not in board
    assert "${DS_" not in text
    assert set(re.findall(r"\$\{?(\w+)", text)) <= there | BUILT_IN
    for source in sources(board):
        assert source in ("${datasource}", "-- Grafana --")


def sources(node: Any) -> Iterator[str]:
    """Yield the data sources that a dashboard names, wherever it does."""
    if isinstance(node, dict):
        if isinstance(node.get("datasource"), dict):
            yield node["datasource"]["uid"]
        for each in node.values():
            yield from sources(each)
    elif isinstance(node, list):
        for each in node:
            yield from sources(each)


@EACH_BOARD
def test_a_dashboard_has_what_grafana_wants(name: str) -> None:
    board = BOARDS[name]
    ids = [panel["id"] for panel in board["panels"]]

    assert board["uid"] == name
    assert board["schemaVersion"] >= SCHEMA_VERSION_MIN
    assert "id" not in board, "which Grafana gives"
    assert len(set(ids)) == len(ids)
    for panel in panels(board):
        refs = [target["refId"] for target in panel["targets"]]
        assert len(set(refs)) == len(refs), panel["title"]


def lost(before: Any, after: Any, path: str = "") -> Iterator[str]:
    """Yield what stands in a document and not, or otherwise, in another."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name, value in before.items():
            # A null stands for what is left out.
            if name in after:
                yield from lost(value, after[name], f"{path}.{name}")
            elif value is not None:
                yield f"{path}.{name}"
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for old, new in zip(before, after, strict=True):
            yield from lost(old, new, f"{path}[]")
    elif before != after:
        yield path


def unknown_to_grafana(board: dict[str, Any]) -> set[str]:
    """Read a dashboard by Grafana's own types, and name what these do not know."""
    plugins.register_default_plugins()
    read = Dashboard.from_json(board)
    return set(lost(board, json.loads(json.dumps(read, cls=JSONEncoder))))


@EACH_BOARD
def test_grafana_s_own_types_know_all_that_a_dashboard_says(name: str) -> None:
    """The types are those of Grafana 11.6, which the compose file runs."""
    assert unknown_to_grafana(BOARDS[name]) <= OF_THE_DATA_SOURCE


def test_grafana_s_own_types_see_a_misspelling() -> None:
    board = copy.deepcopy(BOARDS["streamlane-overview"])
    drawn = next(each for each in panels(board) if each["type"] == "timeseries")
    drawn["fieldConfig"]["defaults"]["unnit"] = "s"
    drawn["options"]["legend"]["showLegnd"] = True

    assert unknown_to_grafana(board) - OF_THE_DATA_SOURCE == {
        ".panels[].fieldConfig.defaults.unnit",
        ".panels[].options.legend.showLegnd",
    }


@EACH_BOARD
def test_panels_fill_the_rows_and_do_not_lie_over_each_other(name: str) -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in BOARDS[name]["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= WIDTH
        for cell in cells(at):
            assert cell not in taken, f"{panel['title']} lies over {taken[cell]}"
            taken[cell] = panel["title"]
    lines = {y for _, y in taken}
    assert lines == set(range(max(lines) + 1))
    assert len(taken) == WIDTH * len(lines), "there are holes"


def cells(at: dict[str, int]) -> Iterator[tuple[int, int]]:
    """Yield the cells of the grid that a panel takes."""
    for y in range(at["y"], at["y"] + at["h"]):
        yield from ((x, y) for x in range(at["x"], at["x"] + at["w"]))


@EACH_BOARD
def test_a_panel_says_what_it_shows_and_in_which_unit(name: str) -> None:
    for panel in panels(BOARDS[name]):
        assert panel["title"]
        assert panel["description"].endswith((".", "do."))
        if panel["type"] in {"stat", "timeseries"}:
            assert panel["fieldConfig"]["defaults"]["unit"]
            assert panel["fieldConfig"]["defaults"]["thresholds"]["steps"][0]["value"] is None
        named = re.search(r"Runbook: ([\w, ]+)\.", panel["description"])
        for section in named[1].split(", ") if named else ():
            assert section in NAMES, panel["title"]


def test_the_runbook_s_alerts_are_named_where_their_numbers_are_drawn() -> None:
    text = " ".join(panel["description"] for board in BOARDS.values() for panel in panels(board))
    # This one is about queues that nobody tells of any more.
    assert [name for name in NAMES if name not in text] == ["StreamlaneQueueUnserved"]


def test_dashboards_lead_to_each_other_by_names_that_are_there() -> None:
    text = json.dumps(list(BOARDS.values()))
    led = re.findall(r"/d/([\w-]+)\?var-(\w+)=", text)

    assert led
    for uid, variable in led:
        there = {each["name"] for each in BOARDS[uid]["templating"]["list"]}
        assert variable in there


def test_what_grafana_reads_at_its_start_names_the_prometheus_and_the_dashboards() -> None:
    folder = GRAFANA / "provisioning"
    (source,) = yaml.safe_load((folder / "datasources" / "prometheus.yml").read_text())[
        "datasources"
    ]
    (provider,) = yaml.safe_load((folder / "dashboards" / "streamlane.yml").read_text())[
        "providers"
    ]
    scrape = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())["global"]

    assert source["type"] == "prometheus"
    assert source["jsonData"]["timeInterval"] == scrape["scrape_interval"]
    assert provider["type"] == "file"

"""Tables and documents tell what was measured, and what could not be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.suite.chart import PANELS, NoChart, bars, draw
from benchmarks.suite.readme import NoPlace, replaced, told
from benchmarks.suite.results import Document, ResultsUnreadable, read, write
from benchmarks.suite.tables import failures, measured, report, table

RESULTS: dict[str, dict[str, Any]] = {
    "w1": {
        "arq": [{"jobs_per_s": 5_000.0, "worker_us": 190.0}],
        "streamlane": [{"jobs_per_s": rate, "worker_us": 2.0} for rate in (1e5, 3e5, 2e5)],
        "celery": {"error": "cannot be installed: a | b\n  no such package"},
    },
    "w4": {
        "arq": [{"p50_ms": 2.0, "p99_ms": 4.0}],
        "streamlane": [{"p50_ms": 0.1, "p99_ms": 0.2}],
    },
}


def document() -> Document:
    return Document(
        date="2026-11-22",
        commands=["python -m benchmarks"],
        machine={"processor": "some", "cores": 2, "system": "Linux"},
        versions={"python": "3.11.7", "server": "Valkey 9.1"},
        settings={},
        systems={"arq": {"arq": "1.0"}},
        results=RESULTS,
    )


def test_columns_of_numbers_are_flush_right_and_words_left() -> None:
    drawn = table(["name", "n"], [["a", "1,000"], ["bbbbb", "–"]])

    assert drawn.splitlines() == [
        "| name  |     n |",
        "|-------|------:|",
        "| a     | 1,000 |",
        "| bbbbb |     – |",
    ]


def test_the_fastest_comes_first_and_runs_show_their_span() -> None:
    lines = measured("w1", RESULTS).splitlines()

    assert lines[2].startswith("| streamlane | 200,000 (100,000–300,000) |")
    assert lines[3].startswith("| arq ")


def test_the_least_latency_comes_first() -> None:
    lines = measured("w4", RESULTS).splitlines()

    assert [line.split()[1] for line in lines[2:]] == ["streamlane", "arq"]


def test_a_system_that_failed_is_told_of_in_one_line() -> None:
    (line,) = failures(RESULTS).splitlines()[2:]

    assert "celery" in line
    assert "cannot be installed: a / b no such package" in line


def test_a_report_of_nothing_still_lists_the_targets() -> None:
    assert "server CPU per no-op job" in report({})


def test_a_file_of_results_is_read_as_it_was_written_with_its_targets(tmp_path: Path) -> None:
    path = tmp_path / "out.json"

    write(path, document())
    found = read(path)

    assert found.results == RESULTS
    assert {"server CPU per no-op job", "w1 no-op throughput"} <= {
        target["tells"] for target in found.targets
    }


@pytest.mark.parametrize("text", ["", "[]", '{"w1": {}}'])
def test_another_file_is_no_file_of_results(tmp_path: Path, text: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)

    with pytest.raises(ResultsUnreadable, match=r"other\.json holds no results"):
        read(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ResultsUnreadable, match="No such file"):
        read(tmp_path / "none.json")


def test_figures_take_the_place_of_those_between_the_marks() -> None:
    text = "a\n<!-- figures: begin -->\nold\n<!-- figures: end -->\nb\n"

    assert replaced(text, "new\n") == text.replace("old", "new")


def test_a_document_without_marks_is_left_alone() -> None:
    with pytest.raises(NoPlace):
        replaced("a\n<!-- figures: end -->\n<!-- figures: begin -->\n", "new\n")


def test_the_document_links_the_file_of_its_figures() -> None:
    path = Path(__file__).resolve().parents[3] / "benchmarks" / "results" / "x.json"

    text = told(document(), path)

    assert "[x.json](results/x.json)" in text
    assert "python -m benchmarks" in text
    assert "celery" in text


def test_a_panel_has_a_bar_for_each_system_that_was_measured_the_best_on_top() -> None:
    panels = {panel.workload: panel for panel in PANELS if panel.name in {"jobs_per_s", "p50_ms"}}

    assert bars(RESULTS, panels["w1"]) == [("arq", 5_000.0), ("streamlane", 2e5)]
    assert bars(RESULTS, panels["w4"]) == [("arq", 2.0), ("streamlane", 0.1)]


def test_a_chart_is_written_the_same_for_the_same_figures(tmp_path: Path) -> None:
    draw(document(), tmp_path / "a.svg")
    draw(document(), tmp_path / "b.svg")

    text = (tmp_path / "a.svg").read_text()
    assert text.startswith("<?xml")
    assert "<svg" in text
    assert text == (tmp_path / "b.svg").read_text()


def test_a_chart_of_nothing_or_of_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    empty = document()
    empty.results = {}

    with pytest.raises(NoChart, match="no figures"):
        draw(empty, tmp_path / "a.svg")
    with pytest.raises(NoChart, match=r"must end in \.svg"):
        draw(document(), tmp_path / "a.gif")

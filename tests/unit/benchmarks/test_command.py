"""Mistakes on the command line are told before anything is measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.suite import results
from benchmarks.suite.catalog import ENTRIES
from benchmarks.suite.command import chosen_systems, chosen_workloads, main
from benchmarks.suite.environments import Environments, NotInstallable
from benchmarks.suite.tables import COLUMNS
from benchmarks.suite.workloads import WORKLOADS


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--peers", "arq,celerry"], "there is no system celerry; there are raw,"),
        (["--workloads", "w9"], "there is no workload w9; there are w1,"),
        (["--workloads", ","], "name at least one workload"),
        (["--runs", "0"], "0 is not between 1 and 100"),
        (["--seconds", "1h"], "invalid _seconds value"),
        (["--readme"], "--readme needs a file of results"),
        (["--json", "/nowhere/out.json"], "there is no directory /nowhere"),
        (["--show", "/nowhere/out.json"], "No such file"),
        (["--show", "a.json", "--json", "b.json"], "there is nothing for --json"),
    ],
)
def test_a_mistake_is_told_in_one_line(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)

    assert ended.value.code == 2
    assert says in capsys.readouterr().err


def test_everything_is_meant_unless_something_is_named() -> None:
    assert chosen_systems("all") == list(ENTRIES.values())
    assert chosen_workloads("all") == list(WORKLOADS.values())


def test_what_is_named_comes_in_the_order_of_the_list() -> None:
    assert [entry.name for entry in chosen_systems("streamlane, raw")] == ["raw", "streamlane"]


def test_each_workload_has_columns_and_each_system_a_module_and_workloads() -> None:
    systems = Path(__file__).resolve().parents[3] / "benchmarks" / "systems"

    for workload in WORKLOADS.values():
        assert workload.kind in COLUMNS
    for entry in ENTRIES.values():
        assert set(entry.workloads) <= set(WORKLOADS)
        assert (systems / f"{entry.name}.{'js' if entry.runtime == 'node' else 'py'}").exists()


def test_a_file_from_another_machine_is_not_added_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "out.json"
    document = results.begun("python -m benchmarks", {})
    document.machine["cores"] = 1_000
    results.write(path, document)

    with pytest.raises(SystemExit):
        main(["--json", str(path)])

    assert "comes from another machine" in capsys.readouterr().err


def test_a_file_of_results_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "out.json"
    document = results.begun("python -m benchmarks", {})
    document.results = {"w1": {"raw": [{"jobs_per_s": 123_456.0}]}}
    results.write(path, document)

    assert main(["--show", str(path)]) == 0

    assert "123,500" in capsys.readouterr().out


def test_a_system_without_its_runtime_cannot_be_installed_and_leaves_no_stamp(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    environments = Environments(tmp_path, lambda _: None)

    with pytest.raises(NotInstallable, match="node is not installed"):
        environments.prepare(ENTRIES["bullmq_node"])

    assert not list(tmp_path.rglob("installed"))


def test_what_is_written_by_hand_runs_in_this_environment(tmp_path: Path) -> None:
    environments = Environments(tmp_path, lambda _: None)

    versions = environments.prepare(ENTRIES["raw"])

    assert {"hiredis", "msgspec", "uvloop"} <= versions.keys()
    assert not list(tmp_path.iterdir())

"""
What a job costs in things that can be counted stays under the bounds of ``budget.toml``.

Goal: one more command per settlement, one more Python call per job, one more allocation that a job
leaves behind turns this red, on any machine however busy.

Method: fixed workloads run in a process of their own, one step at a time (:mod:`tests.guard.rig`),
so that batches and all counts are the same each time.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tests.guard import budget
from tests.guard.measure import MEASURES, Measured
from tests.guard.workloads import WORKLOADS

ROOT = Path(__file__).parents[2]
LIMIT_S = 600
"""Ten seconds are enough where nothing else runs."""

BOUNDS = budget.read()
JUDGED = [
    (workload, measure)
    for workload, figures in BOUNDS.items()
    for measure in figures
    if budget.is_judged(workload, measure)
]


@pytest.fixture(scope="module")
def measured() -> dict[str, Measured]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.guard", "--json"],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return msgspec.json.decode(done.stdout, type=dict[str, Measured])


@pytest.mark.servers
@pytest.mark.timeout(LIMIT_S)
@pytest.mark.parametrize(("workload", "measure"), JUDGED)
def test_a_workload_stays_within_its_budget(
    workload: str, measure: str, measured: dict[str, Measured]
) -> None:
    bound = BOUNDS[workload][measure]
    found = measured[workload].figures[measure]

    assert found <= bound, budget.complaint(workload, measure, bound, measured[workload])


@pytest.mark.servers
@pytest.mark.timeout(LIMIT_S)
def test_every_figure_has_a_bound(measured: dict[str, Measured]) -> None:
    found = {(name, measure) for name, each in measured.items() for measure in each.figures}

    assert {each for each in found if budget.is_judged(*each)} == set(JUDGED)


@pytest.mark.parametrize("measure", MEASURES)
def test_a_bound_leaves_no_room_for_one_more_per_job(measure: str) -> None:
    bounds = [budget.bound_for(measure, found) for found in (1.0, 3.0, 16.0)]

    assert all(found <= bound for found, bound in zip((1.0, 3.0, 16.0), bounds, strict=True)) or (
        measure == "kept_blocks"
    )
    assert all(bound < found + 1 for found, bound in zip((1.0, 3.0, 16.0), bounds, strict=True))


def test_writing_lowers_bounds_and_raises_none() -> None:
    found = {"noop": _taking(calls=10.0, scripts=2.0)}

    new = budget.renewed({"noop": {"calls": 20.0, "scripts": 1.0}}, found)

    assert new["noop"] == {"calls": 10.3, "scripts": 1.0}


def test_a_bound_is_raised_where_it_is_named() -> None:
    found = {"noop": _taking(calls=10.0, scripts=2.0)}

    new = budget.renewed({"noop": {"calls": 5.0, "scripts": 1.0}}, found, raised=["noop.calls"])

    assert new["noop"] == {"calls": 10.3, "scripts": 1.0}


def test_a_complaint_tells_what_is_missed_and_what_it_is_made_of() -> None:
    measured = Measured({"calls": 3.0}, {"calls": {"engine/a.py:one": 1.0, "engine/b.py:two": 2.0}})

    text = budget.complaint("noop", "calls", 2.0, measured)

    assert "calls of noop (plain jobs of one lane): 3 a job" in text
    assert "budget.toml is 2." in text
    assert text.index("engine/b.py:two") < text.index("engine/a.py:one")
    assert "--raise noop.calls" in text


def test_what_is_over_its_bound_is_named() -> None:
    found = {"noop": _taking(calls=10.0, scripts=2.0)}

    assert budget.over({"noop": {"calls": 9.0, "scripts": 2.0}}, found) == [("noop", "calls")]


def test_the_table_of_bounds_reads_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "BUDGET", tmp_path / "budget.toml")
    found = {"noop": _taking(calls=10.0, scripts=0.0032)}
    bounds = {"noop": budget.renewed({}, found)["noop"]}

    budget.BUDGET.write_text(budget.text_of(bounds, found))

    assert budget.read() == bounds


def _taking(**figures: float) -> Measured:
    return Measured(figures, {})


def test_every_workload_is_in_the_table() -> None:
    assert BOUNDS.keys() == WORKLOADS.keys()

"""Dead letters, grouped by what they have in common."""

from __future__ import annotations

from engine.admin.analysis import GROUPS_MAX, OTHER, Survey, analyse
from engine.store.operator import Found
from schemas.job import DeadRecord, ErrorRecord
from schemas.stats import DeadGroup


def death(number: int, fingerprint: str, at_ms: int = 5) -> Found:
    record = DeadRecord(
        id=f"j{number}",
        type="mail",
        lane="low",
        entry="1-1",
        reason="exhausted",
        error=ErrorRecord(kind="ValueError", message=f"no user {number}"),
        enqueued_ms=1,
        died_ms=at_ms,
        fingerprint=fingerprint,
    )
    return Found(
        queue="q",
        state="dead",
        lane="low",
        entry="1-1",
        fields=[],
        at_ms=at_ms,
        position="",
        record=record,
    )


def test_groups_are_summed_by_type_and_reason() -> None:
    def group(jobs: int, job_type: str, reason: str) -> DeadGroup:
        return DeadGroup(
            fingerprint="f",
            jobs=jobs,
            first_ms=0,
            last_ms=0,
            type=job_type,
            reason=reason,
            kind="",
            message="",
            sample="",
        )

    analysis = analyse(
        "q", [group(5, "a", "x"), group(2, "b", "x"), group(1, "", "")], 12, matched=9
    )

    assert analysis.by_type == {"a": 5, "b": 2, "other": 1}
    assert analysis.by_reason == {"x": 7, "other": 1}
    assert analysis.uncounted == 1


def test_a_group_has_its_first_as_sample_and_spans_all_deaths() -> None:
    survey = Survey()
    survey.add([death(1, "a", 50), death(2, "b", 40)])
    survey.add([death(3, "a", 20), death(4, "a", 30)])

    first, second = survey.groups()

    assert (first.fingerprint, first.jobs, second.jobs) == ("a", 3, 1)
    assert (first.sample, first.message) == ("j1", "no user 1")
    # Engines' clocks differ, so the latest entry need not be the latest death.
    assert (first.first_ms, first.last_ms) == (20, 50)


def test_fingerprints_beyond_a_bound_are_counted_together() -> None:
    survey = Survey()
    survey.add(death(number, f"f{number}") for number in range(GROUPS_MAX + 500))

    groups = survey.groups()

    assert len(groups) == GROUPS_MAX + 1
    assert (groups[0].fingerprint, groups[0].jobs) == (OTHER, 500)
    assert sum(group.jobs for group in groups) == survey.matched

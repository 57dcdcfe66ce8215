"""What may be done with a job, by its state."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from engine.admin.actions import job_actions
from schemas.job import ErrorRecord, JobState
from schemas.looks import Verb
from schemas.story import Burial, CancelOrder, JobRow, JobStory

MOVES = {"run-now", "reschedule", "priority"}
DEAD = {"retry", "edit-retry", "discard"}


def story(state: JobState, **changed: Any) -> JobStory:
    row = JobRow(
        id="j",
        type="t",
        queue="q",
        lane="low",
        state=state,
        entry="",
        at_ms=1,
        enqueued_ms=1,
        attempts=0,
        size_bytes=1,
        note="behind key k",
    )
    return JobStory(**{"job": row, "why": "", "payload": None, "fields": [], **changed})


def burial(unable: str = "") -> Burial:
    return Burial(
        reason="exhausted",
        rule="",
        path="",
        error=ErrorRecord(kind="E"),
        died_ms=1,
        fingerprint="f",
        cut=0,
        sha256="",
        unable=unable,
    )


@pytest.mark.parametrize(
    ("told", "able"),
    [
        (story("waiting"), {"reschedule", "priority", "cancel"}),
        (story("parked"), {"reschedule", "priority", "cancel"}),
        (story("held"), {"reschedule", "priority", "cancel"}),
        (story("delayed"), {*MOVES, "cancel"}),
        (story("active"), {"cancel"}),
        (story("waiting-children"), {"cancel"}),
        (story("done"), set()),
        (story("dead", dead=burial()), DEAD),
        (story("dead", dead=burial("too large")), {"discard"}),
        (story("dead"), {"discard"}),
        (story("active", cancelled=CancelOrder(who="a", reason="", at_ms=1)), set()),
    ],
)
def test_a_state_allows_some_orders_and_says_why_not_the_others(
    told: JobStory, able: set[str]
) -> None:
    actions = job_actions(told)

    assert {each.verb for each in actions} == set(get_args(Verb))
    assert {each.verb for each in actions if each.able} == able
    assert all(bool(each.why) is not each.able for each in actions)

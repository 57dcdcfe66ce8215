"""The overview's verdict, troubles and order."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from engine.dashboard.glance import overview_of
from schemas.overview import Overview
from schemas.schedule import ScheduleView
from schemas.stats import Audited, EngineStats, HeldType, PausedBy, QueueStats
from tests.support.page import engine, pace, queue, server

LIMIT_MS = 60_000
NOW_MS = 1_800_000_000_000


def overview(
    *queues: QueueStats, engines: list[EngineStats] | None = None, **changes: Any
) -> Overview:
    told = {"time_ms": NOW_MS, **changes.pop("server", {})}
    return overview_of(
        server=server(**told),
        engines=[engine()] if engines is None else engines,
        queues=queues,
        paces=changes.pop("paces", {each.queue: pace() for each in queues}),
        happened=changes.pop("happened", []),
        schedules=changes.pop("schedules", []),
        backlog_age_ms_max=LIMIT_MS,
    )


def held(**changes: Any) -> HeldType:
    told = {"type": "push", "jobs": 12, "held": True, "reason": "key refused", "since_ms": 7_000}
    return HeldType(**{**told, **changes})


def served(name: str = "q", *, running: int = 100) -> EngineStats:
    found = engine()
    load = msgspec.structs.replace(found.beat.queues["q"], running=running)
    return msgspec.structs.replace(
        found, beat=msgspec.structs.replace(found.beat, queues={name: load})
    )


def late(lag_ms: float = 1_400, *, live: bool = True) -> EngineStats:
    found = engine("eng-2", live=live)
    return msgspec.structs.replace(
        found, beat=msgspec.structs.replace(found.beat, loop_lag_ms=lag_ms)
    )


SICK = {
    "no engine": (queue("a", engines=[]), "served", "bad"),
    "broken key": (queue("a", broken=["mq:{a}:dead"]), "keys", "bad"),
    "held type": (queue("a", held=[held()]), "held", "bad"),
    "behind": (queue("a", oldest_ms=LIMIT_MS + 1), "backlog", "warn"),
    "jobs die": (queue("a", recent={"dead": 3}), "dead", "warn"),
}


@pytest.mark.parametrize("word", SICK)
def test_a_sick_queue_is_named_with_what_shows_it(word: str) -> None:
    stats, check, kind = SICK[word]

    found = overview(stats, queue("b"))

    (trouble,) = found.troubles
    assert (trouble.check, trouble.kind, trouble.queue) == (check, kind, "a")
    assert trouble.what.endswith(".")
    assert trouble.button
    assert trouble.href.startswith("/")
    assert found.verdict.title == "1 of 2 queues needs attention"
    assert found.verdict.kind == kind
    assert found.queues["a"].state.word == word
    assert found.queues["a"].state.kind == kind
    assert found.order == ["a", "b"]


def test_troubles_come_in_the_order_in_which_they_hurt() -> None:
    found = overview(
        queue("a-dead", recent={"dead": 3}),
        queue("b-late", oldest_ms=LIMIT_MS + 1),
        queue("c-held", held=[held()]),
        queue("d-unserved", engines=[]),
        engines=[engine(), late()],
        server={"aof": False},
    )

    checks = [trouble.check for trouble in found.troubles]
    assert checks == ["served", "held", "backlog", "dead", "engine", "persistence"]
    assert found.verdict.title == "4 of 4 queues need attention"


def test_without_any_engine_one_row_says_so_for_all_queues() -> None:
    found = overview(queue("a", engines=[]), queue("b", engines=[]), engines=[])

    assert [trouble.what for trouble in found.troubles] == ["No engine runs."]
    assert found.verdict.title == "No engine runs"
    assert "642 jobs wait in 2 queues" in found.troubles[0].evidence


def test_deaths_of_the_minute_that_goes_on_are_counted() -> None:
    found = overview(queue("a", recent={"dead": 3}), queue("b"))

    assert found.totals.dead_hour == 3


def test_a_pause_is_stated_and_alarms_nobody() -> None:
    paused = queue(
        "cleanup",
        paused=True,
        paused_by=PausedBy(who="on-call", reason="index rebuild", at_ms=1),
        oldest_ms=7_200_000,
    )

    found = overview(paused, queue("a"))

    assert found.troubles == []
    assert (found.verdict.kind, found.verdict.title) == ("well", "All 2 queues are well")
    assert found.verdict.note == "cleanup is paused by on-call, “index rebuild”."
    assert found.order == ["a", "cleanup"]
    assert found.totals.oldest_queue == "a"


def test_a_backlog_says_whether_it_will_go() -> None:
    stats = queue("a", oldest_ms=252_000)

    found = overview(stats, paces={"a": pace(done_s=402.0, in_s=468.0)}, engines=[served("a")])

    (trouble,) = found.troubles
    assert trouble.what == "The oldest job waits 4 m 12 s, limit 1 m."
    assert trouble.evidence == (
        "All 100 slots are busy; 468/s come in, 402/s are done: it will not empty."
    )
    assert trouble.button == "Raise concurrency"
    assert trouble.since_ms == NOW_MS - 252_000 + LIMIT_MS


def test_an_engine_in_trouble_is_named_and_counted() -> None:
    found = overview(queue("a"), engines=[engine(), late()])

    assert found.verdict.title == "The queue is well, 1 engine needs attention"
    assert found.verdict.kind == "warn"
    assert found.troubles[0].href == "/engines/eng-2"
    assert (found.totals.slow, found.totals.engines_live) == (1, 2)
    assert found.engine_order == ["eng-2", "eng-1"]
    assert found.engines["eng-2"].state.word == "loop lag"

    gone = overview(queue("a"), engines=[engine(), late(live=False)])
    assert gone.engines["eng-2"].state.word == "silent"
    assert gone.totals.engines_live == 1


def schedule(**changes: Any) -> ScheduleView:
    told = {"queue": "a", "name": "daily", "when": "every day", "state": "on"}
    return ScheduleView(**{**told, "problem": "it is late by 2 m", **changes})


def test_a_schedule_in_trouble_is_named_while_its_queue_is_well() -> None:
    late_schedule = schedule(next_ms=NOW_MS - 120_000)
    found = overview(queue("a"), schedules=[late_schedule])

    (trouble,) = found.troubles
    assert (trouble.schedule, trouble.kind, trouble.queue) == ("daily", "bad", "")
    assert trouble.what == "It is late by 2 m."
    assert trouble.evidence == "It is to fire every day."
    assert trouble.since_ms == NOW_MS - 120_000
    assert trouble.href == "/schedules?queue=a"
    assert found.verdict.title == "The queue is well, schedules need attention"
    assert found.queues["a"].state.word == "well"


def test_of_many_schedules_in_trouble_one_is_told_and_the_others_counted() -> None:
    broken = schedule(name="broken", when="", state="broken", problem="it is no JSON")
    found = overview(queue("a"), queue("b"), schedules=[broken, schedule(), schedule(name="x")])

    (trouble,) = found.troubles
    assert trouble.what == "It is no JSON."
    assert trouble.evidence == "It does not fire; 2 more of a need attention."


def test_schedules_of_a_queue_without_engines_are_no_second_trouble() -> None:
    found = overview(queue("a", engines=[]), schedules=[schedule()])

    assert [trouble.check for trouble in found.troubles] == ["served"]


def test_of_many_engines_only_the_worst_are_sent() -> None:
    found = overview(queue("a"), engines=[engine(f"eng-{at}") for at in range(50)])

    assert len(found.engines) == len(found.engine_order) == 4
    assert found.totals.engines == 50


def test_well_says_what_shows_it() -> None:
    found = overview(queue("a"), queue("b"))

    assert (found.verdict.kind, found.verdict.title) == ("well", "All 2 queues are well")
    assert found.verdict.note == (
        "No job waits longer than 1 m, and no job died in the last five minutes."
    )


def test_before_the_first_queue_the_next_step_is_told() -> None:
    found = overview(engines=[])

    assert found.verdict.title == "No queue is known yet"
    assert found.troubles == []


def test_payloads_in_the_audit_stay_out_of_the_overview() -> None:
    detail = {"schedule": "daily", "after": {"data": {"secret": 1}}, "before": '{"secret": 1}'}
    told = Audited(at=1, who="w", what="schedule-add", queue="a", detail=detail, reason="")

    found = overview(queue("a"), happened=[told])

    assert found.happened[0].detail == {"schedule": "daily"}

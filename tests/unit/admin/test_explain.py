"""Why a job is where it is, in one sentence."""

from __future__ import annotations

from typing import Any

import pytest

from engine.admin.explain import Explainer, span
from engine.store.operator import Found
from engine.wire.codec import META, encode_meta
from schemas.job import DeadRecord, ErrorRecord, JobState, Meta
from schemas.stats import (
    Beat,
    EngineStats,
    HeldType,
    LaneStats,
    PausedBy,
    QueueLoad,
    QueueStats,
)

NOW_MS = 1_000_000_000_000


def queue(**changed: Any) -> QueueStats:
    known: dict[str, Any] = {
        "queue": "q",
        "paused": False,
        "paused_by": None,
        "concurrency": None,
        "lanes": {"normal": LaneStats(waiting=3, active=0, oldest_ms=1)},
        "waiting": 3,
        "active": 0,
        "delayed": 0,
        "overdue": 0,
        "held": [],
        "dead": 0,
        "done_kept": 0,
        "oldest_ms": 1,
        "totals": {},
        "recent": {},
        "engines": ["e1"],
    }
    return QueueStats(**{**known, **changed})


def engine(*, types: tuple[str, ...] = ("mail",), state: str = "running", live: bool = True) -> Any:
    load = QueueLoad(running=0, buffered=0, concurrency=1, types=list(types))
    beat = Beat(
        name="e1",
        host="h",
        pid=1,
        version="0",
        state=state,
        http="",
        started_ms=0,
        beat_ms=NOW_MS,
        loop_lag_ms=0.0,
        rss_bytes=0,
        queues={"q": load},
    )
    return EngineStats(beat=beat, silent_ms=0, live=live)


def job(state: JobState = "waiting", *, meta: Meta | None = None, **changed: Any) -> Found:
    fields = [b"type", b"mail"] + ([META, encode_meta(meta)] if meta else [])
    known = {"lane": "normal", "entry": "5-0", "at_ms": NOW_MS, "position": ""}
    return Found(queue="q", state=state, fields=fields, **{**known, **changed})


HELD = HeldType(type="mail", jobs=1, held=True, reason="bad key", since_ms=NOW_MS - 60_000)
BY = PausedBy(who="ada@here", reason="tea", at_ms=NOW_MS - 120_000)


@pytest.mark.parametrize(
    ("found", "stats", "engines", "why"),
    [
        (job(), queue(), [engine()], "waits in lane normal, in which 3 jobs wait; 1 engine will"),
        (job(), queue(), [], "no engine serves queue q"),
        (job(), queue(), [engine(live=False)], "no engine serves queue q"),
        (job(), queue(), [engine(types=("x",))], "no engine that serves queue q takes type mail"),
        (job(), queue(), [engine(state="draining")], "every engine that could take it is stopping"),
        (job(), queue(paused=True, paused_by=BY), [engine()], "paused by ada@here 2 m ago (tea)"),
        (job(), queue(paused=True), [engine()], "queue q is paused"),
        (job(), queue(held=[HELD]), [engine()], "type mail is held: bad key; it will be set aside"),
        (job("held"), queue(held=[HELD]), [engine()], "type mail was held 1 m ago: bad key"),
        (job("held"), queue(), [engine()], "the hold on mail is released"),
        (
            job("delayed", meta=Meta(id="a", enqueued_ms=1, why="backoff", attempts=2),
                at_ms=NOW_MS + 38_000),
            queue(),
            [engine()],
            "waits 38 s for its retry, after 2 attempts",
        ),
        (
            job("delayed", meta=Meta(id="a", enqueued_ms=1, why="delay"), at_ms=NOW_MS + 5_000),
            queue(),
            [],
            "waits 5.0 s as its producer asked",
        ),
        (
            job("delayed", meta=Meta(id="a", enqueued_ms=1, why="version"), at_ms=NOW_MS + 5_000),
            queue(),
            [],
            "for an engine that knows its payload version",
        ),
        (job("delayed"), queue(), [], "no engine serves queue q"),
        (job("delayed"), queue(), [engine()], "due now; it moves to its lane within a moment"),
        (job("active", consumer="e1-ab"), queue(), [engine()],
         "with e1-ab, last sign of life 0 ms ago"),
        (
            # A long lease: renewed rarely, by an engine that beats.
            job("active", consumer="e1-ab", at_ms=NOW_MS - 120_000),
            queue(),
            [engine()],
            "with e1-ab, last sign of life 2 m ago",
        ),
        (
            # A short one: its engine is gone well before a minute is over.
            job("active", consumer="e2-ab", at_ms=NOW_MS - 15_000),
            queue(),
            [engine()],
            "with e2-ab, silent for 15 s: its engine is gone, and another takes the job over once",
        ),
        (
            job("active", consumer="e1-ab", at_ms=NOW_MS - 15_000),
            queue(),
            [engine(live=False)],
            "its engine is gone, and another takes the job over as soon as one serves the queue",
        ),
    ],
)  # fmt: skip
def test_the_sentence_names_the_cause(
    found: Found, stats: QueueStats, engines: list[EngineStats], why: str
) -> None:
    assert why in Explainer(engines, NOW_MS).why(found, stats)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({}, "dead 1.0 s ago, exhausted after 5 attempts"),
        ({"attempts": 1}, "after 1 attempt"),
        ({"rule": "data-schema", "path": "$.to"}, "broke the rule data-schema at $.to"),
        ({"cut": 9}, "cannot be brought back: its body was too large to keep"),
    ],
)
def test_a_death_is_told_with_what_can_be_done(changed: dict[str, Any], why: str) -> None:
    known: dict[str, Any] = {
        "id": "a",
        "type": "mail",
        "lane": "normal",
        "entry": "1-0",
        "reason": "exhausted",
        "error": ErrorRecord(kind="E"),
        "attempts": 5,
        "enqueued_ms": 0,
        "died_ms": NOW_MS - 1_000,
        "fingerprint": "f",
    }
    found = job("dead", record=DeadRecord(**{**known, **changed}))

    assert why in Explainer([], NOW_MS).why(found, queue())


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (-5, "0 ms"), (0, "0 ms"), (999, "999 ms"), (1_500, "1.5 s"), (59_999, "59 s"),
        (60_000, "1 m"), (61_000, "1 m 01 s"), (3_600_000, "1 h"), (3_660_000, "1 h 01 m"),
        (90_000_000, "1 d 1 h"), (86_400_000, "1 d"),
    ],
)  # fmt: skip
def test_durations_are_told_in_two_units(ms: int, text: str) -> None:
    assert span(ms) == text


def test_a_parent_says_whom_it_waits_for() -> None:
    tree = b'[{"type":"mail"},{"type":"sms","queue":"far","id":"own"},{"type":"mail"}]'
    fields = [b"type", b"mail", b"id", b"p", b"children", tree]
    found = job("waiting-children", states="dsp")
    found.fields = fields

    def why(stats: QueueStats) -> str:
        return Explainer([], NOW_MS).why(found, stats)

    assert why(queue()) == "waits for 2 of 3 children: own in far, p.2 in q"
    assert why(queue(engines=[])).endswith("; 1 not sent yet: no engine serves queue q")

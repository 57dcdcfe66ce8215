"""What a job waits for behind its key, for a limit or in its lane, each cause by itself."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from engine.admin.explain import Explainer
from engine.admin.words import a_list, until
from engine.store.operator import Found
from engine.store.operator.gates import Facts, Turn
from schemas.gates import LimitStats
from schemas.job import DeadRecord, ErrorRecord, JobState, Meta
from schemas.stats import EngineStats, LaneStats, QueueStats
from tests.unit.admin.test_explain import BY, HELD, NOW_MS, engine, job, queue

TICKET = "000001000000000-0000000000"
WEIGHTS = {"high": 16, "normal": 4, "low": 1}


def parked(line: bytes = b"kK") -> Found:
    return job("parked", line=line, entry="", stream="normal:ready")


def holder(state: JobState, *, meta: Meta | None = None, **changed: Any) -> Found:
    found = job(state, meta=meta or Meta(id="x", enqueued_ms=1, ticket=TICKET), **changed)
    found.fields += [b"key", b"K"]
    return found


def turn(job: Found | None, **changed: Any) -> Facts:
    return Facts(ahead=0, turn=Turn(TICKET, job=job, **changed))


def behind(**limit: Any) -> Facts:
    ahead = limit.pop("ahead", 0)
    return Facts(ahead=ahead, limit=LimitStats(name="sms", **limit))


def busy(running: int, **weights: int) -> EngineStats:
    made: EngineStats = engine()
    load = msgspec.structs.replace(made.beat.queues["q"], running=running, concurrency=4)
    beat = msgspec.structs.replace(made.beat, queues={"q": load}, weights=weights)
    return msgspec.structs.replace(made, beat=beat)


def lanes(**waiting: int) -> dict[str, LaneStats]:
    return {name: LaneStats(waiting=n, active=0, oldest_ms=1) for name, n in waiting.items()}


def record(**changed: Any) -> DeadRecord:
    known: dict[str, Any] = {
        "id": "x", "type": "mail", "lane": "normal", "entry": "1-0", "reason": "exhausted",
        "error": ErrorRecord(kind="E"), "attempts": 5, "enqueued_ms": 0,
        "died_ms": NOW_MS - 1_000, "fingerprint": "f", "ticket": TICKET,
    }  # fmt: skip
    return DeadRecord(**{**known, **changed})


RETRY = Meta(id="x", enqueued_ms=1, why="backoff", attempts=2, ticket=TICKET)


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        (turn(holder("active", consumer="e1-ab")), "behind job x of key K, which runs on e1-ab"),
        (
            turn(holder("active", consumer="gone-ab", at_ms=NOW_MS - 15_000)),
            "behind job x of key K, which is with gone-ab, silent for 15 s: its engine is gone",
        ),
        (
            turn(holder("delayed", meta=RETRY, at_ms=NOW_MS + 38_000)),
            "behind job x of key K, which waits 38 s for its retry, after 2 attempts, until 01:47",
        ),
        (
            turn(holder("waiting-children", states="sd")),
            "behind job x of key K, which waits for 1 of 2 children",
        ),
        (
            turn(holder("waiting")),
            "behind job x of key K, which waits in its lane for an engine",
        ),
        (
            turn(holder("held")),
            "behind job x of key K, which was set aside, since its type mail is held",
        ),
        (
            turn(holder("parked", line=b"lsms"), limit=LimitStats(name="sms", places=2, used=2)),
            "behind job x of key K, which waits for limit sms, of which 2 of 2 places are taken",
        ),
        (
            turn(holder("dead", record=record()), blocks=True),
            (
                "job x of key K, which is dead and blocks it: `dead retry q x` brings it back, "
                "`dead discard q x` lets the next one go"
            ),
        ),
        (
            turn(holder("dead", record=record(cut=9)), blocks=True),
            "which is dead and blocks it: `dead discard q x` lets the next one go",
        ),
        (turn(None), f"behind a job of key K with ticket {TICKET}, which was not found"),
        (turn(None, blocks=True), f"behind a dead job of key K with ticket {TICKET}"),
        (Facts(turn=Turn()), "behind key K, which was free just now: look again"),
        (Facts(ahead=7, turn=Turn()), "; 7 more jobs of the key come before it"),
    ],
)
def test_a_job_behind_its_key_names_the_job_that_has_the_turn(facts: Facts, why: str) -> None:
    said = Explainer([engine()], NOW_MS).why(parked(), queue(), None, facts)

    assert said.startswith("is parked behind ")
    assert why in said


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        (
            behind(shut_until_ms=NOW_MS + 30_000),
            "is parked behind limit sms, which is shut until 01:47:10 UTC, for 30 s",
        ),
        (
            behind(places=5, used=5, ahead=3),
            "of which 5 of 5 places are taken; 3 jobs of its line come before it",
        ),
        (
            behind(rate=2, per_ms=1_000, burst=1, tokens=0.0, rule="2 per s", ahead=9),
            "which allows 2 per s: until 01:46:45 UTC, about 5.0 s; 9 jobs",
        ),
        (behind(tokens=1.0, rate=1), "which lets it through within a moment"),
        (behind(), "which lets it through within a moment"),
    ],
)
def test_a_job_behind_a_limit_is_told_until_when(facts: Facts, why: str) -> None:
    said = Explainer([engine()], NOW_MS).why(parked(b"lsms"), queue(), None, facts)

    assert why in said


def test_a_share_of_a_limit_is_named() -> None:
    said = Explainer([engine()], NOW_MS).why(parked(b"lsms\x02acme"), queue(), None, behind())

    assert "behind limit sms (share acme), which" in said


def test_what_stops_the_whole_queue_comes_before_the_line() -> None:
    facts = behind(places=1, used=1)
    paused = queue(paused=True, paused_by=BY)

    assert Explainer([engine()], NOW_MS).why(parked(b"lsms"), paused, None, facts) == (
        "queue q is paused by ada@here 2 m ago (tea); besides, it is parked behind limit sms, "
        "of which 1 of 1 places are taken"
    )
    unserved = Explainer([], NOW_MS).why(parked(b"lsms"), queue(), None, facts)
    assert unserved.startswith("no engine serves queue q; besides, it is parked behind limit sms")


@pytest.mark.parametrize(
    ("lane", "waiting", "running", "ahead", "why"),
    [
        ("normal", {"normal": 1}, 0, 0, "first in line; 1 engine will take it within a moment"),
        ("normal", {"normal": 9}, 4, 8, "behind 8 jobs; all 4 places of 1 engine are taken"),
        ("critical", {"critical": 9, "low": 9}, 4, 8, "all 4 places of 1 engine are taken"),
        (
            "low",
            {"high": 3, "low": 2},
            4,
            1,
            ("behind 1 job; all 4 places of 1 engine are taken and by weight lane low has "
            "1 of 17 turns beside high (3 waiting)"),
        ),
        (
            "low",
            {"critical": 7, "high": 3, "normal": 5, "low": 2},
            0,
            1,
            ("the 7 jobs of lane critical go before all others and by weight lane low has "
            "1 of 21 turns beside high (3 waiting) and normal (5 waiting)"),
        ),
    ],
)  # fmt: skip
def test_a_job_in_its_lane_is_told_its_place_and_what_goes_before(
    lane: str, waiting: dict[str, int], running: int, ahead: int, why: str
) -> None:
    stats: QueueStats = queue(lanes=lanes(**waiting))
    found = job(lane=lane)

    said = Explainer([busy(running, **WEIGHTS)], NOW_MS).why(found, stats, None, Facts(ahead=ahead))

    assert said.startswith(f"waits in lane {lane}, ")
    assert why in said


def test_a_long_line_and_unknown_weights_are_told_as_far_as_is_known() -> None:
    facts = Facts(ahead=1_000, ahead_more=True)
    stats = queue(lanes=lanes(high=3, low=2_000))

    said = Explainer([busy(0)], NOW_MS).why(job(lane="low"), stats, None, facts)

    assert "behind more than 1000 jobs; by weight lane low has the smaller share" in said


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (
            job("delayed", meta=Meta(id="a", enqueued_ms=1, why="snooze"), at_ms=NOW_MS + 5_000),
            "waits 5.0 s because its handler put it off, until 01:46:45 UTC",
        ),
        (
            job("delayed", meta=Meta(id="a", enqueued_ms=1, why="delay"),
                at_ms=NOW_MS + 86_400_000),
            "waits 1 d as its producer asked, until 2001-09-10 01:46:40 UTC",
        ),
        (
            holder("delayed", meta=RETRY, at_ms=NOW_MS + 38_000),
            "until 01:47:18 UTC; meanwhile it keeps the turn of its key K",
        ),
        (job(meta=Meta(id="a", enqueued_ms=1)), "waits in lane normal"),
        (job(record=None), "waits in lane normal"),
    ],
)  # fmt: skip
def test_times_are_told_until_when(found: Found, why: str) -> None:
    assert why in Explainer([engine()], NOW_MS).why(found, queue())


def test_a_debounced_job_waits_for_the_end_of_its_burst() -> None:
    found = job("delayed", meta=Meta(id="a", enqueued_ms=1, why="debounce"), at_ms=NOW_MS + 5_000)
    found.fields += [b"unique", b"report-7"]

    said = Explainer([engine()], NOW_MS).why(found, queue())

    assert "for the end of the burst of jobs with the unique value report-7" in said


def test_an_unknown_version_is_named() -> None:
    found = job("delayed", meta=Meta(id="a", enqueued_ms=1, why="version"), at_ms=NOW_MS + 5_000)
    found.fields += [b"v", b"7"]

    said = Explainer([engine()], NOW_MS).why(found, queue())

    assert "for an engine that knows its payload version, 7: none that took it knows" in said


def test_a_delayed_job_of_a_paused_queue_is_told_both() -> None:
    found = job("delayed", meta=Meta(id="a", enqueued_ms=1, why="delay"), at_ms=NOW_MS + 5_000)

    said = Explainer([engine()], NOW_MS).why(found, queue(paused=True))

    assert said.endswith("; queue q is paused")


def test_an_expired_job_is_told_its_end() -> None:
    found = job(meta=Meta(id="a", enqueued_ms=1))
    found.fields += [b"expires", b"%d" % (NOW_MS - 2_000)]

    said = Explainer([engine()], NOW_MS).why(found, queue())

    assert said == "expired 2.0 s ago; it ends dead when its turn comes"


def test_a_type_that_nobody_knows_is_told_with_its_end() -> None:
    waiting = Explainer([engine(types=("x",))], NOW_MS).why(job(), queue())
    dead = job("dead", record=record(reason="malformed", rule="type-unknown", ticket=""))

    assert "takes type mail: it ends dead, as malformed, when one of them gets it" in waiting
    assert "no handler of the engine takes its type" in Explainer([], NOW_MS).why(dead, queue())


def test_a_dead_job_that_blocks_its_key_says_how_to_go_on() -> None:
    found = holder("dead", record=record())

    said = Explainer([], NOW_MS).why(found, queue(), None, Facts(turn=Turn(TICKET, blocks=True)))

    assert "; it blocks its key K: `dead retry q x` brings it back, `dead discard q x`" in said


def test_a_held_type_comes_before_the_lane() -> None:
    assert "type mail is held" in Explainer([engine()], NOW_MS).why(job(), queue(held=[HELD]))


@pytest.mark.parametrize(
    ("parts", "text"),
    [([], ""), (["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")],
)
def test_lists_are_read_aloud(parts: list[str], text: str) -> None:
    assert a_list(parts) == text


def test_a_moment_that_never_comes() -> None:
    assert until(9 * 10**15, NOW_MS) == "for ever"

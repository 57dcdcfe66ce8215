"""Trees of jobs, judged before any of it is sent."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from engine.client import NewJob, chain, fan_in
from engine.client.judge import Judge
from engine.errors import JobRefused
from engine.registry import Job, Registry
from engine.wire.codec import Limits, parse
from schemas.rules import CHILDREN_DEPTH_MAX

NOW_MS = 1_763_769_600_000


class Greeting(msgspec.Struct):
    name: str


def judge() -> Judge:
    registry = Registry()

    @registry.job("greet", queue="greetings", version=2)
    async def greet(job: Job, payload: Greeting) -> None: ...

    return Judge(registry, {"plain": "plain-queue"}, Limits())


def sent(job: NewJob) -> dict[bytes, bytes]:
    _, out = judge().outgoing(job, now_ms=NOW_MS)
    parse(out.fields, entry_ms=NOW_MS, limits=Limits())
    return dict(zip(out.fields[::2], out.fields[1::2], strict=True))


def tree(job: NewJob) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(sent(job)[b"children"])
    return found


def plain(**options: Any) -> NewJob:
    return NewJob("plain", {}, **options)


def test_children_are_written_as_the_wire_wants_them() -> None:
    greeting = NewJob(
        "greet", Greeting("Ada"), lane="low", delay_ms=5, on_failure="ignore", headers={"a": "b"}
    )

    found = sent(fan_in(plain(children=[plain(id="own")]), [greeting], results=True))

    assert found[b"results"] == b"1"
    assert json.loads(found[b"children"]) == [
        {
            "queue": "greetings",
            "lane": "low",
            "type": "greet",
            "data": {"name": "Ada"},
            "delay": "5",
            "v": "2",
            "a": "b",
            "onFailure": "ignore",
        },
        {
            "queue": "plain-queue",
            "lane": "normal",
            "type": "plain",
            "data": {},
            "id": "own",
            "onFailure": "fail",
        },
    ]


def test_a_chain_is_the_last_job_which_waits_for_the_one_before() -> None:
    last = chain(plain(id="a"), plain(id="b", results=True), plain(id="c"))

    (before,) = tree(last)
    assert (last.id, before["id"], before["results"]) == ("c", "b", True)
    assert [each["id"] for each in before["children"]] == ["a"]
    assert chain(plain(id="a")).children is None


def test_an_empty_fan_out_is_one() -> None:
    assert sent(fan_in(plain(), []))[b"children"] == b"[]"


def refused(job: NewJob) -> tuple[str, str]:
    with pytest.raises(JobRefused) as caught:
        judge().outgoing(job, now_ms=NOW_MS)
    return caught.value.rule, caught.value.path


def test_a_child_that_breaks_a_rule_is_refused_with_its_place() -> None:
    deep = chain(*(plain() for _ in range(CHILDREN_DEPTH_MAX + 2)))
    wrong = NewJob("greet", {"name": 7})

    assert refused(plain(children=[plain(), wrong])) == ("child-data-schema", "$[1]")
    assert refused(plain(children=[plain(children=[plain(attempts=0)])])) == (
        "child-attempts-number",
        "$[0].children[0]",
    )
    assert refused(plain(children=[NewJob("nobody-s", {})])) == ("child-queue-unknown", "$[0]")
    assert refused(plain(children=[plain(lane="fast")])) == ("child-lane-name", "$[0]")
    assert refused(plain(children=[plain(headers={"queue": "x"})]))[0] == "child-header-name"
    assert refused(deep)[0] == "children-depth"
    assert refused(fan_in(plain(), [plain()] * 10_001))[0] == "children-too-many"


def test_a_chain_has_a_job() -> None:
    with pytest.raises(ValueError, match="at least one"):
        chain()

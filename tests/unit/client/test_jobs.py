"""What a producer may send, judged before it is sent."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest

from engine.client.jobs import NewJob
from engine.client.judge import Judge, is_bare
from engine.core.policy import RetryPolicy
from engine.errors import EnqueueError, JobRefused
from engine.registry import Job, Registry
from engine.wire.codec import Limits, parse

NOW_MS = 1_763_769_600_000
OPTIONS = set(NewJob.__struct_fields__) - {
    *("type", "payload", "lane"),
    # These say something of jobs with children, and of children.
    *("results", "on_failure"),
    # It means nothing without `traceparent`, and is left out then.
    "tracestate",
}


class Greeting(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    first_name: str
    age: int | None = None
    ratio: float | None = None


@dataclasses.dataclass
class Plain:
    name: str


def registry() -> Registry:
    made = Registry()

    @made.job("greet", queue="greetings", version=3, retry=RetryPolicy())
    async def greet(job: Job, payload: Greeting) -> None: ...

    return made


def judge(**limits: Any) -> Judge:
    return Judge(registry(), {"plain": "plain-queue"}, Limits(**limits))


def sent(job: NewJob, **limits: Any) -> dict[bytes, bytes]:
    _, outgoing = judge(**limits).outgoing(job, now_ms=NOW_MS)
    return dict(zip(outgoing.fields[::2], outgoing.fields[1::2], strict=True))


def refused(job: NewJob, **limits: Any) -> JobRefused:
    """Refuse a job twice: of a type that was not judged before, and of one that was."""
    made = judge(**limits)
    with pytest.raises(JobRefused) as first:
        made.outgoing(job, now_ms=NOW_MS)
    made.outgoing(NewJob("plain", {}), now_ms=NOW_MS)
    made.outgoing(NewJob("greet", {"firstName": "x"}), now_ms=NOW_MS)
    with pytest.raises(JobRefused) as second:
        made.outgoing(job, now_ms=NOW_MS)
    assert str(first.value) == str(second.value)
    return second.value


@pytest.mark.parametrize(
    ("payload", "data"),
    [
        (Greeting(first_name="Ada"), b'{"firstName":"Ada","age":null,"ratio":null}'),
        ({"firstName": "Ada"}, b'{"firstName":"Ada"}'),
        (b'{ "firstName": "Ada" }', b'{ "firstName": "Ada" }'),
    ],
)
def test_structs_dicts_and_ready_json_become_data(payload: Any, data: bytes) -> None:
    assert sent(NewJob("greet", payload))[b"data"] == data


def test_a_dataclass_becomes_data() -> None:
    assert sent(NewJob("plain", Plain("Ada")))[b"data"] == b'{"name":"Ada"}'


def test_every_option_is_read_by_engines_as_it_was_meant() -> None:
    job = NewJob(
        "plain",
        {},
        id="own-1",
        at=datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=1))),
        expires=NOW_MS + 5,
        attempts=7,
        version=2,
        reply="mq:{plain-queue}:reply:me",
        traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        tracestate="vendor=1",
        key="conversation-1",
        unique="u",
        headers={"tenant": "t-1"},
    )

    _, outgoing = judge().outgoing(job, now_ms=NOW_MS)
    read = parse(outgoing.fields, entry_ms=NOW_MS, limits=Limits())

    assert (read.id, read.key, read.unique, read.reply) == (job.id, job.key, job.unique, job.reply)
    assert read.due_ms == int(datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1000)
    assert read.expires_ms == NOW_MS + 5
    assert (read.attempts, read.version) == (7, 2)
    assert (read.traceparent, read.tracestate) == (job.traceparent, job.tracestate)
    assert read.headers == {"tenant": "t-1"}
    assert outgoing.ordered


def test_delay_and_ttl_count_from_the_enqueuing() -> None:
    _, outgoing = judge().outgoing(NewJob("plain", {}, delay_ms=5, ttl_ms=9), now_ms=NOW_MS)
    read = parse(outgoing.fields, entry_ms=NOW_MS, limits=Limits())

    assert (read.due_ms, read.expires_ms) == (NOW_MS + 5, NOW_MS + 9)


def test_the_version_comes_from_the_registry() -> None:
    assert sent(NewJob("greet", {"firstName": "x"}))[b"v"] == b"3"
    assert sent(NewJob("greet", {"firstName": "x"}, version=2))[b"v"] == b"2"
    assert b"v" not in sent(NewJob("plain", {}))


@pytest.mark.parametrize(
    ("job", "queue"),
    [
        (NewJob("greet", {"firstName": "x"}), "greetings"),
        (NewJob("plain", {}), "plain-queue"),
        (NewJob("plain", {}, queue="other"), "other"),
        (NewJob("unheard-of", {}, queue="other"), "other"),
    ],
)
def test_the_queue_comes_from_the_job_or_the_tables(job: NewJob, queue: str) -> None:
    assert judge().outgoing(job, now_ms=NOW_MS)[0] == queue


@pytest.mark.parametrize(
    "job", [NewJob("greet", {"firstName": "x"}, lane="low"), NewJob("plain", {"a": 1})]
)
def test_a_job_of_a_known_type_is_sent_as_the_first_one_was(job: NewJob) -> None:
    made = judge()

    assert made.outgoing(job, now_ms=NOW_MS) == made.outgoing(job, now_ms=NOW_MS)


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_a_job_with_any_option_is_judged_whole(name: str) -> None:
    assert is_bare(NewJob("plain", {}, lane="low"))
    assert not is_bare(NewJob("plain", {}, **{name: 1}))


@pytest.mark.parametrize(
    ("job_type", "hint"),
    [("unheard-of", "; give its queue (--queue)"), ("gret", "did you mean greet? else give")],
)
def test_a_type_without_a_queue_is_refused_with_what_to_do(job_type: str, hint: str) -> None:
    with pytest.raises(JobRefused) as refused:
        judge().outgoing(NewJob(job_type, {}), now_ms=NOW_MS)

    assert hint in str(refused.value)
    assert "--queue" in str(refused.value)


@pytest.mark.parametrize(
    ("rule", "job"),
    [
        ("queue-unknown", NewJob("unheard-of", {})),
        ("queue-name", NewJob("plain", {}, queue="a{b}")),
        ("lane-name", NewJob("plain", {}, lane="urgent")),
        ("type-name", NewJob("Send Message", {}, queue="q")),
        ("type-name", NewJob("", {}, queue="q")),
        ("data-schema", NewJob("plain", [1])),
        ("data-schema", NewJob("plain", "text")),
        ("data-schema", NewJob("plain", None)),
        ("data-json", NewJob("plain", b"{")),
        ("data-json", NewJob("plain", b'{"a":NaN}')),
        ("data-json", NewJob("plain", {"a": float("nan")})),
        ("data-json", NewJob("greet", Greeting(first_name="x", ratio=float("inf")))),
        ("data-json", NewJob("plain", {"a": object()})),
        ("data-json", NewJob("plain", {"a": "\ud800"})),
        ("data-utf8", NewJob("plain", b'{"a":"\xff"}')),
        ("data-nesting", NewJob("plain", b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}")),
        ("id-name", NewJob("plain", {}, id="two words")),
        ("id-name", NewJob("plain", {}, id="")),
        ("id-name", NewJob("plain", {}, id="x" * 129)),
        ("id-name", NewJob("plain", {}, id="line\r\n")),
        ("id-name", NewJob("plain", {}, id="\ud800")),
        ("key-name", NewJob("plain", {}, key=" ")),
        ("unique-name", NewJob("plain", {}, unique="\x00")),
        ("delay-number", NewJob("plain", {}, delay_ms=-1)),
        ("delay-number", NewJob("plain", {}, delay_ms=1.5)),  # type: ignore[arg-type]
        ("delay-number", NewJob("plain", {}, delay_ms=1, at=NOW_MS)),
        ("at-number", NewJob("plain", {}, at=datetime(2026, 1, 1))),
        ("at-number", NewJob("plain", {}, at=10**15)),
        ("ttl-number", NewJob("plain", {}, ttl_ms=367 * 86_400_000)),
        ("attempts-number", NewJob("plain", {}, attempts=0)),
        ("attempts-number", NewJob("plain", {}, attempts=101)),
        ("v-number", NewJob("plain", {}, version=0)),
        ("reply-key", NewJob("plain", {}, reply="mq:{q}:dead")),
        ("headers-too-many", NewJob("plain", {}, headers={f"h{n}": "" for n in range(33)})),
        ("header-too-large", NewJob("plain", {}, headers={"h": "x" * 1_024})),
        ("header-name", NewJob("plain", {}, headers={"delay": "5"})),
        ("header-name", NewJob("plain", {}, headers={"_engine": '{"id":"a","enqueued_ms":1}'})),
        ("field-repeated", NewJob("plain", {}, headers={"data": "{}"})),
        ("fields-too-many", NewJob("plain", {}, headers={f"h{n}": "" for n in range(63)})),
    ],
)
def test_what_engines_would_not_take_is_refused_by_the_name_of_its_rule(
    rule: str, job: NewJob
) -> None:
    error = refused(job)

    assert error.rule == rule
    assert str(error).startswith(rule)
    assert isinstance(error, EnqueueError)
    assert isinstance(error, ValueError)


def test_a_payload_that_its_type_refuses_is_refused_with_the_path() -> None:
    error = refused(NewJob("greet", {"firstName": "x", "age": "old"}))

    assert (error.rule, error.path) == ("data-schema", "$.age")


def test_a_struct_is_judged_too_since_building_one_checks_nothing() -> None:
    error = refused(NewJob("greet", Greeting(first_name=5)))  # type: ignore[arg-type]

    assert (error.rule, error.path) == ("data-schema", "$.firstName")


def test_a_payload_over_the_bound_is_refused_also_when_its_type_was_judged_before() -> None:
    strict = judge(data_bytes_max=100)
    strict.outgoing(NewJob("plain", {}), now_ms=NOW_MS)

    with pytest.raises(JobRefused, match="data-too-large"):
        strict.outgoing(NewJob("plain", {"a": "x" * 100}), now_ms=NOW_MS)


def test_a_misspelt_type_is_answered_with_the_nearest_one() -> None:
    assert "did you mean greet?" in str(refused(NewJob("gret", {})))

"""Lines for people and for machines: harmless, bounded, and without payloads."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
import structlog

from engine import logs
from engine.clock import SystemClock
from engine.testing import ManualClock

CANARY = "canary-4711-payload"
HOSTILE = "a\r\nlevel=error event=forged\x1b[2J\x9b31m\u202e\u2028\ud800\x00\x7f"

Lines = Callable[..., "Output"]


class Output:
    """Lines of a log that was set up in one format."""

    def __init__(self, log_format: str, level: str, clock: Any) -> None:
        self.stream = io.StringIO()
        self.clock = clock
        logs.set_up(log_format=log_format, log_level=level, clock=clock, stream=self.stream)
        self.log = logs.get_logger("engine")

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    def lines(self) -> list[str]:
        return self.text.splitlines()

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.split("\n") if line]


@pytest.fixture
def output() -> Iterator[Lines]:
    """Give a function that sets logs up; what stood before comes back afterwards."""
    sink, root = logs._sink, logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def set_up(log_format: str = "json", level: str = "info", clock: Any = None) -> Output:
        return Output(log_format, level, clock or ManualClock())

    yield set_up
    logs._sink = sink
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


BOTH = pytest.mark.parametrize("log_format", ["console", "json"])


def test_an_event_is_one_json_object_with_its_fields(output: Lines) -> None:
    out = output()

    out.log.info("job_settled", job_id="n-1-0", type="send-message", attempt=2, run_s=0.25)

    (record,) = out.records()
    assert record.pop("time").endswith("Z")
    assert record == {
        "level": "info",
        "logger": "engine",
        "event": "job_settled",
        "job_id": "n-1-0",
        "type": "send-message",
        "attempt": 2,
        "run_s": 0.25,
    }


def test_an_event_is_one_line_for_people(output: Lines) -> None:
    out = output("console")

    out.log.warning("job_dead", job_id="n-1-0", error='ValueError: no "x"', empty="", none=None)

    (line,) = out.lines()
    assert line[12:] == ' warning job_dead job_id=n-1-0 error="ValueError: no \\"x\\""'


def test_the_trace_id_is_taken_from_the_traceparent(output: Lines) -> None:
    out = output()

    out.log.info("a", traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    out.log.info("b", traceparent="nonsense")

    first, second = out.records()
    assert first["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert "traceparent" not in first
    assert not {"trace_id", "traceparent"} & second.keys()


class Payload(msgspec.Struct):
    text: str


@BOTH
@pytest.mark.parametrize(
    "fields",
    [
        {"payload": CANARY},
        {"data": CANARY.encode()},
        {"body": [CANARY]},
        {"result": CANARY},
        {"anything": Payload(CANARY)},
        {"anything": {"text": CANARY}},
        {"anything": CANARY.encode()},
        {"anything": [Payload(CANARY), {"text": CANARY}]},
        {"anything": bytearray(CANARY.encode())},
    ],
)
def test_a_payload_never_gets_into_the_log(
    log_format: str, fields: dict[str, Any], output: Lines
) -> None:
    out = output(log_format, "debug")

    out.log.error("job_failed", **fields)
    structlog.get_logger().error("job_failed", **fields)

    assert CANARY not in out.text
    assert len(out.lines()) == 2


def test_structlog_follows_when_an_app_imports_it_later() -> None:
    told = """
import sys
from engine import logs
from engine.clock import SystemClock
logs.set_up(log_format="json", log_level="info", clock=SystemClock(), stream=sys.stdout)
assert "structlog" not in sys.modules
import structlog
assert structlog.__spec__.loader is structlog.__loader__ and structlog.__loader__.get_filename()
structlog.get_logger("app").debug("kept back")
structlog.get_logger("app").info("told", number=1)
"""
    done = subprocess.run(
        [sys.executable, "-c", told], capture_output=True, text=True, check=False, timeout=60
    )

    assert done.stderr == ""
    (record,) = map(json.loads, done.stdout.splitlines())
    assert (record["event"], record["number"]) == ("told", 1)


@BOTH
def test_strangers_text_cannot_forge_lines_or_steer_a_terminal(
    log_format: str, output: Lines
) -> None:
    out = output(log_format)

    out.log.info("job_dead", job_id=HOSTILE, error=ValueError(HOSTILE))
    out.log.bind(name=HOSTILE).info(HOSTILE)
    logging.getLogger("other").warning("%s", HOSTILE)
    structlog.get_logger().info(HOSTILE, **{HOSTILE: HOSTILE})

    assert len(out.text.rstrip("\n").split("\n")) == 4
    assert len(out.lines()) == 4
    assert all(line.isprintable() for line in out.lines())
    out.text.encode()


@BOTH
def test_a_traceback_cannot_forge_lines_either(log_format: str, output: Lines) -> None:
    out = output(log_format)

    try:
        raise ValueError(HOSTILE + "\n2026-01-01 error forged")
    except ValueError as error:
        out.log.error("handler_failed", exc_info=error)

    assert "ValueError" in out.text
    assert all(line.isprintable() for line in out.text.split("\n"))
    if log_format == "console":
        _, *rest = out.lines()
        assert all(line.startswith("    | ") for line in rest)
    else:
        (record,) = out.records()
        assert record["event"] == "handler_failed"


def test_long_texts_are_cut(output: Lines) -> None:
    out = output()

    try:
        raise ValueError("x" * 100_000)
    except ValueError as error:
        out.log.error(
            "e" * 10_000, error=error, exc_info=error, many=list(range(10_000)), n=10**400
        )

    (record,) = out.records()
    assert len(record["error"]) <= logs.TEXT_MAX + 1
    assert len(record["exception"]) <= logs.TRACEBACK_MAX + 1
    assert len(out.text) < 7_000


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2**70, -1, True, object(), None])
def test_every_value_can_be_written(value: Any, output: Lines) -> None:
    out = output()

    out.log.info("event", value=value, values=[value, value])

    assert len(out.records()) == 1


def test_an_error_whose_text_fails_is_logged_all_the_same(output: Lines) -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    out = output()
    out.log.error("failed", exc_info=Broken())

    assert "Broken" in out.text


def test_events_below_the_level_are_left_out(output: Lines) -> None:
    out = output("json", "warning")

    out.log.info("quiet")
    out.log.debug("quiet")
    logging.getLogger("other").info("quiet")
    structlog.get_logger().info("quiet")
    out.log.warning("loud")

    assert [record["event"] for record in out.records()] == ["loud"]


def test_an_event_that_repeats_is_counted_after_a_few_times(output: Lines) -> None:
    clock = ManualClock()
    out = output(clock=clock)

    for _ in range(1_000):
        out.log.warning("redis_away", reason="connection")
    assert len(out.records()) == logs.EVENTS_MAX

    clock.move(logs.PERIOD_S + 1)
    out.log.warning("redis_away", reason="connection")
    told = sum(record.get("suppressed", 0) for record in out.records())
    assert told == 1_000 - logs.EVENTS_MAX


def test_what_was_counted_is_told_though_the_event_does_not_come_again(output: Lines) -> None:
    clock = ManualClock()
    out = output(clock=clock)

    for _ in range(100):
        out.log.error("hook_failed", queue="q1")
    clock.move(2 * logs.PERIOD_S)
    out.log.info("something_else")

    summary = out.records()[-2]
    assert (summary["event"], summary["of"], summary["key"], summary["suppressed"]) == (
        "log_suppressed",
        "hook_failed",
        "q1",
        100 - logs.EVENTS_MAX,
    )


def test_what_was_counted_is_told_at_the_end(output: Lines) -> None:
    out = output()

    for _ in range(100):
        out.log.error("hook_failed")
    logs.flush()

    assert out.records()[-1]["suppressed"] == 100 - logs.EVENTS_MAX


def test_keys_are_limited_each_for_itself_and_not_without_bound(output: Lines) -> None:
    out = output()

    for _ in range(30):
        out.log.warning("type_held", queue="q1")
    out.log.warning("type_held", queue="q2")
    assert out.records()[-1]["queue"] == "q2"

    for n in range(10_000):
        out.log.warning("type_held", queue=f"q-{n}")
    assert len(out.lines()) < logs.EVENTS_MAX * 2 + logs.KEYS_MAX + 1


def test_what_libraries_log_is_bounded_too(output: Lines) -> None:
    out = output()

    for n in range(1_000):
        logging.getLogger("asyncio").error("task %d failed", n)

    assert len(out.lines()) == logs.EVENTS_MAX
    assert out.records()[0]["logger"] == "asyncio"


def test_a_debug_log_is_complete(output: Lines) -> None:
    out = output(level="debug")

    for _ in range(100):
        out.log.debug("job_retried")

    assert len(out.lines()) == 100


async def test_an_error_that_nobody_awaited_is_logged_through_the_same_lines(
    output: Lines,
) -> None:
    out = output()
    asyncio.get_running_loop().call_exception_handler({"message": "it broke"})

    assert out.records()[0]["event"] == "it broke"


def test_a_closed_stream_harms_nobody(output: Lines) -> None:
    out = output(clock=SystemClock())
    out.stream.close()

    out.log.error("nobody_reads_this")


def test_without_a_set_up_events_go_to_logging(caplog: pytest.LogCaptureFixture) -> None:
    logs.get_logger("client").warning("redis_away", reason="connection", payload=CANARY)

    assert caplog.record_tuples == [
        ("streamlane.client", logging.WARNING, 'redis_away reason=connection payload="<left out>"')
    ]


@pytest.mark.parametrize(("level", "said"), [(logging.INFO, False), (logging.DEBUG, True)])
def test_without_a_set_up_nothing_is_put_together_that_logging_drops(
    level: int, said: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(level, "streamlane"):
        assert logs.get_logger("engine").says_debug() is said


@pytest.mark.parametrize(("level", "said"), [("info", False), ("debug", True)])
def test_after_a_set_up_its_level_says_so(level: str, said: bool, output: Lines) -> None:
    assert output(level=level).log.says_debug() is said

"""``enqueue``: one job, and many from a file or a pipe, as a program of its own."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py

from tests.integration.cli.conftest import Cli

LANE = "mq:{message-delivery}:normal"
GOOD = {"type": "send-message", "data": {"userId": 1}}


def program(cli: Cli, *args: str, **options: Any) -> subprocess.Popen[bytes]:
    """Start the command as a program of its own."""
    here = Path(__file__).resolve().parents[3]
    environ = {**os.environ, **cli.environ, "PYTHONPATH": f"{here}:{Path.cwd()}"}
    return subprocess.Popen(
        [sys.executable, "-m", "engine", "enqueue", *args],
        env=environ,
        stdin=options.pop("stdin", subprocess.PIPE),
        stdout=subprocess.PIPE,
        stderr=options.pop("stderr", subprocess.PIPE),
        **options,
    )


def ran(cli: Cli, *args: str, given: bytes = b"") -> tuple[int, str, str]:
    """Run the command to its end."""
    process = program(cli, *args)
    out, err = process.communicate(given, timeout=60)
    return process.returncode, out.decode(), err.decode()


def lines(*jobs: Any) -> bytes:
    return b"".join(
        (job if isinstance(job, bytes) else json.dumps(job).encode()) + b"\n" for job in jobs
    )


def entries(url: str, key: str = LANE) -> list[dict[str, str]]:
    with redis_py.Redis.from_url(url, decode_responses=True) as client:
        return [fields for _, fields in client.xrange(key)]


def test_one_job_prints_its_id(cli: Cli, redis_url: str) -> None:
    code, out, err = ran(cli, "send-message", "--data", '{"userId": 7}')

    assert (code, err) == (0, "")
    assert out.startswith("n-")
    assert entries(redis_url) == [{"type": "send-message", "data": '{"userId": 7}'}]


def test_every_option_reaches_the_wire(cli: Cli, redis_url: str) -> None:
    found = cli.json(
        "enqueue", "send-message", "--data", '{"userId":1}', "--lane", "high", "--id", "mine",
        "--delay", "1.5s", "--ttl", "2h", "--attempts", "3", "--v", "2", "--key", "k",
        "--unique", "u", "--reply", "mq:{message-delivery}:reply:me", "--header", "a=b=c",
        "--traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    )  # fmt: skip

    assert found["id"] == "mine"
    assert found["queue"] == "message-delivery"
    (fields,) = entries(redis_url, "mq:{message-delivery}:high")
    assert fields == {
        "type": "send-message",
        "data": '{"userId":1}',
        "id": "mine",
        "delay": "1500",
        "ttl": "7200000",
        "attempts": "3",
        "v": "2",
        "reply": "mq:{message-delivery}:reply:me",
        "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "key": "k",
        "unique": "u",
        "a": "b=c",
    }


def test_moments_may_be_written_as_iso_time(cli: Cli, redis_url: str) -> None:
    cli("enqueue", "send-message", "--data", '{"userId":1}', "--at", "2026-01-01T01:00:00+01:00",
        "--expires", "1767312000000")  # fmt: skip

    (fields,) = entries(redis_url)
    assert (fields["at"], fields["expires"]) == ("1767225600000", "1767312000000")


def test_the_payload_may_come_from_a_file_or_stdin(cli: Cli, redis_url: str) -> None:
    Path("payload.json").write_text('{"userId": 8}')

    assert cli("enqueue", "send-message", "--data", "@payload.json").exit_code == 0
    assert ran(cli, "send-message", "--data", "-", given=b'{"userId": 9}')[0] == 0
    assert [fields["data"] for fields in entries(redis_url)] == ['{"userId": 8}', '{"userId": 9}']


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["send-message"], 2, "give --data for one job, or --file for many"),
        (["send-message", "--data", "{}", "--file", "x"], 2, "give --data"),
        (["--data", "{}"], 2, "TYPE is missing"),
        (["send-message", "--data", "@nowhere.json"], 2, "cannot read nowhere.json"),
        (["--file", "nowhere.jsonl"], 2, "cannot read nowhere.jsonl"),
        (["--file", "-", "--id", "x"], 2, "--id names one job"),
        (["send-message", "--data", "{}", "--header", "x"], 2, "NAME=VALUE"),
        (["send-message", "--data", "{}", "--lane", "urgent"], 2, "urgent"),
        (["send-message", "--data", "{"], 1, "data-json"),
        (["send-message", "--data", '{"userId":"x"}'], 1, "data-schema at $.userId"),
        (["send-mesage", "--data", "{}"], 1, "did you mean send-message?"),
        (["send-message", "--data", '{"userId":1}', "--delay", "soon"], 1, "delay-number"),
        (["send-message", "--data", '{"userId":1}', "--at", "2026-01-01"], 1, "at-number"),
        (["send-message", "--data", '{"userId":1}', "--attempts", "0"], 1, "attempts-number"),
        (["send-message", "--data", '{"userId":1}', "--id", "a\x1b[2J"], 1, "id-name"),
    ],
)
def test_what_is_refused_is_said_in_one_line(
    args: list[str], code: int, said: str, cli: Cli, redis_url: str
) -> None:
    found = cli("enqueue", *args)

    assert found.exit_code == code
    assert found.stdout == ""
    assert said in found.stderr
    assert len(found.stderr.splitlines()) == 1
    assert found.stderr.startswith("error: ")
    assert entries(redis_url) == []


def test_with_its_queue_a_job_needs_no_app(cli: Cli, redis_url: str) -> None:
    found = cli("enqueue", "t", "--data", "{}", "--queue", "message-delivery", ENGINE_APP="no:app")

    assert found.exit_code == 0
    assert "not checked against their types" in found.stderr
    assert len(entries(redis_url)) == 1


def test_without_a_server_it_says_so_and_that_nothing_was_written(
    cli: Cli, unused_port: int
) -> None:
    found = cli("enqueue", "send-message", "--data", '{"userId":1}', "--give-up", "0.2",
                ENGINE_REDIS_URL=f"redis://127.0.0.1:{unused_port}")  # fmt: skip

    assert found.exit_code == 3
    assert "nothing was written" in found.stderr


def test_lines_of_a_file_become_jobs_and_refused_ones_are_named(cli: Cli, redis_url: str) -> None:
    Path("jobs.jsonl").write_bytes(
        lines(
            GOOD,
            {**GOOD, "lane": "low", "delay": "5s", "headers": {"h": "v"}},
            b"",
            b"{not json",
            {**GOOD, "data": {"userId": "x"}},
            {**GOOD, "dealy": 5},
            {"data": {"userId": 1}},
            {"type": "send-message"},
            {**GOOD, "lane": "urgent"},
            b'{"type":"send-message","data":{"userId":1}}\r',
            b'{"type":"send-message","data":{"userId":2}}',
        )[:-1]
    )

    code, out, err = ran(cli, "--file", "jobs.jsonl")

    assert code == 1
    assert out == "4 accepted, 6 refused\n"
    said = [line.split(":")[:2] for line in sorted(err.splitlines())]
    assert said == [
        ["line 4", " line-json"],
        ["line 5", " data-schema at $.userId"],
        ["line 6", " line-field"],
        ["line 7", " type-missing"],
        ["line 8", " data-missing"],
        ["line 9", " lane-name"],
    ]
    assert entries(redis_url, "mq:{message-delivery}:low") == [
        {"type": "send-message", "data": '{"userId": 1}', "delay": "5000", "h": "v"}
    ]
    assert len(entries(redis_url)) == 3


def test_options_stand_in_for_what_lines_leave_out(cli: Cli, redis_url: str) -> None:
    given = lines({"data": {"userId": 1}}, {"data": {"userId": 2}, "lane": "low"})
    code, *_ = ran(cli, "send-message", "--file", "-", "--lane", "high", given=given)

    assert code == 0
    assert len(entries(redis_url, "mq:{message-delivery}:high")) == 1
    assert len(entries(redis_url, "mq:{message-delivery}:low")) == 1


def test_the_summary_is_json_where_asked(cli: Cli) -> None:
    code, out, err = ran(cli, "--file", "-", "--json", given=lines(GOOD, b"nope"))

    found = json.loads(out)
    assert (code, err) == (1, "")
    assert (found["accepted"], found["refused"]) == (1, 1)
    assert found["refusals"][0]["line"] == 2
    assert found["refusals"][0]["rule"] == "line-json"


def test_it_stops_at_the_first_refused_line_where_asked(cli: Cli, redis_url: str) -> None:
    given = lines(GOOD, b"nope", *[GOOD] * 10)
    code, out, _ = ran(cli, "--file", "-", "--stop-on-error", given=given)

    assert (code, out) == (1, "1 accepted, 1 refused\n")
    assert len(entries(redis_url)) == 1


def test_many_refused_lines_do_not_flood_the_terminal(cli: Cli) -> None:
    _, out, err = ran(cli, "--file", "-", given=lines(*[b"nope"] * 2_000))

    assert out == "0 accepted, 2000 refused\n"
    assert len(err.splitlines()) == 101
    assert "1900 more lines" in err


def test_thousands_of_lines_come_through_a_pipe(cli: Cli, redis_url: str) -> None:
    code, out, _ = ran(cli, "--file", "-", given=lines(*[GOOD] * 20_000))

    assert (code, out) == (0, "20000 accepted, 0 refused\n")
    with redis_py.Redis.from_url(redis_url) as client:
        assert client.xlen(LANE) == 20_000


def test_a_line_of_a_waiting_pipe_is_sent_at_once_and_ctrl_c_says_what_was_accepted(
    cli: Cli, redis_url: str
) -> None:
    with program(cli, "--file", "-") as process:
        try:
            assert process.stdin is not None
            process.stdin.write(lines(GOOD, GOOD))
            process.stdin.flush()
            with redis_py.Redis.from_url(redis_url, socket_timeout=None) as client:
                first = client.xread({LANE: "0"}, block=30_000)
                if client.xlen(LANE) < 2:
                    client.xread({LANE: first[0][1][-1][0]}, block=30_000)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()

    assert process.returncode == 130
    assert out == b"interrupted: 2 accepted, 0 refused\n"
    assert b"Traceback" not in err


def test_a_bar_shows_on_a_terminal_alone(cli: Cli) -> None:
    Path("jobs.jsonl").write_bytes(lines(*[GOOD] * 2_000))
    ours, theirs = pty.openpty()
    shown = b""
    with program(cli, "--file", "jobs.jsonl", stderr=theirs, stdin=subprocess.DEVNULL) as process:
        os.close(theirs)
        # Linux says by an error that the other side has closed.
        with contextlib.suppress(OSError):
            while chunk := os.read(ours, 65_536):
                shown += chunk
        out, _ = process.communicate(timeout=30)
    os.close(ours)

    assert out == b"2000 accepted, 0 refused\n"
    assert b"accepted" in shown
    assert b"\x1b[" in shown


def test_a_server_that_goes_away_is_said_with_what_is_known(
    cli: Cli, redis_url: str, unused_port: int
) -> None:
    cli.environ["ENGINE_REDIS_URL"] = f"redis://127.0.0.1:{unused_port}"

    code, out, err = ran(cli, "--file", "-", "--give-up", "0.2", given=lines(*[GOOD] * 10))

    assert code == 3
    assert out == "0 accepted, 0 refused\n"
    assert "10 not sent" in err

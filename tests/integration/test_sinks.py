"""The places where everything arrives: what they tell, what they keep, and when they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import orjson
import psutil
import pytest

from engine import SystemClock
from processors.senders.base import Kind, Mail, Push, PushTarget, Sms
from processors.senders.email import open_email_sender
from processors.senders.push import open_push_senders
from processors.senders.sms import open_sms_sender
from processors.settings import from_env
from tests.peers.sinks import FACTORIES, export_lines, open_sinks
from tests.peers.web_push import public_keys

ROOT = Path(__file__).resolve().parents[2]
SAY_AND_WAIT = "import os, sys; print(os.getpid(), flush=True); sys.stdin.read()"


def beside(directory: Path, *command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.peers", "--data", str(directory), "--", *command],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def arrivals(directory: Path) -> list[tuple[str, str]]:
    lines = (directory / "sinks.jsonl").read_bytes().splitlines()
    return [(record["sink"], record["line"]) for record in map(orjson.loads, lines)]


def test_the_sinks_end_with_the_command_even_when_it_is_killed(tmp_path: Path) -> None:
    """Method: the command has the pid that was started; its one child are the sinks."""
    started = beside(tmp_path, sys.executable, "-c", SAY_AND_WAIT)
    try:
        assert started.stdout is not None
        assert int(started.stdout.readline()) == started.pid
        sinks = psutil.Process(started.pid).children()
        assert len(sinks) == 1
        assert (tmp_path / "sinks.env").stat().st_mode & 0o777 == 0o600
        # The terminal's Ctrl-C is not for them.
        assert os.getsid(sinks[0].pid) != os.getsid(started.pid)
    finally:
        started.send_signal(signal.SIGKILL)
        started.communicate()

    _, alive = psutil.wait_procs(sinks, timeout=30)
    assert alive == []
    assert not (tmp_path / "sinks.env").exists()


def test_a_command_that_is_none_is_told_and_leaves_no_sinks(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.peers", "--data", tmp_path, "--", "no-such-command"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    # Output is at its end, so nobody holds it any more: the sinks are gone, too.
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith("error: cannot run no-such-command")


def test_by_hand_they_print_what_to_set(tmp_path: Path) -> None:
    started = subprocess.Popen(
        [sys.executable, "-m", "tests.peers", "--data", tmp_path],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert started.stdout is not None
    printed = [started.stdout.readline() for _ in range(5)]
    started.send_signal(signal.SIGINT)
    started.communicate()

    assert started.returncode == 0
    assert all(line.startswith("export PROCESSORS_") for line in printed)


async def test_everything_that_is_sent_arrives_and_is_told_in_a_line(tmp_path: Path) -> None:
    clock = SystemClock()
    async with open_sinks(tmp_path, {}) as variables:
        settings = from_env(variables)
        email = open_email_sender(settings.email, clock=clock)
        sms = open_sms_sender(settings.sms, clock=clock, others=_nobody)
        assert email is not None
        assert sms is not None
        async with open_push_senders(settings.push, clock=clock) as senders:
            kinds = [
                (await senders[target.provider].send(target, push())).kind
                for target in (
                    device("fcm", "phone"),
                    device("apns", "ab12"),
                    browser(variables["DEMO_WEBPUSH_ENDPOINT"]),
                )
            ]
        kinds.append((await email.send(mail("ada@example.org"))).kind)
        kinds.append((await sms.send(text("+4915123456789"))).kind)
        await email.close()
        await sms.close()

    assert set(kinds) == {Kind.SENT}
    assert arrivals(tmp_path) == [
        ("fcm", "push fcm → phone: Ada: Hello"),
        ("apns", "push apns → ab12: Ada: Hello"),
        ("webpush", "push webpush → ada: Ada: Hello"),
        ("smtp", "email → ada@example.org: News"),
        ("sms", "sms → +4915123456789: Hello"),
    ]


@pytest.mark.parametrize(
    ("name", "kind"),
    [("gone", Kind.TARGET_GONE), ("busy", Kind.LIMITED), ("down", Kind.LATER)],
)
async def test_addresses_choose_their_failures(tmp_path: Path, name: str, kind: Kind) -> None:
    async with open_sinks(tmp_path, {}) as variables:
        settings = from_env(variables).push
        async with open_push_senders(settings, clock=SystemClock()) as senders:
            endpoint = variables["DEMO_WEBPUSH_ENDPOINT"].replace("/ada", f"/{name}-1")
            targets = [device("fcm", name), device("apns", name), browser(endpoint, name)]
            kinds = [(await senders[each.provider].send(each, push())).kind for each in targets]

    assert kinds == [kind] * 3
    assert not (tmp_path / "sinks.jsonl").exists()


async def test_what_somebody_writes_stays_one_line_and_no_command(tmp_path: Path) -> None:
    async with open_sinks(tmp_path, {}) as variables:
        settings = from_env(variables).push
        async with open_push_senders(settings, clock=SystemClock()) as senders:
            sent = Push(delivery_id=uuid4(), title="a\nb", body="\x1b[2J\r\u202e")
            await senders["fcm"].send(device("fcm", "phone"), sent)

    assert arrivals(tmp_path) == [("fcm", "push fcm → phone: a�b: �[2J��")]


async def test_another_start_has_the_same_keys_and_ports(tmp_path: Path) -> None:
    async with open_sinks(tmp_path, {}) as first:
        pass
    # As in a shell where they were set.
    async with open_sinks(tmp_path, first) as second:
        again = from_env(second).push
        async with open_push_senders(again, clock=SystemClock()) as senders:
            answer = await senders["apns"].send(device("apns", "ab12"), push())

    assert first == second
    assert answer.kind is Kind.SENT


async def test_a_provider_that_is_set_up_otherwise_is_left_alone(tmp_path: Path) -> None:
    own = {"PROCESSORS_EMAIL_HOST": "mail.example.org", "PROCESSORS_PUSH_FCM_TIMEOUT_MS": "500"}
    file = {"PROCESSORS_PUSH_APNS_KEY_FILE": "/elsewhere/key.p8"}
    async with open_sinks(tmp_path, own | file) as variables:
        names = set(variables)

    assert not any(name.startswith("PROCESSORS_EMAIL_") for name in names)
    assert not any(name.startswith("PROCESSORS_PUSH_APNS_") for name in names)
    assert "PROCESSORS_PUSH_FCM_URL" in names
    assert "PROCESSORS_SMS_URL" in names


async def test_exports_are_what_a_shell_reads(tmp_path: Path) -> None:
    async with open_sinks(tmp_path, {}) as variables:
        there = read_by_a_shell(tmp_path / "sinks.env")

    assert there.items() >= variables.items()
    assert len(export_lines(variables)) == len(variables)


def test_every_sink_has_a_name_of_its_own() -> None:
    assert len({factory.name for factory in FACTORIES}) == len(FACTORIES)


def read_by_a_shell(exports: Path) -> dict[str, str]:
    shown = subprocess.run(
        ["sh", "-c", f". {exports}; env -0"], env={}, capture_output=True, check=True
    )
    return dict(pair.decode().split("=", 1) for pair in shown.stdout.split(b"\0") if pair)


def device(provider: str, token: str) -> PushTarget:
    return PushTarget(id=uuid4(), provider=provider, kind="token", token=token)  # type: ignore[arg-type]


def browser(endpoint: str, name: str = "ada") -> PushTarget:
    return PushTarget(
        id=uuid4(),
        provider="webpush",
        kind="subscription",
        token=endpoint,
        keys=public_keys(name),
    )


def push() -> Push:
    return Push(delivery_id=uuid4(), title="Ada", body="Hello")


def mail(to: str) -> Mail:
    return Mail(delivery_id=uuid4(), to=to, subject="News", text="Hello")


def text(to: str) -> Sms:
    return Sms(delivery_id=uuid4(), to=to, text="Hello")


async def _nobody(*_: object) -> frozenset[str]:
    return frozenset()

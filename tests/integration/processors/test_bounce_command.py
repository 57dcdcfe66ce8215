"""A mail server hands a bounce to a program; what it says becomes a job, once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
import redis

from processors.rules.bounces import return_path
from schemas.messages import Notification, RecordStatus

pytestmark = pytest.mark.servers

ROOT = Path(__file__).parents[3]
TEMPLATE = "bounces+{id}@mail.example.com"
REPORT = """\
From: MAILER-DAEMON@mx.example.net
To: postmaster@example.com
Content-Type: multipart/report; report-type=delivery-status; boundary="B"

--B
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.net

Final-Recipient: rfc822; ada@example.org
Action: failed
Status: 5.1.1

--B--
"""


def run(
    redis_url: str, data: str, *arguments: str, **environ: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "processors", "bounce", *arguments],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "ENGINE_REDIS_URL": redis_url,
            "PROCESSORS_EMAIL_RETURN_PATH": TEMPLATE,
            **environ,
        },
        input=data,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def jobs(redis_url: str) -> list[tuple[bytes, Any]]:
    with redis.Redis.from_url(redis_url) as client:
        found: Any = client.xrange("mq:{notification}:normal")
    return [
        (fields[b"id"], msgspec.json.decode(fields[b"data"], type=Notification))
        for _, fields in found
    ]


@pytest.mark.parametrize("way", ["option", "variable", "header"])
def test_a_bounce_becomes_a_job(redis_url: str, way: str) -> None:
    delivery = uuid4()
    address = return_path(TEMPLATE, delivery)
    ended = {
        "option": lambda: run(redis_url, REPORT, "--recipient", address),
        "variable": lambda: run(redis_url, REPORT, ORIGINAL_RECIPIENT=address),
        "header": lambda: run(redis_url, REPORT.replace("postmaster@example.com", address)),
    }[way]()

    assert (ended.returncode, ended.stdout) == (0, "")
    assert ended.stderr == f"delivery {delivery} bounced: 5.1.1\n"
    assert jobs(redis_url) == [
        (
            f"bounce-{delivery.hex}-bounced".encode(),
            RecordStatus(channel="email", state="bounced", delivery_id=delivery, code="5.1.1"),
        )
    ]


def test_a_bounce_that_is_handed_over_again_has_the_same_id(redis_url: str) -> None:
    address = return_path(TEMPLATE, UUID(int=7))
    for _ in range(2):
        assert run(redis_url, REPORT, "--recipient", address).returncode == 0

    assert len({job_id for job_id, _ in jobs(redis_url)}) == 1


@pytest.mark.parametrize("data", ["", "Subject: I am away\n\nuntil Monday", REPORT])
def test_what_is_no_report_about_our_mail_is_ignored(redis_url: str, data: str) -> None:
    ended = run(redis_url, data, "--recipient", "bounces@mail.example.com")

    assert (ended.returncode, jobs(redis_url)) == (0, [])
    assert ended.stderr.startswith("ignored")


@pytest.mark.parametrize("fault", ["redis", "settings"])
def test_the_mail_server_keeps_what_cannot_be_recorded(
    redis_url: str, unused_port: int, fault: str
) -> None:
    """Goal: nothing is lost while Redis is away or a setting is wrong."""
    url = f"redis://127.0.0.1:{unused_port}" if fault == "redis" else redis_url
    wrong = {"PROCESSORS_EMAIL_NONSENSE": "1"} if fault == "settings" else {}

    ended = run(url, REPORT, "--recipient", return_path(TEMPLATE, uuid4()), **wrong)

    assert (ended.returncode, ended.stdout) == (75, "")
    assert len(ended.stderr.splitlines()) == 1

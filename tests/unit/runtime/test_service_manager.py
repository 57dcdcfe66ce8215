"""What is told to the service manager, when, and what its variables mean."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from engine.runtime.service_manager import (
    STATUS_S,
    FamilyReport,
    ServiceManager,
    service_manager,
)
from engine.testing import ManualClock
from tests.support.notified import Notified
from tests.support.waiting import eventually


@pytest.fixture(params=["", "@"], ids=["path", "abstract"])
def heard(request: pytest.FixtureRequest, server_directory: Path) -> Iterator[Notified]:
    manager = Notified(f"{request.param}{server_directory}/notify")
    yield manager
    manager.close()


class Engine:
    """An engine of which is told."""

    state = "starting"
    stopping = False

    @property
    def vitals(self) -> Engine:
        return self

    def status(self) -> str:
        return "how\nit is"


class Process:
    """A child of the supervisor."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.signals: list[int] = []

    def send_signal(self, number: int) -> None:
        self.signals.append(number)


def test_without_the_variable_there_is_nobody_to_tell() -> None:
    assert service_manager({}) is None
    assert service_manager({"WATCHDOG_USEC": "1000000"}) is None
    assert service_manager({"NOTIFY_SOCKET": "vsock:2:1234"}) is None


def test_the_variables_are_taken_away_from_what_this_process_starts() -> None:
    environ = {"NOTIFY_SOCKET": "/run/s", "WATCHDOG_USEC": "4000000", "WATCHDOG_PID": "1", "A": "b"}

    found = service_manager(environ)

    assert environ == {"A": "b"}
    assert found is not None
    assert found.watchdog_s == 0, "it watches another process"


def test_the_watchdog_is_fed_twice_in_its_time() -> None:
    environ = {"NOTIFY_SOCKET": "/s", "WATCHDOG_USEC": "4000000", "WATCHDOG_PID": str(os.getpid())}

    found = service_manager(environ)

    assert found is not None
    assert found.pause_s == 2.0
    assert ServiceManager("/s", watchdog_s=60).pause_s == STATUS_S


def test_what_did_not_get_through_goes_with_the_next_message(server_directory: Path) -> None:
    manager = ServiceManager(f"{server_directory}/notify")
    manager.tell(READY="1")
    heard = Notified(server_directory / "notify")

    manager.tell(STATUS="well")
    manager.tell(STATUS="still")

    assert heard.hear() == [{"READY": "1", "STATUS": "well"}, {"STATUS": "still"}]
    heard.close()


async def test_an_engine_is_told_of_by_its_state(heard: Notified) -> None:
    engine = Engine()
    manager = ServiceManager(heard.address, watchdog_s=0.002)
    task = asyncio.create_task(manager.report(engine))

    await eventually(lambda: heard.count("WATCHDOG") >= 2, "fed")
    assert heard.has_said(WATCHDOG="1", STATUS="how it is")
    assert heard.has_said(EXTEND_TIMEOUT_USEC="30000000")
    engine.state = "running"
    heard.forget()
    await eventually(lambda: heard.count("WATCHDOG") >= 3, "fed on")
    assert not any("EXTEND_TIMEOUT_USEC" in said for said in heard.said[1:])
    engine.stopping = True
    await eventually(lambda: heard.count("STOPPING"), "stopping")
    task.cancel()


class Family:
    """Two children of a supervisor that the watchdog gives ten seconds."""

    def __init__(self, manager: Notified) -> None:
        self.clock = ManualClock()
        told = ServiceManager(manager.address, watchdog_s=10)
        self.report = FamilyReport(told, 2, self.clock)
        self.children = [Process(1), Process(2)]

    def say(self, index: int, **facts: str) -> None:
        found = service_manager(dict(self.report.environ(index)))
        assert found is not None
        assert found.watchdog_s == 10
        found.tell(**facts)

    def look(self) -> None:
        self.report.look(cast("list[subprocess.Popen[bytes]]", self.children))


@pytest.fixture
def family(heard: Notified) -> Iterator[Family]:
    made = Family(heard)
    yield made
    made.report.close()


def test_a_family_is_ready_once_each_engine_is(heard: Notified, family: Family) -> None:
    family.say(0, READY="1")
    family.say(1, EXTEND_TIMEOUT_USEC="1")
    family.look()
    assert heard.has_said(STATUS="1 of 2 engines serve", WATCHDOG="1")
    assert heard.count("EXTEND_TIMEOUT_USEC") == 1
    assert not heard.count("READY")

    family.say(1, READY="1")
    family.look()
    family.look()
    assert heard.count("READY") == 1


def test_an_engine_that_fell_silent_is_ended_and_the_others_are_not(
    heard: Notified, family: Family
) -> None:
    for index in (0, 1):
        family.say(index, READY="1")
    family.look()
    family.clock.move(9.0)
    family.say(1, WATCHDOG="1")
    family.look()
    assert [child.signals for child in family.children] == [[], []]

    family.clock.move(2.0)
    family.look()
    family.look()

    assert [child.signals for child in family.children] == [[signal.SIGABRT], []]
    heard.forget()
    family.clock.move(5.0)
    family.children[0] = Process(3)
    family.say(0, READY="1")
    family.say(1, WATCHDOG="1")
    family.look()
    assert heard.has_said(STATUS="2 of 2 engines serve", WATCHDOG="1")
    assert family.children[0].signals == []


def test_lines_of_children_leave_nothing_behind(family: Family) -> None:
    path = Path(dict(family.report.environ(0))["NOTIFY_SOCKET"])
    assert path.is_socket()

    family.report.close()

    assert not path.parent.exists()

"""Several engine processes: what they are told, and when they are started again."""

from __future__ import annotations

import os
import subprocess
from typing import Any

import pytest

from engine.runtime.supervisor import Child, environment
from engine.settings import EngineSettings
from engine.testing import ManualClock


class Process:
    """A child that ends when it is told to."""

    def __init__(self, command: list[str], **options: Any) -> None:
        self.command = command
        self.environ = options["env"]
        self.pid = 4711
        self.code: int | None = None

    def poll(self) -> int | None:
        return self.code


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Process]:
    """Give the processes that were started."""
    found: list[Process] = []

    def start(command: list[str], **options: Any) -> Process:
        found.append(Process(command, **options))
        return found[-1]

    monkeypatch.setattr(subprocess, "Popen", start)
    return found


def test_a_child_knows_whose_child_it_is() -> None:
    environ = environment(EngineSettings(name="e", http="127.0.0.1:90"), 1)

    assert environ["ENGINE_PARENT"] == str(os.getpid())
    assert (environ["ENGINE_NAME"], environ["ENGINE_HTTP"]) == ("e-2", "127.0.0.1:91")


def test_children_are_revived_without_waiting_for_each_other(
    clock: ManualClock, started: list[Process]
) -> None:
    children = [Child(["engine"], {}, clock) for _ in range(3)]
    for process in started[:2]:
        process.code = -9

    for child in children:
        child.revive()
    assert len(started) == 3

    clock.move(1.0)
    for child in children:
        child.revive()
    assert len(started) == 5


def test_a_child_that_keeps_ending_is_started_ever_more_rarely(
    clock: ManualClock, started: list[Process]
) -> None:
    child = Child(["engine"], {}, clock)
    pauses = []
    for _ in range(8):
        started[-1].code = 1
        child.revive()
        ended, count = clock.monotonic(), len(started)
        while len(started) == count:
            clock.move(0.1)
            child.revive()
        pauses.append(clock.monotonic() - ended)

    assert pauses[0] <= 1 < 5 <= pauses[-1] <= 15.2


def test_a_start_that_fails_is_tried_again(
    clock: ManualClock, started: list[Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    child = Child(["engine"], {}, clock)
    started[-1].code = 1
    child.revive()

    def fail(*_: Any, **__: Any) -> Process:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    with monkeypatch.context() as without:
        without.setattr(subprocess, "Popen", fail)
        clock.move(1.0)
        child.revive()

    clock.move(2.0)
    child.revive()
    assert len(started) == 2

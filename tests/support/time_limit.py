"""
A pytest plugin: the time limit of a test holds inside uvloop, too, and while it is taken down.

The alarm of pytest-timeout raises ``Failed``, and uvloop lets nothing out of its callbacks but what
ends a program: a test that waited on that loop waited for ever. Here the alarm raises a ``Failed``
that is a SystemExit as well. And what failed gets a limit of its own for its teardown, for which
pytest-timeout keeps none.
"""

from __future__ import annotations

import signal
from collections.abc import Generator
from types import FrameType
from typing import Any

import pytest

SETTINGS = pytest.StashKey[Any]()


class TimeLimit(pytest.fail.Exception, SystemExit):  # type: ignore[misc, name-defined]
    """A test took too long."""


@pytest.hookimpl(wrapper=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> Generator[None, Any, Any]:
    done = yield
    item.stash[SETTINGS] = settings
    raise_failed = signal.getsignal(signal.SIGALRM)
    if not callable(raise_failed):
        return done  # The limit is not kept by an alarm.

    def alarm(number: int, frame: FrameType | None) -> None:
        try:
            raise_failed(number, frame)
        except pytest.fail.Exception as failed:
            raise TimeLimit(f"{item.nodeid}: {failed.msg}") from None

    signal.signal(signal.SIGALRM, alarm)
    return done


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, Any, Any]:
    settings = item.stash.get(SETTINGS, None)
    if settings is not None and signal.getitimer(signal.ITIMER_REAL)[0] == 0:
        item.config.hook.pytest_timeout_set_timer(item=item, settings=settings)
    return (yield)

"""Which processor runs what, so that neither server nor worker waits for the other's core."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import msgspec


class Cores(msgspec.Struct, frozen=True):
    """
    Which processors run what; empty where the machine cannot tell processes where to run.

    Attributes:
        server: For the server, and for producers that share its core.
        worker: For the worker, and for producers that run before it.
        all: Those that may be used.
    """

    server: frozenset[int] = frozenset()
    worker: frozenset[int] = frozenset()
    all: frozenset[int] = frozenset()


def cores() -> Cores:
    """Choose the first core for the server and the second for the worker."""
    if not hasattr(os, "sched_getaffinity"):
        return Cores()
    there = sorted(os.sched_getaffinity(0))
    if len(there) < 2:
        return Cores(*[frozenset(there)] * 3)
    return Cores(frozenset(there[:1]), frozenset(there[1:2]), frozenset(there))


@contextlib.contextmanager
def on(chosen: frozenset[int]) -> Iterator[None]:
    """Start processes on some cores: they keep those of the process that starts them."""
    if not chosen:
        yield
        return
    before = os.sched_getaffinity(0)
    stay_on(chosen)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def stay_on(chosen: frozenset[int]) -> None:
    """Keep this process itself on some cores."""
    if chosen:
        os.sched_setaffinity(0, chosen)

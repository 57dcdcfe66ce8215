"""
Kill a process after each step that it takes outside itself, and run it again.

A step is a statement to PostgreSQL, a command to Redis, an HTTP request, an enqueue, or whatever
calls :func:`step`. One run comes to its end unkilled and counts them. Then, for n = 1, 2, 3 …, a
fresh process prepares a scene and runs the job in it until its n-th step is done, where SIGKILL
ends it; another process then runs the same job to its end, as an engine does that takes over, and
observes what is there. What is observed must be the same each time.

A long run is killed at some of its steps, spread evenly; ``STEPS=all``, as in `make test-full`,
kills it at every one.

A scenario is a class with a constructor without arguments::

    class SendsOnce:
        async def prepare(self) -> dict[str, Any]: ...      # fresh rows; JSON that names them
        async def run(self, scene: dict[str, Any]) -> None: ...      # one delivery of the job
        async def observe(self, scene: dict[str, Any]) -> Any: ...   # JSON without ids or times

Processes are forked from one that has imported everything, so a step costs milliseconds. That one
serves all scenarios of a session of tests.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib
import json
import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from processors.settings import from_env

ROOT = Path(__file__).parents[2]
KILLS_MAX = 8
"""Kills of one scenario, unless all are asked for."""

IMPORTED = ["pytest", "tests.support.steps", "tests.integration.processors.notified", "aiohttp"]
"""What takes long to import and most scenarios use."""


class _Counter:
    """Steps so far, and the one that ends the process; 0 for none."""

    passed = 0
    fatal = 0
    is_off = False


@dataclass(frozen=True)
class Steps:
    """
    What came of a scenario.

    Attributes:
        total: Steps of the run that was not killed.
        unkilled: What was observed after it.
        killed: What was observed after each run that was killed, by the number of the step.
    """

    total: int
    unkilled: Any
    killed: dict[int, Any]

    def differing(self) -> dict[int, Any]:
        """Return the observations that differ from the unkilled one."""
        return {step: seen for step, seen in self.killed.items() if seen != self.unkilled}


def kill_at_each_step(
    scenario: str, environ: Mapping[str, str], *, timeout_s: float = 110
) -> Steps:
    """
    Run a scenario, named ``module:Class``, with a kill at each of its steps.

    Args:
        scenario: The scenario.
        environ: Variables for it, such as the servers' URLs.
        timeout_s: Time limit of it all.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    with tempfile.TemporaryDirectory() as directory:
        results, log = Path(directory, "results"), Path(directory, "log")
        arguments = (scenario, {**os.environ, **environ}, results, log)
        process = context.Process(target=_play, args=arguments)
        process.start()
        try:
            process.join(timeout_s)
            assert process.exitcode == 0, f"{process.exitcode}: {log.read_text()}"
        finally:
            process.kill()
            process.join()
            process.close()
        unkilled, *killed = [json.loads(line) for line in results.read_text().splitlines()]
    return Steps(
        unkilled["step"], unkilled["seen"], {line["step"]: line["seen"] for line in killed}
    )


@contextlib.contextmanager
def uncounted() -> Iterator[None]:
    """Take no steps: the scenario plays the part of another process."""
    _Counter.is_off = True
    try:
        yield
    finally:
        _Counter.is_off = False


def step() -> None:
    """Pass a step; the fatal one ends the process."""
    if _Counter.is_off:
        return
    _Counter.passed += 1
    if _Counter.passed == _Counter.fatal:
        os.kill(os.getpid(), signal.SIGKILL)


def _around(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def stepped(*args: Any, **kwargs: Any) -> Any:
        result = await function(*args, **kwargs)
        step()
        return result

    return stepped


def _instrument() -> None:
    """Count what leaves the process; a call that passes two of these counts twice, harmlessly."""
    import aiohttp
    import asyncpg
    import asyncpg.pool
    import redis.asyncio
    import redis.asyncio.client

    from engine import Client

    for owner, names in (
        (asyncpg.Connection, ("_execute", "_executemany", "execute")),
        (asyncpg.pool.PoolConnectionProxy, ("execute",)),
        (redis.asyncio.Redis, ("execute_command",)),
        (redis.asyncio.client.Pipeline, ("execute",)),
        (aiohttp.ClientSession, ("_request",)),
        (Client, ("enqueue", "enqueue_many")),
    ):
        for name in names:
            setattr(owner, name, _around(getattr(owner, name)))


def _forked(work: Callable[[], Any]) -> tuple[int, list[Any]]:
    """Run work in a fork; returns how the fork ended and the JSON values that it sent."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        status = 1
        try:
            with os.fdopen(writing, "w") as pipe:
                asyncio.run(work()(lambda value: print(json.dumps(value), file=pipe, flush=True)))
            status = 0
        except BaseException:  # noqa: BLE001 - a fork must not return into its parent's code
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stderr.flush()
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        values = [json.loads(line) for line in pipe]
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), values


def _run(scenario: Any, fatal: int) -> dict[str, Any]:
    """Run the scenario; with a fatal step, kill it there and run it again. Tell what is there."""

    async def first(send: Callable[[Any], None]) -> None:
        scene = await scenario.prepare()
        send(scene)
        _Counter.passed, _Counter.fatal = 0, fatal
        await scenario.run(scene)
        send(_Counter.passed)
        _Counter.fatal = 0
        send(await scenario.observe(scene))

    async def again(send: Callable[[Any], None]) -> None:
        await scenario.run(values[0])
        send(await scenario.observe(values[0]))

    ended, values = _forked(lambda: first)
    if ended == 0:
        return {"step": values[1], "seen": values[2]}
    if ended != -signal.SIGKILL:
        raise SystemExit(f"the scenario failed by itself, with {ended}")
    ended, seen = _forked(lambda: again)
    if ended != 0:
        raise SystemExit(f"the run after the kill at step {fatal} failed, with {ended}")
    return {"step": fatal, "seen": seen[0]}


def chosen(total: int, *, kills_max: int) -> list[int]:
    """Choose steps to kill at: all, or some that are spread evenly and hold the first and last."""
    if total <= kills_max:
        return list(range(1, total + 1))
    return sorted({1 + round(n * (total - 1) / (kills_max - 1)) for n in range(kills_max)})


def _play(scenario: str, environ: Mapping[str, str], results: Path, log: Path) -> None:
    """Run a scenario in this process; one line of results unkilled, then one per kill."""
    os.environ.clear()
    os.environ.update(environ)
    with log.open("wb") as output:
        os.dup2(output.fileno(), sys.stdout.fileno())
        os.dup2(output.fileno(), sys.stderr.fileno())
    module, _, name = scenario.partition(":")
    played = getattr(importlib.import_module(module), name)()
    _instrument()
    from_env({})  # What settings mean is read once, before processes are forked.
    with results.open("w") as lines:

        def tell(seen: dict[str, Any]) -> None:
            print(json.dumps(seen), file=lines, flush=True)

        unkilled = _run(played, 0)
        tell(unkilled)
        total = unkilled["step"]
        every = os.environ.get("STEPS") == "all"
        for fatal in chosen(total, kills_max=total if every else KILLS_MAX):
            # A run whose steps differ from one to the next may end before it is killed.
            tell(_run(played, fatal))

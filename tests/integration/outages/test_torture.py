"""Everything at once, for a while."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time

import pytest

from tests.support.daemon import SHORT_LEASES, Daemon, Start
from tests.support.ledger import Ledger, Load
from tests.support.servers import RedisTestServer
from tests.support.waiting import eventually

pytestmark = [pytest.mark.servers, pytest.mark.full, pytest.mark.timeout(300)]

TROUBLE_S = float(os.environ.get("TORTURE_S", "60"))
SEED = int(os.environ.get("TORTURE_SEED", "1"))


class Nemesis:
    """Breaks one thing after the other; replay its choices with TORTURE_SEED."""

    def __init__(self, server: RedisTestServer, start_daemon: Start) -> None:
        self._server = server
        self._start = start_daemon
        self._chance = random.Random(SEED)
        self.engines = [self._engine() for _ in range(3)]

    def _engine(self) -> Daemon:
        return self._start(self._server.url, environ={**SHORT_LEASES, "ENGINE_GRACE_S": "2"})

    async def act(self) -> None:
        name = self._chance.choice(
            ["kill", "kill", "freeze", "terminate", "crash_server", "cut", "flush_scripts"]
        )
        print(name)
        await getattr(self, name)()

    async def kill(self) -> None:
        place = self._chance.randrange(3)
        self.engines[place].kill9()
        self.engines[place] = self._engine()

    async def terminate(self) -> None:
        place = self._chance.randrange(3)
        old = self.engines[place]
        old.terminate()
        self.engines[place] = self._engine()
        await eventually(old.has_ended, "ended")
        # One that was still being imported is ended by the signal itself: it held nothing.
        assert old.wait() in {0, 75, -signal.SIGTERM}

    async def freeze(self) -> None:
        engine = self._chance.choice(self.engines)
        engine.signal(signal.SIGSTOP)
        await asyncio.sleep(self._chance.uniform(0.1, 3))
        engine.signal(signal.SIGCONT)

    async def crash_server(self) -> None:
        await asyncio.to_thread(self._server.kill9)
        await asyncio.sleep(self._chance.uniform(0, 2))
        await asyncio.to_thread(self._server.start)

    async def cut(self) -> None:
        self._server.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    async def flush_scripts(self) -> None:
        self._server.call("SCRIPT", "FLUSH")


async def test_no_accepted_job_is_lost_whatever_dies(
    redis_server: RedisTestServer, start_daemon: Start, ledger: Ledger
) -> None:
    """
    Goal: every accepted job ends once, while engines and server are killed, frozen and cut off.

    Deliveries are lost all the time here, so a job may be dead for that; it is not lost.
    """
    nemesis = Nemesis(redis_server, start_daemon)
    with Load(redis_server) as load:
        deadline = time.monotonic() + TROUBLE_S
        while time.monotonic() < deadline:
            before = len(load.accepted)
            await eventually(lambda b=before: len(load.accepted) > b + 50, "jobs are accepted")
            await nemesis.act()
    for engine in nemesis.engines:
        await eventually(engine.is_ready, "ready")
    await eventually(ledger.is_empty, "all ended", limit_s=60)

    ledger.check(load.accepted, starts_over=None)
    assert {end.reason for ends in ledger.ends().values() for end in ends} <= {
        "",
        "exhausted",
        "crash-loop",
    }

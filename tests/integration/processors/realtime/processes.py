"""Gateways as processes of their own, to be killed."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from engine.embedded import unused_port
from tests.integration.processors.realtime.rig import LIMIT_S, Rig
from tests.support.daemon import ROOT


class GatewayProcess:
    """
    One ``python -m processors gateway``.

    Attributes:
        url: Where clients connect.
        log: What it writes.
    """

    def __init__(self, rig: Rig, directory: Path, environ: dict[str, str]) -> None:
        self.port = unused_port()
        self.url = f"ws://127.0.0.1:{self.port}/ws"
        self.log = directory / f"gateway-{self.port}.log"
        own = ("ENGINE_", "PROCESSORS_")
        self._environ = {
            **{name: text for name, text in os.environ.items() if not name.startswith(own)},
            "ENGINE_REDIS_URL": rig.redis_url,
            "ENGINE_POSTGRES_URL": rig.postgres_url,
            "ENGINE_LOG_FORMAT": "json",
            **environ,
        }
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Start it, and wait until it is ready."""
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "processors", "gateway",
                "--listen", f"127.0.0.1:{self.port}",
                cwd=ROOT, env=self._environ, stdout=log, stderr=log,
            )  # fmt: skip
        async with asyncio.timeout(LIMIT_S):
            while not await self._is_ready():
                assert self._process.returncode is None, self.log.read_text()
                await asyncio.sleep(0.02)

    async def status(self) -> dict[str, Any]:
        """Return what it tells of itself."""
        url = f"http://127.0.0.1:{self.port}/status"
        async with aiohttp.ClientSession() as http, http.get(url) as answer:
            return dict(await answer.json())

    async def end(self, number: int) -> int:
        """Send it a signal, and return how it ended."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(number)
        async with asyncio.timeout(LIMIT_S):
            return await self._process.wait()

    async def _is_ready(self) -> bool:
        url = f"http://127.0.0.1:{self.port}/ready"
        try:
            async with aiohttp.ClientSession() as http, http.get(url) as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False


@asynccontextmanager
async def gateway_process(
    rig: Rig, directory: Path, **environ: str
) -> AsyncIterator[GatewayProcess]:
    """Run one within the block; it is killed at the end, if it is still there."""
    process = GatewayProcess(rig, directory, environ)
    try:
        await process.start()
        yield process
    finally:
        await process.end(signal.SIGKILL)

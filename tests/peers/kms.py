"""
A KMS server in this process, for tests and to be started by hand::

    python -m tests.peers.kms --port 9401

Keys are those of moto. Before it stands what moto lets pass: keys that are disabled or on their way
out refuse, each access is counted, and failures come when they are asked for.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import signal
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
from aiohttp import web
from moto.server import ThreadedMotoServer

HOST: Final = "127.0.0.1"
REGION: Final = "eu-central-1"
TARGET: Final = "X-Amz-Target"
SIGNED: Final = {
    "Authorization": "AWS4-HMAC-SHA256 Credential=key/20260101/eu-central-1/kms/aws4_request"
}
STATES: Final = {"Disabled": "DisabledException", "PendingDeletion": "KMSInvalidStateException"}
USES: Final = frozenset({"GenerateDataKey", "Encrypt", "Decrypt"})
HANG: Final = "hang"
CLOSE: Final = "close"


@dataclass
class KmsPeer:
    """
    A server that runs.

    Attributes:
        url: Its address.
        calls: The operations that it was asked for, in order.
        troubles: What becomes of the next calls, one each: the code of an error, ``hang``,
            ``close``, or an empty string for none.
    """

    url: str
    calls: list[str] = field(default_factory=list)
    troubles: deque[str] = field(default_factory=deque)

    async def make_key(self) -> str:
        """Make a key and return its ARN."""
        answer = await self.ask("CreateKey")
        return str(answer["KeyMetadata"]["Arn"])

    async def ask(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """Do something to a key as its owner does, such as ``DisableKey``."""
        headers = {**SIGNED, TARGET: f"TrentService.{operation}"}
        async with (
            aiohttp.ClientSession() as session,
            session.post(self.url, json=arguments, headers=headers) as answer,
        ):
            assert answer.status == 200, await answer.text()
            self.calls.pop()
            return json.loads(await answer.read() or b"null") or {}


class _Front:
    """Answers for moto, or instead of it."""

    def __init__(self, peer: KmsPeer, behind: str, session: aiohttp.ClientSession) -> None:
        self._peer = peer
        self._behind = behind
        self._session = session
        self.ended = asyncio.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        operation = request.headers[TARGET].partition(".")[2]
        self._peer.calls.append(operation)
        body = await request.read()
        trouble = self._peer.troubles.popleft() if self._peer.troubles else ""
        if trouble == HANG:
            await self.ended.wait()
        if trouble == CLOSE:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if trouble:
            return _error(trouble)
        if operation in USES:
            state = await self._state(json.loads(body)["KeyId"])
            if state in STATES:
                return _error(STATES[state])
        status, answer = await self._ask(operation, body)
        return web.Response(status=status, body=answer, content_type="application/x-amz-json-1.1")

    async def _state(self, key_id: str) -> str:
        status, answer = await self._ask("DescribeKey", json.dumps({"KeyId": key_id}).encode())
        return str(json.loads(answer)["KeyMetadata"]["KeyState"]) if status == 200 else ""

    async def _ask(self, operation: str, body: bytes) -> tuple[int, bytes]:
        headers = {
            **SIGNED,
            TARGET: f"TrentService.{operation}",
            "Content-Type": "application/x-amz-json-1.1",
        }
        async with self._session.post(self._behind, data=body, headers=headers) as answer:
            return answer.status, await answer.read()


def _error(code: str) -> web.Response:
    status = 500 if code in ("KMSInternalException", "DependencyTimeoutException") else 400
    body = json.dumps({"__type": code, "message": "told to fail"})
    return web.Response(status=status, text=body, content_type="application/x-amz-json-1.1")


@contextlib.asynccontextmanager
async def serve_kms(port: int = 0) -> AsyncIterator[KmsPeer]:
    """Run a server without keys."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto = ThreadedMotoServer(ip_address=HOST, port=0, verbose=False)
    moto.start()
    try:
        host, behind = moto.get_host_and_port()
        async with aiohttp.ClientSession() as session:
            peer = KmsPeer("")
            app = web.Application()
            front = _Front(peer, f"http://{host}:{behind}/", session)
            app.router.add_post("/{path:.*}", front.handle)
            runner = web.AppRunner(app, shutdown_timeout=0)
            await runner.setup()
            try:
                await web.TCPSite(runner, HOST, port).start()
                peer.url = f"http://{HOST}:{runner.addresses[0][1]}/"
                yield peer
            finally:
                front.ended.set()
                await runner.cleanup()
    finally:
        moto.stop()


async def _main(port: int) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with serve_kms(port) as peer:
        key = await peer.make_key()
        print(f"KMS at {peer.url}, region {REGION}, key {key}, any credentials", flush=True)
        await ended.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A KMS server that keeps keys in memory.")
    parser.add_argument("--port", type=int, default=9401)
    asyncio.run(_main(parser.parse_args().port))

"""TLS in front of a server that has none, and certificates, good and bad, for tests of it."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import trustme


class Certificates(NamedTuple):
    """
    Files for both sides.

    Attributes:
        ca: The authority that both believe.
        other_ca: One that nobody asked.
        server: Certificate and key of ``localhost``.
        elsewhere: The same for another host.
        expired: The same for ``localhost``, until yesterday.
        client: Certificate and key of an engine.
        client_key: The key alone.
        client_cert: The certificate alone.
        stranger: Certificate and key that the other authority signed.
    """

    ca: Path
    other_ca: Path
    server: Path
    elsewhere: Path
    expired: Path
    client: Path
    client_key: Path
    client_cert: Path
    stranger: Path


def make_certificates(directory: Path) -> Certificates:
    """Make all of them."""
    directory.mkdir(parents=True, exist_ok=True)
    ours, other = trustme.CA(), trustme.CA()
    yesterday = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
    files = Certificates(*(directory / f"{name}.pem" for name in Certificates._fields))
    ours.cert_pem.write_to_path(str(files.ca))
    other.cert_pem.write_to_path(str(files.other_ca))
    client = ours.issue_cert("engine")
    for leaf, path in (
        (ours.issue_cert("localhost"), files.server),
        (ours.issue_cert("elsewhere.example"), files.elsewhere),
        (ours.issue_cert("localhost", not_after=yesterday), files.expired),
        (client, files.client),
        (other.issue_cert("engine"), files.stranger),
    ):
        leaf.private_key_and_cert_chain_pem.write_to_path(str(path))
    client.private_key_pem.write_to_path(str(files.client_key))
    client.cert_chain_pems[0].write_to_path(str(files.client_cert))
    return files


@contextlib.asynccontextmanager
async def tls_in_front(port: int, certificate: Path, ca: Path) -> AsyncIterator[int]:
    """Take TLS connections with client certificates for a plain server; give the port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.load_verify_locations(ca)
    context.verify_mode = ssl.CERT_REQUIRED
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await join(reader, writer, port)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
    """Pass on what both sides say, until one of them ends."""
    behind = await asyncio.open_connection("127.0.0.1", port)
    await asyncio.gather(_copy(reader, behind[1]), _copy(behind[0], writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
    finally:
        writer.close()

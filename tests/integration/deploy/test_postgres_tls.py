"""PostgreSQL over TLS: what its URL demands is kept, by asyncpg and so by the processors."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from tests.support.servers import PostgresTestServer
from tests.support.tls import Certificates, join, make_certificates

pytestmark = pytest.mark.servers


@contextlib.asynccontextmanager
async def in_front(port: int, certificate: Path) -> AsyncIterator[int]:
    """Speak PostgreSQL's way into TLS for a server that has none; give the port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readexactly(8)
            writer.write(b"S")
            await writer.start_tls(context)
            await join(reader, writer, port)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def ask(url: str, port: int, **options: str) -> int:
    """Connect to another port than the URL's, and ask for a number."""
    before, _, after = url.partition("@")
    place = f"localhost:{port}/{after.partition('/')[2].partition('?')[0]}"
    query = "&".join(f"{name}={value}" for name, value in options.items())
    connection = await asyncpg.connect(f"{before}@{place}?{query}", timeout=10)
    try:
        return int(await connection.fetchval("SELECT 17"))
    finally:
        await connection.close()


async def test_the_certificate_of_the_server_is_checked(
    shared_postgres: PostgresTestServer, empty_postgres_url: str, session_directory: Path
) -> None:
    files: Certificates = make_certificates(session_directory / "postgres-tls")
    right = {"sslmode": "verify-full", "sslrootcert": str(files.ca)}

    async with in_front(shared_postgres.port, files.server) as port:
        assert await ask(empty_postgres_url, port, **right) == 17
        with pytest.raises(ssl.SSLCertVerificationError, match=r"issuer|self-signed"):
            await ask(empty_postgres_url, port, **{**right, "sslrootcert": str(files.other_ca)})
    async with in_front(shared_postgres.port, files.elsewhere) as port:
        with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
            await ask(empty_postgres_url, port, **right)
    with pytest.raises(ConnectionError, match="rejected SSL"):
        await ask(empty_postgres_url, shared_postgres.port, **right)

"""The server's configuration under ``deploy/redis``, and TLS on the way to it."""

from __future__ import annotations

import asyncio
import shlex
from pathlib import Path

import pytest

from engine.errors import StoreUnavailable
from engine.settings import EngineSettings
from engine.store.connection import client, pool, sync_client
from engine.store.link import Link
from tests.support.acl import REDIS
from tests.support.daemon import Start
from tests.support.ledger import Ledger, send
from tests.support.servers import REDIS_SERVERS, RedisTestServer, StartRedis
from tests.support.tls import Certificates, make_certificates, tls_in_front
from tests.support.waiting import eventually

pytestmark = pytest.mark.servers

OF_THE_PLACE = {"dir", "aclfile", "tls-port", "port"}
"""What a test has elsewhere."""
STRANGE_CA = "CERTIFICATE_VERIFY_FAILED.*(local issuer|self-signed)"
NO_CERTIFICATE = "CERTIFICATE_REQUIRED|UNKNOWN_CA|closed|reset|Connection lost|alert"


def directives(name: str) -> dict[str, str]:
    """Read a configuration file."""
    lines = [line.strip() for line in (REDIS / name).read_text().splitlines()]
    pairs = [line.partition(" ") for line in lines if line and not line.startswith("#")]
    return {word: rest for word, _, rest in pairs}


@pytest.mark.parametrize(
    "name",
    ["valkey", *(pytest.param(each, marks=pytest.mark.full) for each in REDIS_SERVERS[1:])],
)
def test_a_real_server_takes_the_configuration(start_redis: StartRedis, name: str) -> None:
    wanted = {k: v for k, v in directives("valkey.conf").items() if k not in OF_THE_PLACE}
    assert wanted["maxmemory-policy"] == "noeviction"
    assert wanted["appendonly"] == "yes"

    server = start_redis(name=name, config=wanted)

    with server.client(decode_responses=True) as admin:
        for directive, value in wanted.items():
            found = admin.config_get(directive)[directive]
            assert found == shlex.split(value)[0].replace("2gb", str(2 * 1024**3)), directive


@pytest.fixture(scope="session")
def certificates(session_directory: Path) -> Certificates:
    return make_certificates(session_directory / "tls")


def over_tls(port: int, files: Certificates, **more: str) -> EngineSettings:
    """Give settings of an engine that has everything right, but for what is given."""
    right = {
        "redis_url": f"rediss://localhost:{port}/0",
        "redis_ca_file": str(files.ca),
        "redis_cert_file": str(files.client_cert),
        "redis_key_file": str(files.client_key),
    }
    return EngineSettings(**{**right, **more})  # type: ignore[arg-type]


async def ping(url: str) -> bytes:
    """Ask over the engine's own connection."""
    link = Link(pool(url, name="test", timeout_s=5, connect_timeout_s=2), timeout_s=5)
    try:
        return bytes(await link.one(b"PING"))
    finally:
        link.drop()


async def test_an_engine_works_over_tls_with_a_certificate_of_its_own(
    redis_server: RedisTestServer, start_daemon: Start, ledger: Ledger, certificates: Certificates
) -> None:
    async with tls_in_front(redis_server.port, certificates.server, certificates.ca) as port:
        engine = start_daemon(
            f"rediss://localhost:{port}/0",
            environ={
                "ENGINE_REDIS_CA_FILE": str(certificates.ca),
                "ENGINE_REDIS_CERT_FILE": str(certificates.client_cert),
                "ENGINE_REDIS_KEY_FILE": str(certificates.client_key),
            },
        )
        await eventually(engine.is_ready, "ready")
        accepted = {send(redis_server, "quick", f"q{n}"): 0 for n in range(50)}
        await eventually(ledger.is_empty, "all ended")
        ledger.check(accepted)
        # In a thread: the proxy has to go on meanwhile.
        assert await asyncio.to_thread(engine.stop) == 0


async def test_what_is_wrong_with_tls_is_refused_and_told(
    shared_redis: RedisTestServer, certificates: Certificates
) -> None:
    """Goal: none of them connects, and each says which side did not like what."""
    files, port_behind = certificates, shared_redis.port
    async with tls_in_front(port_behind, files.server, files.ca) as port:
        assert await ping(over_tls(port, files).redis_url) == b"PONG"
        assert (
            await ping(
                over_tls(
                    port, files, redis_cert_file=str(files.client), redis_key_file=""
                ).redis_url
            )
            == b"PONG"
        )
        await refused(
            over_tls(port, files, redis_ca_file=str(files.other_ca)),
            STRANGE_CA,
        )
        await refused(
            over_tls(port, files, redis_cert_file=str(files.stranger), redis_key_file=""),
            NO_CERTIFICATE,
        )
        await refused(over_tls(port, files, redis_cert_file="", redis_key_file=""), NO_CERTIFICATE)
        await refused(over_tls(port, files, redis_ca_file="/no/such.pem"), "No such file")
        with pytest.raises(StoreUnavailable):
            await ping(f"redis://localhost:{port}/0")
    async with tls_in_front(port_behind, files.elsewhere, files.ca) as port:
        await refused(over_tls(port, files), "Hostname mismatch.*localhost")
    async with tls_in_front(port_behind, files.expired, files.ca) as port:
        await refused(over_tls(port, files), "certificate has expired")
    await refused(
        over_tls(port_behind, files), "WRONG_VERSION|record layer|SSL|closed|Timeout connecting"
    )


async def refused(settings: EngineSettings, why: str) -> None:
    with pytest.raises(StoreUnavailable, match=why):
        await ping(settings.redis_url)


@pytest.mark.full
async def test_a_real_server_takes_the_configuration_of_tls(
    start_redis: StartRedis, certificates: Certificates, unused_port: int
) -> None:
    """Debian's Redis is the one at hand that was built with TLS."""
    files = certificates
    wanted = {k: v for k, v in directives("tls.conf").items() if k not in OF_THE_PLACE}
    wanted |= {
        "tls-port": str(unused_port),
        "tls-cert-file": str(files.server),
        "tls-key-file": str(files.server),
        "tls-ca-cert-file": str(files.ca),
    }
    server = start_redis(name="redis70", config=wanted)
    assert server.call("CONFIG", "GET", "tls-auth-clients")

    assert await ping(over_tls(unused_port, files).redis_url) == b"PONG"
    with sync_client(over_tls(unused_port, files).redis_url, name="test") as blocking:
        assert blocking.ping()
    async with client(over_tls(unused_port, files).redis_url, name="test") as other:
        assert await other.ping()
    await refused(
        over_tls(unused_port, files, redis_cert_file="", redis_key_file=""), NO_CERTIFICATE
    )
    await refused(over_tls(unused_port, files, redis_ca_file=str(files.other_ca)), "CERTIFICATE")

"""Fixtures that every test may use: real servers, ports, profiles of hypothesis."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import psutil
import pytest
import uvloop

from engine.embedded import process as embedded_process
from engine.embedded import unused_port as find_unused_port
from tests.support.servers import (
    NotInstalled,
    PostgresTestServer,
    RedisTestServer,
    StartRedis,
)

pytest_plugins = ["tests.support.time_limit"]

SERVER_PROGRAMS = {"valkey-server", "redis-server", "postgres"}

hypothesis.settings.register_profile("ci", derandomize=True, print_blob=True, deadline=None)
hypothesis.settings.register_profile("dev", print_blob=True, deadline=None)
hypothesis.settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev")
)

# Workers that share the tests take their ports from ranges of their own: the port of a server that
# a test has killed and starts again stays free for it.
_worker = os.environ.get("PYTEST_XDIST_WORKER")
if _worker is not None:
    _first = os.getppid() * 37 + int(_worker.removeprefix("gw")) * 2_500
    embedded_process._next_port = itertools.count(_first)


# The browser and its page stay until the end of the session, so they come late.
SLOW_FIRST = ("integration", "guard", "simulation", "property", "store", "browser")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let workers take slow folders first, so that quick files are left and none ends alone."""

    def place(item: pytest.Item) -> int:
        folder = item.path.relative_to(config.rootpath / "tests").parts[0]
        return SLOW_FIRST.index(folder) if folder in SLOW_FIRST else len(SLOW_FIRST)

    if hasattr(config, "workerinput"):
        items.sort(key=place)


def pytest_asyncio_loop_factories() -> dict[str, type[asyncio.AbstractEventLoop]]:
    """Run asynchronous tests on the loop that the daemon uses."""
    return {"uvloop": uvloop.Loop}


@pytest.fixture(scope="session", autouse=True)
def no_leftovers() -> Iterator[None]:
    """Fail the session when a test left a server or an engine running, and end what it left."""
    yield
    left = [child for child in psutil.Process().children(recursive=True) if _is_ours(child)]
    named = [" ".join(child.cmdline()) for child in left]
    for child in left:
        child.kill()
    psutil.wait_procs(left, timeout=10)
    assert not named, f"still running at the end of the session: {named}"


def _is_ours(child: psutil.Process) -> bool:
    try:
        if child.status() == psutil.STATUS_ZOMBIE:
            return False
        return child.name() in SERVER_PROGRAMS or child.cmdline()[1:3] == ["-m", "engine"]
    except psutil.NoSuchProcess:
        return False


@pytest.fixture(scope="session")
def session_directory(no_leftovers: None) -> Iterator[Path]:
    """Give a short path, since socket files have short limits; removed at the end."""
    path = Path(tempfile.mkdtemp(prefix="streamlane-"))
    # As root, PostgreSQL runs as another user, who must pass through.
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def server_directory(session_directory: Path) -> Iterator[Path]:
    """Give a short path of the test's own, removed after it."""
    path = Path(tempfile.mkdtemp(dir=session_directory))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def shared_redis(session_directory: Path) -> Iterator[RedisTestServer]:
    """Give the Valkey that all tests share; do not change its configuration."""
    server = RedisTestServer(session_directory / "valkey")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def redis_url(shared_redis: RedisTestServer) -> str:
    """Give an empty Valkey without persistence."""
    shared_redis.call("FLUSHALL")
    return shared_redis.url


@pytest.fixture
def start_redis(server_directory: Path) -> Iterator[StartRedis]:
    """Give a function that starts a server of the test's own; a missing one skips the test."""
    started: list[RedisTestServer] = []

    def start(**options: object) -> RedisTestServer:
        try:
            server = RedisTestServer(server_directory / f"redis{len(started)}", **options)  # type: ignore[arg-type]
        except NotInstalled as reason:
            pytest.skip(str(reason))
        started.append(server)
        server.start()
        return server

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def redis_server(start_redis: StartRedis) -> RedisTestServer:
    """
    Give a Valkey of the test's own, with AOF, to kill, pause and restart.

    With ``appendfsync everysec`` a busy disk makes the server put even its writes off, by up to
    2 s, and kill -9 then loses what it has acknowledged: seen here, a dozen jobs of 1,500 beside a
    ``dd``. Tests of engines are not about that.
    """
    return start_redis(aof=True, config={"appendfsync": "always"})


@pytest.fixture(scope="session")
def blank_postgres(session_directory: Path) -> PostgresTestServer:
    """Give a stopped server with nothing in it, to be copied."""
    server = PostgresTestServer(session_directory / "blank-postgres")
    server.directory.mkdir()
    server.create()
    return server


@pytest.fixture(scope="session")
def shared_postgres(
    session_directory: Path, blank_postgres: PostgresTestServer
) -> Iterator[PostgresTestServer]:
    """Give the PostgreSQL that all tests share; make databases in it, do not restart it."""
    server = blank_postgres.copy_to(session_directory / "postgres")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def postgres_url(empty_postgres_url: str) -> str:
    """Give a database of the test's own: empty, unless a folder of tests has it otherwise."""
    return empty_postgres_url


@pytest.fixture
def empty_postgres_url(shared_postgres: PostgresTestServer) -> Iterator[str]:
    """Give an empty database of the test's own."""
    name = shared_postgres.create_database()
    yield shared_postgres.url_of(name)
    shared_postgres.drop_database(name)


@pytest.fixture
def postgres_server(
    server_directory: Path, blank_postgres: PostgresTestServer
) -> Iterator[PostgresTestServer]:
    """Give a PostgreSQL of the test's own, to kill and restart."""
    server = blank_postgres.copy_to(server_directory / "postgres")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def unused_port() -> int:
    """Give a loopback port on which nothing listens."""
    return find_unused_port()

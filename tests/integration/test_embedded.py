"""What ``dev`` keeps survives any end of the program, and one program at a time has it."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest
import redis

from engine.embedded import EmbeddedError, EmbeddedServers, RedisServer, valkey_binary
from engine.embedded.leftovers import servers_of, stop_leftovers, wait_until_gone
from engine.embedded.redis_server import DURABLE_CONFIG

pytestmark = pytest.mark.servers

PROGRAMS = ("valkey-server", "postgres")

HOLDER = """
import sys
from engine.embedded import EmbeddedServers
with EmbeddedServers(sys.argv[1]) as servers:
    print(servers.redis_url, servers.postgres_url, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def directory(server_directory: Path) -> Iterator[Path]:
    yield server_directory / "dev"
    stop_leftovers(server_directory, PROGRAMS)


class Holder:
    """Another program that holds a directory, in a process group of its own."""

    def __init__(self, directory: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        self.redis_url, self.postgres_url = self.process.stdout.readline().split()

    def kill_group(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.close()

    def interrupt(self) -> None:
        os.killpg(self.process.pid, signal.SIGINT)
        self.process.wait()
        self.close()

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()


def first_of(directory: Path) -> list[psutil.Process]:
    """List the servers without the processes that PostgreSQL starts and ends at will."""
    found = servers_of(directory, PROGRAMS)
    ids = {process.pid for process in found}
    return sorted(
        (process for process in found if process.ppid() not in ids),
        key=lambda process: process.pid,
    )


async def remember(redis_url: str, postgres_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.set("known", "yes")
    connection = await asyncpg.connect(postgres_url)
    await connection.execute("CREATE TABLE known AS SELECT 'yes' AS answer")
    await connection.close()


async def recall(servers: EmbeddedServers) -> tuple[str, str]:
    with redis.Redis.from_url(servers.redis_url, decode_responses=True) as client:
        in_redis = str(client.get("known"))
    connection = await asyncpg.connect(servers.postgres_url)
    in_postgres = str(await connection.fetchval("SELECT answer FROM known"))
    await connection.close()
    return in_redis, in_postgres


async def test_data_outlives_an_orderly_end(directory: Path) -> None:
    with EmbeddedServers(directory) as servers:
        await remember(servers.redis_url, servers.postgres_url)
    assert servers_of(directory, PROGRAMS) == []

    with EmbeddedServers(directory) as servers:
        assert await recall(servers) == ("yes", "yes")


async def test_data_outlives_a_kill_of_the_process_group(directory: Path) -> None:
    holder = Holder(directory)
    await remember(holder.redis_url, holder.postgres_url)
    holder.kill_group()

    # At once: the servers of the killed program may still be on their way out.
    with EmbeddedServers(directory) as servers:
        assert await recall(servers) == ("yes", "yes")


async def test_data_outlives_a_kill_of_everything(directory: Path) -> None:
    holder = Holder(directory)
    await remember(holder.redis_url, holder.postgres_url)
    found = first_of(directory)
    assert {process.name() for process in found} == set(PROGRAMS)
    # Frozen first, so that none of them can end in an orderly way.
    for process in found:
        process.suspend()
    holder.kill_group()
    for process in found:
        process.kill()

    with EmbeddedServers(directory) as servers:
        assert await recall(servers) == ("yes", "yes")


async def test_servers_end_with_the_program_that_was_killed(directory: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux tells a child of its parent's death")
    holder = Holder(directory)
    found = servers_of(directory, PROGRAMS)
    holder.kill_group()

    assert found
    assert wait_until_gone(found)


async def test_ctrl_c_reaches_the_program_and_not_its_servers(directory: Path) -> None:
    holder = Holder(directory)
    families = {os.getpgid(process.pid) for process in first_of(directory)}

    assert os.getpgid(holder.process.pid) not in families
    holder.interrupt()
    assert servers_of(directory, PROGRAMS) == []


async def test_a_server_left_running_is_stopped_with_its_data_kept(directory: Path) -> None:
    left = RedisServer(valkey_binary(), directory / "valkey", config=DURABLE_CONFIG)
    left.start()
    with redis.Redis.from_url(left.url) as client:
        client.set("known", "yes")

    with EmbeddedServers(directory) as servers:
        assert not left.is_running()
        with redis.Redis.from_url(servers.redis_url) as client:
            assert client.get("known") == b"yes"


async def test_starts_over_a_log_that_was_cut_short(directory: Path) -> None:
    with EmbeddedServers(directory) as servers:
        await remember(servers.redis_url, servers.postgres_url)
    [log] = (directory / "valkey" / "appendonlydir").glob("*.incr.aof")
    with log.open("ab") as tail:
        tail.write(b"*3\r\n$3\r\nSET\r\n$5\r\nkno")

    with EmbeddedServers(directory) as servers:
        assert await recall(servers) == ("yes", "yes")


async def test_starts_over_a_dead_servers_pid_that_another_program_has_now(
    directory: Path,
) -> None:
    with EmbeddedServers(directory) as servers:
        await remember(servers.redis_url, servers.postgres_url)
    stale = directory / "postgres" / "data" / "postmaster.pid"
    stale.write_text(f"{os.getppid()}\n{stale.parent}\n0\n1\n\n127.0.0.1\n\nready\n")

    with EmbeddedServers(directory) as servers:
        assert await recall(servers) == ("yes", "yes")


async def test_begins_again_where_making_the_database_was_cut_short(directory: Path) -> None:
    unfinished = directory / "postgres" / "data.new"
    unfinished.mkdir(parents=True)
    (unfinished / "PG_VERSION").write_text("18\n")

    with EmbeddedServers(directory) as servers:
        await remember(servers.redis_url, servers.postgres_url)
        assert await recall(servers) == ("yes", "yes")


def test_a_second_program_is_told_who_has_the_directory(directory: Path) -> None:
    with EmbeddedServers(directory):
        found = first_of(directory)
        with (
            pytest.raises(EmbeddedError, match=f"in use by process {os.getpid()}"),
            EmbeddedServers(directory),
        ):
            pass
        assert first_of(directory) == found


def test_takes_a_free_port_where_its_own_is_taken(directory: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]

        with EmbeddedServers(directory, redis_port=taken, postgres_port=taken) as servers:
            assert f":{taken}/" not in servers.redis_url + servers.postgres_url
            assert [note.rpartition(" ")[0] for note in servers.ports.notes] == [
                f"port {taken} is in use, so redis listens on port",
                f"port {taken} is in use, so postgres listens on port",
            ]


def test_says_why_a_server_does_not_start(directory: Path) -> None:
    server = RedisServer(valkey_binary(), directory, config={"maxmemory-policy": "nonsense"})

    with pytest.raises(EmbeddedError, match=r"did not start \(ended\)[^~]*maxmemory-policy"):
        server.start()


def test_says_how_to_install_what_is_missing(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    with (
        pytest.raises(EmbeddedError, match=r"pip install 'streamlane\[embedded\]'"),
        EmbeddedServers(directory),
    ):
        pass
    assert not directory.exists()


async def test_root_can_keep_its_data_in_a_directory_closed_to_others(directory: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root runs PostgreSQL as another user")
    if sys.platform != "linux":
        pytest.skip("only Linux lets a process keep a single right of root's")
    closed = directory / "closed"
    closed.mkdir(parents=True)
    closed.chmod(0o700)

    with EmbeddedServers(closed / "dev") as servers:
        await remember(servers.redis_url, servers.postgres_url)
        assert await recall(servers) == ("yes", "yes")
        [postgres] = [process for process in first_of(closed) if process.name() == "postgres"]
        assert postgres.uids().effective != 0


async def test_other_local_users_need_the_password(directory: Path) -> None:
    with EmbeddedServers(directory) as servers:
        password = (directory / "postgres" / "password").read_text()
        without = servers.postgres_url.replace(password, "guessed")
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(without)
    assert (directory / "postgres" / "password").stat().st_mode & 0o077 == 0

"""The server is there, and refuses."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis

from tests.support.daemon import Daemon, Start
from tests.support.ledger import KEYS, Ledger, Load, gate, send
from tests.support.servers import RedisTestServer, StartRedis
from tests.support.waiting import eventually

pytestmark = pytest.mark.servers


def commands_processed(server: RedisTestServer) -> int:
    with server.client() as client:
        return int(client.info("stats")["total_commands_processed"])


def handled(ledger: Ledger, at_least: int) -> bool:
    return len(ledger.lines(event="end")) >= at_least


async def test_a_flushed_server_gets_its_groups_back_and_later_jobs_run(
    redis_server: RedisTestServer, start_daemon: Start, ledger: Ledger
) -> None:
    """Goal: after FLUSHALL (which loses what was there) all that is sent later runs, once."""
    daemon = start_daemon(redis_server.url)
    await eventually(daemon.is_ready, "ready")
    with Load(redis_server):
        for number in range(5):
            done = len(ledger.lines(event="end"))
            await eventually(lambda n=done: handled(ledger, n + 100), "jobs flow")
            redis_server.call("FLUSHALL")
            later = [send(redis_server, "quick", f"later{number}-{n}") for n in range(20)]
            await eventually(lambda ids=later: set(ids) <= ledger.ends().keys(), "later jobs ran")
    await eventually(ledger.is_empty, "drained")

    ledger.check({f"later4-{n}": 0 for n in range(20)})
    await eventually(daemon.is_ready, "ready")
    assert not daemon.has_ended()
    assert daemon.errors().keys() <= {"nogroup", "unblocked"}
    assert daemon.errors()["nogroup"] > 0
    assert len(daemon.log_lines()) < 150


async def test_jobs_that_wait_at_an_idle_engine_survive_the_loss_of_their_group(
    redis_server: RedisTestServer, start_daemon: Start, ledger: Ledger
) -> None:
    """Goal: groups are made anew at 0, so that jobs sent before that are delivered."""
    daemon = start_daemon(redis_server.url)
    await eventually(daemon.is_ready, "ready")

    redis_server.call("DEL", *KEYS.lanes.values())
    accepted = {send(redis_server, "quick", f"q{n}"): 0 for n in range(3)}

    await eventually(ledger.is_empty, "drained")
    ledger.check(accepted)
    await eventually(daemon.is_ready, "ready")


async def test_a_server_without_memory_refuses_producers_while_jobs_end(
    redis_server: RedisTestServer, start_daemon: Start, ledger: Ledger
) -> None:
    """
    Goal: at maxmemory with noeviction, jobs in hand finish, are retried and die; producers get
    OOM; /ready says so, and recovers when there is room again.
    """
    daemon = start_daemon(redis_server.url)
    await eventually(daemon.is_ready, "ready")
    accepted = {send(redis_server, kind, f"before-{kind}"): 0 for kind in ("quick", "failing")}
    opened = gate(ledger.path.parent)
    for n in range(20):
        accepted[send(redis_server, "slow", f"slow{n}", gate=str(opened))] = 0
    for n in range(20):
        accepted[send(redis_server, "flaky", f"flaky{n}", fails=2)] = 0
    await eventually(lambda: len(ledger.lines(event="start")) >= 24, "jobs run")

    redis_server.call("CONFIG", "SET", "maxmemory", "1mb")
    with pytest.raises(redis.OutOfMemoryError):
        send(redis_server, "quick", "refused")
    await eventually(lambda: daemon.is_unready("maxmemory|oom"), "unready")
    opened.touch()
    await eventually(ledger.is_empty, "all ended without memory")
    ledger.check(accepted)
    assert ledger.ends()["before-failing"][0].reason == "exhausted"
    assert daemon.is_unready("maxmemory|oom")
    await eventually(lambda: daemon.errors().get("oom"), "errors counted")

    redis_server.call("CONFIG", "SET", "maxmemory", "0")
    await eventually(daemon.is_ready, "ready again")
    accepted[send(redis_server, "quick", "after")] = 0
    await eventually(lambda: "after" in ledger.ends(), "later job ran")
    assert len(daemon.log_lines()) < 150


async def test_an_engine_starts_on_a_server_without_memory(
    redis_server: RedisTestServer, start_daemon: Start, ledger: Ledger
) -> None:
    """Goal: an engine can be replaced while memory is full; it works the backlog off."""
    first = start_daemon(redis_server.url)
    await eventually(first.is_ready, "ready")
    assert first.stop() == 0
    accepted = {send(redis_server, "quick", f"q{n}"): 0 for n in range(10)}
    redis_server.call("CONFIG", "SET", "maxmemory", "1mb")

    daemon = start_daemon(redis_server.url)

    await eventually(ledger.is_empty, "drained")
    ledger.check(accepted)
    assert daemon.is_unready("maxmemory")


async def test_a_read_only_server_is_waited_for(
    redis_server: RedisTestServer, start_redis: StartRedis, start_daemon: Start, ledger: Ledger
) -> None:
    """Goal: while the server follows another one nothing is lost; afterwards all goes on."""
    daemon = start_daemon(redis_server.url)
    await eventually(daemon.is_ready, "ready")
    opened = gate(ledger.path.parent)
    accepted = {send(redis_server, "slow", f"s{n}", gate=str(opened)): 0 for n in range(5)}
    await eventually(lambda: len(ledger.lines(event="start")) == 5, "jobs run")

    # The other one is not there, so no data are replaced.
    redis_server.call("REPLICAOF", "127.0.0.1", "1")
    opened.touch()
    await eventually(lambda: daemon.is_unready("(?i)read.only"), "unready")
    await eventually(lambda: daemon.errors().get("readonly", 0) > 3, "tries")
    before = commands_processed(redis_server)
    errors = daemon.errors()["readonly"]
    await eventually(lambda: daemon.errors()["readonly"] > errors + 10, "tries on")
    assert commands_processed(redis_server) - before < 2_000
    assert len(ledger.lines(event="end")) == 5
    assert ledger.ends() == {}

    redis_server.call("REPLICAOF", "NO", "ONE")
    await eventually(daemon.is_ready, "ready again")
    await eventually(ledger.is_empty, "drained")
    ledger.check(accepted)
    assert len(daemon.log_lines()) < 100


async def test_a_changed_password_is_waited_for_and_named(
    start_redis: StartRedis, start_daemon: Start, ledger: Ledger, redis_server: RedisTestServer
) -> None:
    """Goal: a rotated password stops the engine's work, not the engine; it says why."""
    daemon = start_daemon(redis_server.url)
    await eventually(daemon.is_ready, "ready")
    opened = gate(ledger.path.parent)
    accepted = {send(redis_server, "slow", f"s{n}", gate=str(opened)): 0 for n in range(5)}
    await eventually(lambda: len(ledger.lines(event="start")) == 5, "jobs run")

    with redis_server.client() as operator:
        operator.config_set("requirepass", "other")
        operator.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        opened.touch()
        await eventually(lambda: daemon.is_unready("(?i)noauth|auth"), "unready")
        await eventually(lambda: daemon.errors().get("noauth", 0) > 5, "tries")
        operator.config_set("requirepass", "")

    await eventually(daemon.is_ready, "ready again")
    await eventually(ledger.is_empty, "drained")
    ledger.check(accepted)
    assert len(daemon.log_lines()) < 100


async def test_an_engine_with_a_wrong_password_says_so_until_it_is_right(
    start_redis: StartRedis, start_daemon: Start
) -> None:
    server = start_redis(password="right")
    daemon = start_daemon(server.url.replace("right", "wrong"))

    await eventually(lambda: daemon.is_unready("(?i)noauth|password"), "unready")
    await eventually(lambda: daemon.errors().get("noauth", 0) > 3, "tries")
    server.call("CONFIG", "SET", "requirepass", "wrong")

    await eventually(daemon.is_ready, "ready")
    assert daemon.stop() == 0
    log = daemon.log.read_text()
    assert "wrong@" not in log
    assert len(log.splitlines()) < 50


async def test_flushed_scripts_are_loaded_again_under_load(
    redis_server: RedisTestServer, start_daemon: Start, ledger: Ledger
) -> None:
    daemon = start_daemon(redis_server.url)
    await eventually(daemon.is_ready, "ready")
    with Load(redis_server) as load:
        for _ in range(50):
            before = len(load.accepted)
            await eventually(lambda b=before: len(load.accepted) > b + 10, "jobs flow")
            redis_server.call("SCRIPT", "FLUSH")
    await eventually(ledger.is_empty, "drained")

    ledger.check(load.accepted)
    assert daemon.errors().keys() <= {"noscript"}


@contextmanager
def busy(server: RedisTestServer) -> Iterator[None]:
    """Keep the server in a script until the block ends."""

    def run() -> None:
        with server.client(socket_timeout=60) as client, pytest.raises(redis.ResponseError):
            client.eval("while true do end", 0)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        server.call("SCRIPT", "KILL")
        thread.join()


async def test_a_server_busy_with_a_script_is_waited_for(
    start_redis: StartRedis, redis_server: RedisTestServer, start_daemon: Start, ledger: Ledger
) -> None:
    daemon = start_daemon(redis_server.url)
    await eventually(daemon.is_ready, "ready")
    redis_server.call("CONFIG", "SET", "busy-reply-threshold", "20")
    opened = gate(ledger.path.parent)
    accepted = {send(redis_server, "slow", f"s{n}", gate=str(opened)): 0 for n in range(5)}
    await eventually(lambda: len(ledger.lines(event="start")) == 5, "jobs run")

    with busy(redis_server):
        opened.touch()
        await eventually(lambda: daemon.is_unready("redis"), "unready")
        await eventually(lambda: daemon.errors().get("busy", 0) > 3, "tries")

    await eventually(daemon.is_ready, "ready again")
    await eventually(ledger.is_empty, "drained")
    ledger.check(accepted)


async def test_a_server_that_cannot_save_is_waited_for(
    start_redis: StartRedis, start_daemon: Start, tmp_path
) -> None:
    """Goal: MISCONF (here: a failed RDB save) refuses all writes; afterwards all goes on."""
    server = start_redis(config={"save": "1 1"})
    ledger = Ledger(tmp_path / "ledger", server)
    daemon = start_daemon(server.url)
    await eventually(daemon.is_ready, "ready")
    opened = gate(tmp_path)
    accepted = {send(server, "slow", f"s{n}", gate=str(opened)): 0 for n in range(5)}
    await eventually(lambda: len(ledger.lines(event="start")) == 5, "jobs run")

    # What is saved cannot take the place of a directory that is not empty.
    dump = server.directory / "dump.rdb"
    dump.unlink(missing_ok=True)
    (dump / "in-the-way").mkdir(parents=True)
    send(server, "quick", "makes-it-save")
    accepted["makes-it-save"] = 0
    await eventually(lambda: fails_to_save(server), "saving fails")
    opened.touch()
    await eventually(lambda: daemon.is_unready("redis"), "unready")
    await eventually(lambda: daemon.errors().get("misconf", 0) > 3, "tries")
    shutil.rmtree(dump)
    server.call("BGSAVE")

    await eventually(daemon.is_ready, "ready again")
    await eventually(ledger.is_empty, "drained")
    ledger.check(accepted)
    assert len(daemon.log_lines()) < 100


def fails_to_save(server: RedisTestServer) -> bool:
    with server.client() as client:
        return bool(client.info("persistence")["rdb_last_bgsave_status"] == "err")


def clients(server: RedisTestServer, daemon: Daemon) -> int:
    with server.client() as client:
        return sum(f"-{daemon.pid}-" in each["name"] for each in client.client_list())


async def test_killed_connections_are_made_again(
    redis_server: RedisTestServer, start_daemon: Start, ledger: Ledger
) -> None:
    daemon = start_daemon(redis_server.url)
    await eventually(daemon.is_ready, "ready")
    with Load(redis_server) as load:
        for _ in range(20):
            before = len(load.accepted)
            await eventually(lambda b=before: len(load.accepted) > b + 20, "jobs flow")
            redis_server.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    await eventually(ledger.is_empty, "drained")

    ledger.check(load.accepted)
    await eventually(daemon.is_ready, "ready")
    assert daemon.errors()["connection"] > 0
    assert 0 < clients(redis_server, daemon) < 10

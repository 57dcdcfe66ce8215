"""What a real engine tells systemd, heard on a real datagram socket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.daemon import Daemon, Start
from tests.support.ledger import Ledger, gate, send
from tests.support.notified import Notified
from tests.support.servers import RedisTestServer
from tests.support.waiting import eventually

pytestmark = pytest.mark.servers

WATCHDOG_S = 1.0
RENEWING = {"ENGINE_LEASE_MS": "2000", "ENGINE_RENEW_MS": "400"}


@pytest.fixture
def notified(server_directory: Path) -> Iterator[Notified]:
    manager = Notified(server_directory / "notify.sock")
    yield manager
    manager.close()


def told(manager: Notified) -> dict[str, str]:
    """Give the variables that systemd sets; the pid is the process's own, so it is left out."""
    return {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": f"{WATCHDOG_S * 1e6:.0f}"}


def children(daemon: Daemon) -> set[int]:
    return {child.pid for child in psutil.Process(daemon.pid).children()}


async def test_an_engine_tells_of_its_start_its_life_and_its_end(
    redis_server: RedisTestServer, start_daemon: Start, ledger: Ledger, notified: Notified
) -> None:
    """
    Goal: ready once it serves and not before, food for the watchdog while the loop turns and none
    while a handler blocks it, and its end at once on SIGTERM.
    """
    redis_server.stop()
    engine = start_daemon(redis_server.url, environ={**told(notified), **RENEWING})
    await eventually(lambda: notified.count("EXTEND_TIMEOUT_USEC"), "asks for time to start")
    await eventually(lambda: "redis: " in str(notified.hear()), "says what it waits for")
    assert not notified.count("READY")
    redis_server.start()
    await eventually(lambda: notified.has_said(READY="1"), "ready")
    assert engine.is_ready()

    notified.forget()
    await eventually(lambda: notified.count("WATCHDOG") >= 2, "fed")
    assert notified.has_said(WATCHDOG="1", STATUS="0 jobs of 1 queues at work")
    assert not notified.count("READY"), "said once"

    opened = gate(ledger.path.parent)
    send(redis_server, "blocking", "b1", gate=str(opened))
    await eventually(lambda: ledger.lines(event="start"), "the loop is blocked")
    notified.forget()
    # The job's lease is renewed by a thread beside the loop: some other sign that time goes by.
    calls = renewals(redis_server)
    await eventually(lambda: renewals(redis_server) >= calls + 4, "time goes by")
    assert notified.hear() == []
    opened.touch()
    await eventually(lambda: notified.count("WATCHDOG"), "fed again")

    assert engine.stop() == 0
    assert notified.has_said(STOPPING="1")


@pytest.mark.full
async def test_several_engines_tell_as_one_service(
    redis_server: RedisTestServer, start_daemon: Start, notified: Notified, ledger: Ledger
) -> None:
    """
    Goal: the supervisor alone speaks, ready once all engines are; one whose loop stands still is
    ended and replaced, as systemd would do it, while the others go on.
    """
    supervisor = start_daemon(
        redis_server.url,
        arguments=("--processes", "2", "--concurrency", "1"),
        environ={**told(notified), **RENEWING, "ENGINE_PREFETCH_MAX": "1"},
    )
    await eventually(lambda: notified.has_said(READY="1"), "ready")
    assert supervisor.is_ready()
    await eventually(lambda: notified.has_said(STATUS="2 of 2 engines serve"), "all serve")
    before = children(supervisor)

    opened = gate(ledger.path.parent)
    send(redis_server, "blocking", "b1", gate=str(opened))
    (line,) = await eventually(lambda: ledger.lines(event="start"), "the loop is blocked")
    await eventually(lambda: not psutil.pid_exists(line.pid), "ended")
    opened.touch()
    await eventually(lambda: len(children(supervisor)) == 2, "replaced")
    assert children(supervisor) > before - {line.pid}
    notified.forget()
    await eventually(lambda: notified.has_said(STATUS="2 of 2 engines serve"), "all serve again")
    assert any('"engine_frozen"' in text for text in supervisor.log_lines())

    assert supervisor.stop() == 0
    assert notified.has_said(STOPPING="1")


def renewals(server: RedisTestServer) -> int:
    """Count how often leases were renewed."""
    with server.client() as client:
        return int(client.info("commandstats").get("cmdstat_xclaim", {}).get("calls", 0))

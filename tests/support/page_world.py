"""A daemon with its page, over queues in every state that there is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from engine.admin import Admin, make_rule, new_schedule
from tests.support.daemon import Daemon
from tests.support.page_app import HOSTILE, QUEUES
from tests.support.queue_writer import QueueWriter

APP = "tests.support.page_app:build"
SETTINGS = {
    "ENGINE_NAME": "eng-here",
    "ENGINE_QUEUE_CONCURRENCY": "indexing=2,batch-message=6,steering=4",
    "ENGINE_LOG_LEVEL": "warning",
    # A browser on a busy machine holds connections for longer than a test of them wants.
    "ENGINE_SOCKET_TIMEOUT_MS": "5000",
}
BEHIND_MS = 252_000
"""How long the oldest job of the queue that is behind has waited."""

FAILURES = (
    ("provider answered 421 to delivery {n}", 14),
    ("no key 17f3 for conversation {n}", 9),
    ("timeout after {n} ms", 5),
    ("certificate has expired", 2),
    ('<b>not bold</b> & "quoted" in message {n}', 1),
)
"""Errors of dead jobs and how many have each; numbers do not make groups of their own."""


class Page:
    """
    One page: the server below it, the daemon that serves it, and hands to change both.

    Args:
        url: The server.
        daemon: The daemon, which runs.
    """

    def __init__(self, url: str, daemon: Daemon) -> None:
        self.redis_url = url
        self.daemon = daemon
        self.address = f"http://127.0.0.1:{daemon.port}"
        self.queues = {name: QueueWriter(url, name) for name in (*QUEUES, *HOSTILE)}

    def enqueue(self, queue: str, job_type: str, lane: str = "normal", **fields: Any) -> str:
        """
        Send a job as a producer would; ``payload`` is its payload, the rest are its fields.

        Returns:
            Its entry's id.
        """
        entry, payload = fields.pop("entry", "*"), fields.pop("payload", {})
        if not isinstance(payload, bytes):
            payload = msgspec.json.encode(payload)
        told = {"type": job_type, "data": payload, **fields}
        flat = [_bytes(part) for pair in told.items() for part in pair]
        return self.queues[queue].enqueue(flat, lane=lane, entry=entry)

    def close(self) -> None:
        """Close the connections."""
        for queue in self.queues.values():
            queue.close()


def _bytes(part: str | bytes | int) -> bytes:
    return part if isinstance(part, bytes) else str(part).encode()


@contextmanager
def page_of(directory: Path, url: str, *, app: str = APP, **environ: str) -> Iterator[Page]:
    """Run a daemon with its page over a server; nothing is in its queues."""
    daemon = Daemon(directory, url, app=app, environ={**SETTINGS, **environ})
    daemon.start()
    page = Page(url, daemon)
    try:
        until(lambda: daemon.readiness().is_ready)
        yield page
    finally:
        page.close()
        daemon.clean_up()


async def prepare(url: str) -> None:
    """Change what engines go by, before one starts."""
    async with Admin(url, who="on-call") as admin:
        await admin.pause("cleanup", reason="index rebuild")
        await admin.hold("notification", "digest", reason="push provider refused the key (403)")
        await admin.set_limit("batch-message", "type:campaign", make_rule("type:campaign", rate=5))
        daily = new_schedule("daily-sweep", payload={}, type="sweep", cron="0 3 * * *")
        await admin.schedule_add("cleanup", "daily-sweep", daily)
        hourly = new_schedule("hourly-sweep", payload={}, type="sweep", every_ms=3_600_000)
        await admin.schedule_add("cleanup", "hourly-sweep", hourly)
        await admin.schedule_pause("cleanup", "hourly-sweep", reason="too much")


def seed(page: Page) -> None:
    """Bring queues into every state, by jobs that really run; :func:`prepare` came before."""
    _seed_behind(page)
    _seed_cleanup(page)
    _seed_others(page)
    _seed_engines(page)
    until(lambda: _is_seeded(page))


def _seed_behind(page: Page) -> None:
    """Two jobs that never end take all slots, and many wait behind them since minutes."""
    for number in range(2):
        page.enqueue(
            "indexing", "index-message", payload={"do": "hang", "say": f"segment {number} of 2"}
        )
    until(lambda: _pending(page, "indexing", "normal") == 2)
    at_ms = page.queues["indexing"].now_ms() - BEHIND_MS
    for number in range(180):
        lane = "low" if number % 3 else "high"
        page.enqueue(
            "indexing", "index-message", lane, entry=f"{at_ms + number}-1", payload={"n": number}
        )


def _seed_cleanup(page: Page) -> None:
    """Jobs of all lanes that wait, since their queue is paused, and some for later."""
    for number in range(64):
        lane = ("low", "low", "normal", "critical")[number % 4]
        page.enqueue("cleanup", "sweep", lane, id=f"sweep-{number}", payload={"day": number})


def _seed_others(page: Page) -> None:
    """Done, retried, dead, held, delayed and parked jobs, and a flow."""
    for number in range(60):
        page.enqueue(
            "message-delivery",
            "send-message",
            id=f"message-{number}",
            payload={"to": f"user-{number}", "say": "sent", "give": {"receipt": number}},
        )
    for number in range(8):
        page.enqueue("message-delivery", "send-message", delay=3_600_000 + number, payload={})
    for message, count in FAILURES:
        for number in range(count):
            told = {"do": "raise", "say": message.format(n=number), "user": f"user-{number}"}
            kind = "encrypt" if number % 2 else "rotate-keys"
            page.enqueue("encryption", kind, payload=told, traceparent=TRACE)
    page.enqueue("notification", "push", payload={"do": "once", "say": "try again"})
    page.enqueue("notification", "push", payload={"do": "hang", "say": "half way"})
    for number in range(12):
        page.enqueue("notification", "digest", payload={"n": number})
    for number in range(5):
        page.enqueue("batch-message", "part", key="tenant-7", payload={"do": "hang", "n": number})
    parts = [{"type": "part", "data": {"do": "hang"}}, {"type": "part", "data": {"give": 7}}]
    page.enqueue(
        "batch-message",
        "campaign",
        id="campaign-1",
        children=msgspec.json.encode(parts),
        results=1,
    )


TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def _seed_engines(page: Page) -> None:
    """Engines elsewhere, whose last beats lie ahead, so that they stay live."""
    for number in range(5):
        page.queues["message-delivery"].beat(
            f"eng-{number}",
            silent_ms=-3_600_000,
            types=("send-message",),
            host=f"10.4.2.{number}",
            version="1.3.9" if number == 4 else "1.4.0",
            loop_lag_ms=412.0 if number == 0 else 3.0,
            rss_bytes=90_000_000,
        )


def _pending(page: Page, queue: str, lane: str) -> int:
    writer = page.queues[queue]
    return int(writer.call("XPENDING", writer.keys.lane(lane), "engine")[0])


def _is_seeded(page: Page) -> bool:
    queues = page.queues
    counters = queues["message-delivery"]
    done = counters.call("HGET", counters.keys.stats, "done:send-message") or 0
    dead = queues["encryption"]
    held = queues["notification"]
    flows = queues["batch-message"]
    return (
        int(done) == 60
        and dead.call("XLEN", dead.keys.dead) == sum(count for _, count in FAILURES)
        and held.call("XLEN", held.keys.held("digest")) == 12
        and flows.call("ZCARD", flows.keys.flows) == 1
        and flows.call("ZCARD", flows.keys.parked("normal")) == 4
    )


def until(done: Callable[[], bool], limit_s: float = 60.0) -> None:
    """Wait until something is so."""
    end = time.monotonic() + limit_s
    while not done():
        assert time.monotonic() < end, f"not so within {limit_s} s"
        time.sleep(0.02)


__all__ = ["FAILURES", "Page", "page_of", "prepare", "seed", "until"]

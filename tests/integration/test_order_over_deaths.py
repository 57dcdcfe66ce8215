"""Order by key over processes that die: engines at every step, engines that freeze, the server."""

from __future__ import annotations

import random
import signal
from collections import defaultdict
from collections.abc import Collection

import pytest

from tests.support.daemon import SHORT_LEASES, Daemon, Start
from tests.support.ledger import Ledger, gate
from tests.support.servers import RedisTestServer
from tests.support.waiting import eventually

pytestmark = pytest.mark.servers

KEYS_MAX = 12
ENVIRON = {**SHORT_LEASES, "ENGINE_CONCURRENCY": "8"}


class Feed:
    """Jobs of some keys, each named by its key and its place there, as ``k3.17``."""

    def __init__(self, ledger: Ledger, seed: int) -> None:
        print(f"seed {seed}")
        self._ledger = ledger
        self._chance = random.Random(seed)
        self._counts: dict[str, int] = defaultdict(int)
        self.accepted: dict[str, int] = {}

    def add(self, count: int) -> None:
        """Add so many."""
        with self._ledger.server.client() as client:
            pipe = client.pipeline(transaction=False)
            for _ in range(count):
                key = f"k{self._chance.randrange(KEYS_MAX)}"
                self._counts[key] += 1
                job_id = f"{key}.{self._counts[key]}"
                job_type = self._chance.choice(["quick", "quick", "quick", "flaky"])
                told = {"type": job_type, "data": '{"fails":1}', "id": job_id, "key": key}
                pipe.xadd(self._ledger.keys.lane("normal"), told)
                self.accepted[job_id] = 0
            pipe.execute()

    def add_until_ended(self, engines: Collection[Daemon]) -> bool:
        """Tell whether all of these engines are gone; until then, add some jobs."""
        if all(engine.has_ended() for engine in engines):
            return True
        if len(self.accepted) < 3_000:
            self.add(10)
        return False


def check_order(ledger: Ledger, *, gone: Collection[int] = (), again: int = 0) -> None:
    """
    Hold the ledger against the order.

    Args:
        ledger: What the handlers wrote, in the order in which they wrote it.
        gone: Processes whose runs may have no end, since they were killed or frozen.
        again: How many runs of a job that had run to its end before may start.
    """
    last: dict[str, int] = defaultdict(int)
    ended: dict[str, set[int]] = defaultdict(set)
    running: dict[str, set[int]] = defaultdict(set)
    for line in ledger.lines():
        key, _, place = line.id.partition(".")
        number = int(place)
        if line.event != "start":
            running[key].discard(line.pid)
            if line.event == "end":
                ended[key].add(number)
            continue
        assert not running[key] - set(gone), f"{line.id} starts while {running[key]} run"
        running[key].add(line.pid)
        if number in ended[key]:
            again -= 1
        assert number in {last[key], last[key] + 1}, f"{line.id} after {key}.{last[key]}"
        assert number == last[key] or not last[key] or last[key] in ended[key], (
            f"{line.id} starts before the end of {key}.{last[key]}"
        )
        last[key] = number
    assert again >= 0, f"{-again} runs too many"


def is_let_go(ledger: Ledger) -> bool:
    """Tell whether no key is kept, and nobody waits."""
    keys = ledger.keys
    names = [keys.busy("normal"), keys.parked("normal")]
    assert not ledger.server.call("EXISTS", *names)
    return ledger.is_empty()


@pytest.mark.parametrize(
    "places",
    [
        ("K3@2", "K5@2", "K13@1"),
        pytest.param(
            ("K0@3", "K1@2", "K3@5", "K4@4", "K5@3", "K6@3", "K7a@2", "K7b@1", "K13@2"),
            marks=pytest.mark.full,
        ),
    ],
    ids=["some", "all"],
)
async def test_engines_that_die_at_every_step_leave_the_order_to_others(
    redis_server: RedisTestServer, start_daemon: Start, ledger: Ledger, places: tuple[str, ...]
) -> None:
    """
    Goal: whatever the engine had done that held the head of a key, the next one waits for it.

    Method: engines, each of which dies at a step of its own; then one that lives.
    """
    feed = Feed(ledger, 1)
    feed.add(100)
    dying = [
        start_daemon(redis_server.url, environ={**ENVIRON, "ENGINE_FAIL": f"{place}:kill"})
        for place in places
    ]
    await eventually(lambda: feed.add_until_ended(dying), "all have died", limit_s=60)
    assert [engine.wait() for engine in dying] == [-9] * len(dying)
    start_daemon(redis_server.url, environ=ENVIRON)
    await eventually(lambda: is_let_go(ledger), "all ended")

    # Each death may cost what the engine had run and not yet settled.
    ledger.check(feed.accepted, starts_over=None)
    check_order(ledger, gone=[engine.pid for engine in dying], again=8 * len(dying))


async def test_the_order_holds_over_a_killed_server(
    redis_server: RedisTestServer, start_daemon: Start, ledger: Ledger
) -> None:
    feed = Feed(ledger, 2)
    feed.add(100)
    for _ in range(2):
        start_daemon(redis_server.url, environ=ENVIRON)
    for _ in range(2):
        before = len(ledger.lines(event="end"))
        feed.add(200)
        await eventually(lambda b=before: len(ledger.lines(event="end")) > b + 50, "jobs run")  # type: ignore[misc]
        redis_server.restart(kill=True)
    await eventually(lambda: is_let_go(ledger), "all ended")

    ledger.check(feed.accepted)
    check_order(ledger)


@pytest.mark.full
async def test_a_frozen_engine_keeps_its_keys_until_its_lease_ends(
    redis_server: RedisTestServer, start_daemon: Start, ledger: Ledger
) -> None:
    """Goal: what it held runs again elsewhere; its own results are dropped when it wakes."""
    lane, opened = ledger.keys.lane("normal"), gate(ledger.path.parent)
    frozen = start_daemon(redis_server.url, environ=ENVIRON)
    for number in range(1, 4):
        told = {"type": "slow", "data": f'{{"gate":"{opened}"}}', "id": f"a.{number}", "key": "a"}
        redis_server.call("XADD", lane, "*", *(part for pair in told.items() for part in pair))
    await eventually(lambda: ledger.lines("a.1", "start"), "runs")
    frozen.signal(signal.SIGSTOP)
    start_daemon(redis_server.url, environ=ENVIRON)
    await eventually(lambda: len(ledger.lines("a.1", "start")) == 2, "runs again")
    frozen.signal(signal.SIGCONT)
    await eventually(lambda: ledger.lines("a.1", "cancelled"), "cancelled")
    opened.touch()
    await eventually(lambda: is_let_go(ledger), "all ended")

    ledger.check({f"a.{number}": 0 for number in range(1, 4)}, starts_over=1)
    check_order(ledger, gone=[frozen.pid])

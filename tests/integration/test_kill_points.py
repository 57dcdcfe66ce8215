"""
Engines are killed with SIGKILL at every step of a job's life; others finish what they left.

=======  ==========================================  =====================
place    where                                       deliveries lost there
=======  ==========================================  =====================
K0       before a read                               none
K1       delivered, the reply just read              one
K2       decoded, before the handler                 one
K3       in the handler                              one
K4       the handler is through, its effect stands   one
K5       before the settlement is sent               one
K6       after it was applied                        none
K7a, b   before and after one with a retry           one, none
K8a, b   before and after one with a dead letter     one, none
K9       lost jobs claimed                           one more
K10      due jobs promoted                           none
K11      to be handed back, while stopping           one
K12a, b  before and after a schedule's tick          none
K13      gates have answered                         one
=======  ==========================================  =====================

K12 is tried in ``test_schedules.py``, K13 in ``test_order_over_deaths.py``.
"""

from __future__ import annotations

import pytest

from tests.support.daemon import SHORT_LEASES, Start
from tests.support.ledger import Ledger, gate, send
from tests.support.servers import RedisTestServer
from tests.support.waiting import eventually

pytestmark = pytest.mark.servers


async def finish(ledger: Ledger, start_daemon: Start) -> None:
    """Let a second engine end everything."""
    start_daemon(ledger.server.url, environ=SHORT_LEASES)
    await eventually(ledger.is_empty, "all ended")


def handled(ledger: Ledger, job_id: str) -> list[tuple[int, int]]:
    return [(line.attempt, line.deliveries) for line in ledger.lines(job_id, "start")]


@pytest.mark.parametrize(
    ("place", "job_type", "starts"),
    [
        ("K0@1", "quick", [(1, 1)]),
        ("K1@1", "quick", [(1, 2)]),
        ("K2@1", "quick", [(1, 2)]),
        ("K3@1", "quick", [(1, 1), (1, 2)]),
        ("K4@1", "quick", [(1, 1), (1, 2)]),
        ("K5@1", "quick", [(1, 1), (1, 2)]),
        ("K6@1", "quick", [(1, 1)]),
        ("K7a@1", "flaky", [(1, 1), (1, 2), (2, 1)]),
        ("K7b@1", "flaky", [(1, 1), (2, 1)]),
        ("K8a@1", "failing", [(1, 1), (2, 1), (3, 1), (3, 2)]),
        ("K8b@1", "failing", [(1, 1), (2, 1), (3, 1)]),
    ],
)
async def test_a_killed_engine_costs_at_most_the_delivery_that_it_held(
    redis_server: RedisTestServer,
    start_daemon: Start,
    ledger: Ledger,
    place: str,
    job_type: str,
    starts: list[tuple[int, int]],
) -> None:
    first = start_daemon(redis_server.url, environ={**SHORT_LEASES, "ENGINE_FAIL": f"{place}:kill"})
    accepted = {send(redis_server, job_type, "victim", fails=1): 0}
    assert await eventually(first.has_ended, "killed")
    assert first.wait() == -9

    await finish(ledger, start_daemon)

    ledger.check(accepted, starts_over=1)
    assert handled(ledger, "victim") == starts
    (end,) = ledger.ends()["victim"]
    assert end.outcome == ("dead" if job_type == "failing" else "done")
    assert end.reason == ("exhausted" if job_type == "failing" else "")


async def test_a_promotion_is_whole_where_its_engine_dies(
    redis_server: RedisTestServer, start_daemon: Start, ledger: Ledger
) -> None:
    """Goal: K10. The job is in its lane; the dying engine's reader may even have started it."""
    environ = {**SHORT_LEASES, "ENGINE_FAIL": "K10@1:kill"}
    first = start_daemon(redis_server.url, environ=environ)
    accepted = {send(redis_server, "flaky", "victim", fails=1): 0}
    await eventually(first.has_ended, "killed")

    await finish(ledger, start_daemon)

    ledger.check(accepted, starts_over=1)
    assert handled(ledger, "victim") in (
        [(1, 1), (2, 1)],
        [(1, 1), (2, 2)],
        [(1, 1), (2, 1), (2, 2)],
    )


async def test_lost_jobs_are_lost_once_more_where_their_second_engine_dies(
    redis_server: RedisTestServer, start_daemon: Start, ledger: Ledger
) -> None:
    """Goal: K9. Claimed, and the claimer dies before it starts anything."""
    first = start_daemon(redis_server.url, environ={**SHORT_LEASES, "ENGINE_FAIL": "K3@1:kill"})
    accepted = {send(redis_server, "quick", "victim"): 0}
    await eventually(first.has_ended, "killed")
    second = start_daemon(redis_server.url, environ={**SHORT_LEASES, "ENGINE_FAIL": "K9@1:kill"})
    await eventually(second.has_ended, "killed too")

    await finish(ledger, start_daemon)

    ledger.check(accepted, starts_over=1)
    assert handled(ledger, "victim") == [(1, 1), (1, 3)]


async def test_an_engine_that_dies_while_it_stops_costs_a_delivery_of_what_it_held(
    redis_server: RedisTestServer, start_daemon: Start, ledger: Ledger
) -> None:
    """Goal: K11. What it meant to hand back is lost with it, and found again."""
    environ = {**SHORT_LEASES, "ENGINE_FAIL": "K11@1:kill", "ENGINE_CONCURRENCY": "1"}
    first = start_daemon(redis_server.url, environ=environ)
    opened = gate(ledger.path.parent)
    accepted = {send(redis_server, "slow", f"s{n}", gate=str(opened)): 0 for n in range(3)}
    await eventually(lambda: ledger.lines(event="start"), "one runs")
    first.terminate()
    await eventually(first.has_ended, "killed")
    assert first.wait() == -9
    opened.touch()

    await finish(ledger, start_daemon)

    ledger.check(accepted, starts_over=1)
    assert handled(ledger, "s0") == [(1, 1), (1, 2)]
    assert {attempt for n in (1, 2) for attempt, _ in handled(ledger, f"s{n}")} == {1}

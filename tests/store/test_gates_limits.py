"""Limits over all engines: places, rates, shares, and what waits for them."""

from __future__ import annotations

from collections import Counter

import pytest

from engine.core.limits import SHARE, make_rule
from engine.store.base import Lease, Store
from engine.store.gates import behind
from tests.support.gates import Hand, ids, leave, meta, question, ticket
from tests.support.jobs import fields
from tests.support.rigs import KEYS, QUEUE, Rig

LEASE_MS = 30_000


@pytest.fixture
def a(rig: Rig, store: Store) -> Hand:
    return Hand(rig, store)


@pytest.fixture
def b(rig: Rig, other: Store) -> Hand:
    return Hand(rig, other)


async def rule(rig: Rig, name: str, **parts: object) -> None:
    made = make_rule(name, **parts)  # type: ignore[arg-type]
    await rig.set_control(f"limit:{name}", made.text())


async def jobs(hand: Hand, *names: str, lane: str = "normal", **more: str) -> list[Lease]:
    for name in names:
        await hand.rig.add(lane, fields(id=name, **more))
    return await hand.take(stream=lane, count=100)


async def places(rig: Rig) -> dict[bytes, bytes]:
    return await rig.hash(KEYS.limits)


async def released(hand: Hand, *, every: bool = False) -> list[str]:
    """Release what may go, and end it at once."""
    await hand.store.release(QUEUE, count=100, every=every)
    leases = await hand.let_through()
    return ids(leases)


async def test_a_concurrency_limit_holds_over_engines(rig: Rig, a: Hand, b: Hand) -> None:
    await rule(rig, "sms", concurrency=2)
    leases = await jobs(a, "j1", "j2")
    (third,) = await jobs(b, "j3")

    assert await a.ask(*leases, limits=("sms",)) == ["run", "run"]
    assert await b.ask(third, limits=("sms",)) == ["parked"]
    assert await released(b) == []
    await a.end(leases[0])
    (third,) = await b.let_through()

    # It has its place already, and takes no other.
    assert await b.ask(third, limits=("sms",)) == ["run"]
    assert await places(rig) == {b"u:sms": b"2"}
    await b.end(third)
    await a.end(leases[1])
    assert await places(rig) == {}
    assert await rig.admitted() == set()


async def test_a_question_that_is_asked_again_takes_nothing_more(rig: Rig, a: Hand) -> None:
    await rule(rig, "sms", rate=1, burst=2, concurrency=2)
    leases = await jobs(a, "j1", "j2")

    assert await a.ask(leases[0], limits=("sms",)) == ["run"]
    assert await a.ask(leases[0], limits=("sms",)) == ["run"]
    assert await a.ask(leases[1], limits=("sms",)) == ["run"]
    assert await places(rig) == {b"u:sms": b"2"}


async def test_a_settlement_that_is_sent_again_gives_back_once(rig: Rig, a: Hand) -> None:
    await rule(rig, "sms", concurrency=1)
    leases = await jobs(a, "j1", "j2", "j3")
    await a.ask(*leases, limits=("sms",))

    for sequence in (1, 1):
        await a.end(leases[0], sequence=sequence)

    assert ids(await a.let_through()) == ["j2"]
    assert await places(rig) == {b"u:sms": b"1"}


async def test_a_job_keeps_its_place_while_it_is_handed_on(rig: Rig, a: Hand, b: Hand) -> None:
    """A dead engine's place goes with the job to whoever takes it over."""
    await rule(rig, "sms", concurrency=1)
    first, second = await jobs(a, "j1", "j2")
    await a.ask(first, second, limits=("sms",))

    await rig.age("normal", first.entry, LEASE_MS)
    (taken,) = (await b.store.reclaim(QUEUE, idle_ms_min=LEASE_MS, count=10)).leases
    assert await b.ask(taken, limits=("sms",)) == ["run"]
    assert await places(rig) == {b"u:sms": b"1"}
    await b.end(taken)

    assert ids(await b.let_through()) == ["j2"]


async def test_a_retry_gives_its_place_back(rig: Rig, a: Hand) -> None:
    await rule(rig, "sms", concurrency=1)
    first, second = await jobs(a, "j1", "j2")
    await a.ask(first, second, limits=("sms",))

    await a.retry(first, after_ms=60_000, ready=False)

    assert ids(await a.let_through()) == ["j2"]


async def test_a_rate_lets_through_a_burst_and_then_its_rate(rig: Rig, a: Hand) -> None:
    await rule(rig, "mail", rate=2, burst=3)
    leases = await jobs(a, *[f"j{number}" for number in range(1, 7)])

    words = await a.ask(*leases, limits=("mail",))
    assert words == ["run"] * 3 + ["parked"] * 3
    told = await a.store.release(QUEUE, count=10)
    assert told.moved == 0
    assert told.next_ms is not None
    assert 0 < told.next_ms <= 500
    await rig.let_pass(550)
    assert await released(a) == ["j4"]
    await rig.let_pass(1_000)
    assert await released(a) == ["j5", "j6"]


async def test_silence_saves_no_more_than_the_burst(rig: Rig, a: Hand) -> None:
    await rule(rig, "mail", rate=1, burst=2)
    first, *more = await jobs(a, *[f"j{number}" for number in range(5)])
    await a.ask(first, limits=("mail",))

    await rig.let_pass(3_600_000)

    assert await a.ask(*more, limits=("mail",)) == ["run", "run", "parked", "parked"]


async def test_groups_do_not_wait_for_each_other(rig: Rig, a: Hand) -> None:
    """Work goes on with one tenant silent or full."""
    await rule(rig, "tenant=*", concurrency=1, by="header:tenant")
    first, second, third = await jobs(a, "j1", "j2", "j3")

    for lease, group, word in ((first, "a", "run"), (second, "a", "parked"), (third, "b", "run")):
        assert await a.ask(lease, limits=(f"tenant={group}",)) == [word]
    assert await places(rig) == {b"u:tenant=a": b"1", b"u:tenant=b": b"1"}
    await a.end(third)
    assert await a.let_through() == []
    await a.end(first)

    assert ids(await a.let_through()) == ["j2"]


async def test_shares_go_by_their_weights(rig: Rig, a: Hand) -> None:
    await rule(rig, "all", concurrency=1, share="header:tenant", weights={"gold": 3})
    names = [f"{tenant}{number}" for tenant in ("gold", "iron") for number in range(9)]
    leases = await jobs(a, "j0", *names)
    assert await a.ask(leases[0], limits=("all",)) == ["run"]
    for lease in leases[1:]:
        tenant = ids([lease])[0][:4]
        assert await a.ask(lease, limits=(f"all{SHARE}{tenant}",)) == ["parked"]

    order, running = [], leases[0]
    for _ in range(12):
        await a.end(running)
        (running,) = await a.let_through()
        order.append(ids([running])[0][:4])

    assert Counter(order[:8]) == {"gold": 6, "iron": 2}
    # With gold silent, iron gets everything.
    assert Counter(order) == {"gold": 9, "iron": 3}


async def test_a_share_that_was_silent_saves_nothing(rig: Rig, a: Hand) -> None:
    await rule(rig, "all", concurrency=1, share="header:tenant")
    (running,) = await jobs(a, "x0")
    await a.ask(running, limits=(f"all{SHARE}x",))
    for number in range(1, 6):
        (lease,) = await jobs(a, f"x{number}")
        await a.ask(lease, limits=(f"all{SHARE}x",))
        await a.end(running)
        (running,) = await a.let_through()
    leases = await jobs(a, "x6", "x7", "x8", "y1", "y2", "y3")
    for lease in leases:
        await a.ask(lease, limits=(f"all{SHARE}{ids([lease])[0][0]}",))

    order = []
    for _ in range(4):
        await a.end(running)
        (running,) = await a.let_through()
        order.append(ids([running])[0][0])

    assert Counter(order) == {"x": 2, "y": 2}


async def test_a_job_goes_by_several_limits_at_once(rig: Rig, a: Hand) -> None:
    await rule(rig, "sms", concurrency=1)
    await rule(rig, "mail", concurrency=1)
    first, second, third = await jobs(a, "j1", "j2", "j3")
    assert await a.ask(first, limits=("sms",)) == ["run"]
    assert await a.ask(second, limits=("mail",)) == ["run"]

    assert await a.ask(third, limits=("sms", "mail")) == ["parked"]
    assert await places(rig) == {b"u:mail": b"1", b"u:sms": b"1"}
    await a.end(first)
    # It waits for the other one now, and keeps nobody from the first.
    assert await places(rig) == {b"u:mail": b"1"}
    await a.end(second)
    (third,) = await a.let_through()
    assert await places(rig) == {b"u:mail": b"1", b"u:sms": b"1"}
    await a.end(third)

    assert await places(rig) == {}


async def test_nobody_overtakes_in_a_line(rig: Rig, a: Hand) -> None:
    """A place may be free before the first of the line has been let through."""
    await rule(rig, "sms", concurrency=1)
    first, second, third = await jobs(a, "j1", "j2", "j3")
    await a.ask(first, second, limits=("sms",))
    await rule(rig, "sms", concurrency=2)

    assert await a.ask(third, limits=("sms",)) == ["parked"]
    assert await released(a) == ["j2"]
    await a.end(first)

    assert ids(await a.let_through()) == ["j3"]


async def test_a_lower_lane_waits_for_the_strict_one(rig: Rig, a: Hand) -> None:
    await rule(rig, "sms", concurrency=1)
    (first,) = await jobs(a, "j1")
    await a.ask(first, limits=("sms",))
    for lane in ("low", "critical"):
        (lease,) = await jobs(a, lane, lane=lane)
        assert await a.ask(lease, limits=("sms",)) == ["parked"]

    await a.end(first)

    assert ids(await a.let_through("critical")) == ["critical"]
    assert await a.let_through("low") == []


@pytest.mark.parametrize("limit", [{"concurrency": 1}, {"rate": 0.001, "burst": 1}])
async def test_without_its_rule_all_go_through(rig: Rig, a: Hand, limit: dict[str, float]) -> None:
    await rule(rig, "sms", **limit)
    leases = await jobs(a, "j1", "j2", "j3")
    assert await a.ask(*leases, limits=("sms",)) == ["run", "parked", "parked"]

    await rig.set_control("limit:sms", None)

    assert await released(a) == []
    assert await released(a, every=True) == ["j2", "j3"]


async def test_a_limit_that_is_shut_lets_nobody_through(rig: Rig, a: Hand, b: Hand) -> None:
    """A provider said 429 to one job; all others wait too, whether a rule is set or not."""
    first, second = await jobs(a, "j1", "j2")
    (third,) = await jobs(b, "j3")

    assert await a.store.limit(QUEUE, "normal", question(first), "sms", shut_ms=60_000) == "shut"
    assert await b.store.limit(QUEUE, "normal", question(third), "sms") == "shut"
    assert await a.ask(second, limits=("sms",)) == ["parked"]
    told = await a.store.release(QUEUE, count=10)
    assert told.next_ms is not None
    assert 50_000 < told.next_ms <= 60_000
    # A later moment stands.
    assert await a.store.limit(QUEUE, "normal", question(first), "sms", shut_ms=5) == "shut"
    assert await released(a) == []
    await rig.let_pass(61_000)

    assert await released(a) == ["j2"]
    assert await b.store.limit(QUEUE, "normal", question(third), "sms") == "open"


async def test_a_running_job_takes_a_place_of_a_named_limit(rig: Rig, a: Hand, b: Hand) -> None:
    await rule(rig, "sms", concurrency=1)
    (first,) = await jobs(a, "j1")
    (second,) = await jobs(b, "j2")

    for _ in range(2):
        assert await a.store.limit(QUEUE, "normal", question(first), "sms") == "open"
    assert await places(rig) == {b"u:sms": b"1"}
    assert await b.store.limit(QUEUE, "normal", question(second), "sms") == "shut"
    assert await b.store.limit(QUEUE, "normal", question(first), "sms") == "lost"
    await a.end(first)

    assert await b.store.limit(QUEUE, "normal", question(second), "sms") == "open"


async def test_a_job_that_met_a_limit_waits_for_it(rig: Rig, a: Hand, b: Hand) -> None:
    """Goal: it keeps its place in the order, and goes before those that came after it."""
    await rule(rig, "sms", concurrency=1)
    first, second, third = await jobs(a, "j1", "j2", "j3")
    await a.store.limit(QUEUE, "normal", question(first), "sms")

    for lease in (third, second):
        assert await a.store.limit(QUEUE, "normal", question(lease), "sms") == "shut"
        head = ["", "", ids([lease])[0], "sms"]
        put = behind("normal", "sms", ticket(lease), head, lease.fields)
        await a.end(lease, behind=[put], leaves=[leave(lease, "keep")])
    assert (await a.store.gauges(QUEUE, [])).parked["normal"] == 2
    await a.end(first)

    (again,) = await a.let_through()
    assert ids([again]) == ["j2"]
    # What it asks for again, it has.
    assert await a.store.limit(QUEUE, "normal:ready", question(again), "sms") == "open"
    await a.end(again)
    assert ids(await b.let_through()) == ["j3"]


async def test_a_job_uses_once_what_it_was_let_through_with(rig: Rig, a: Hand) -> None:
    """
    Each further use is one more for the rate, taken from those to come: to wait would make the job
    start over and ask for the same once more. Its place is its own.
    """
    await rule(rig, "sms", rate=0.001, burst=2, concurrency=2)
    first, second = await jobs(a, "j1", "j2")
    assert await a.ask(first, limits=("sms",)) == ["run"]

    words = [await a.store.limit(QUEUE, "normal", question(first), "sms") for _ in range(3)]

    assert words == ["open"] * 3
    assert await a.ask(second, limits=("sms",)) == ["parked"]


async def test_a_job_behind_a_limit_that_is_open_goes_at_once(rig: Rig, a: Hand) -> None:
    """The place may have been given back between the question and the settlement."""
    (first,) = await jobs(a, "j1")
    put = behind("normal", "sms", ticket(first), ["", "", "j1", "sms"], first.fields)

    await a.end(first, behind=[put], leaves=[leave(first, "keep")])

    assert await released(a) == ["j1"]


async def test_a_job_with_a_key_keeps_its_turn_while_it_waits_for_a_limit(
    rig: Rig, a: Hand
) -> None:
    await rule(rig, "sms", concurrency=1)
    first, second, third = await jobs(a, "j1", "j2", "j3", key="k")
    (other,) = await jobs(a, "j4")
    await a.ask(other, limits=("sms",))

    assert await a.ask(first, second, third, limits=("sms",)) == ["parked"] * 3
    await a.end(other)
    (first,) = await a.let_through()
    assert ids([first]) == ["j1"]
    assert meta(first) is not None
    assert await a.ask(first, limits=("sms",)) == ["run"]
    await a.end(first)
    (second,) = await a.let_through()

    assert await a.ask(second, limits=("sms",)) == ["run"]
    assert await places(rig) == {b"u:sms": b"1"}


async def test_a_release_moves_no_more_than_it_is_asked_to(rig: Rig, a: Hand) -> None:
    await rule(rig, "sms", concurrency=1)
    leases = await jobs(a, *[f"j{number}" for number in range(8)])
    await a.ask(*leases, limits=("sms",))
    await rig.set_control("limit:sms", None)

    moved = [(await a.store.release(QUEUE, count=3, every=True)).moved]
    moved += [(await a.store.release(QUEUE, count=3)).moved for _ in range(3)]

    assert moved == [3, 3, 1, 0]


async def test_what_the_code_declares_gives_way_to_operators(rig: Rig, a: Hand) -> None:
    ours, new = (make_rule("sms", concurrency=n, declared=True).text() for n in (1, 2))
    theirs = make_rule("mail", rate=5).text()
    await rig.set_control("limit:mail", theirs)

    await a.store.declare_limits(QUEUE, {"sms": ours, "mail": ours})
    await a.store.declare_limits(QUEUE, {"sms": new})
    limits = (await a.store.control(QUEUE)).limits

    assert limits["sms"] == make_rule("sms", concurrency=2, declared=True)
    assert limits["mail"] == make_rule("mail", rate=5)

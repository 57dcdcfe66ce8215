"""The scripts declare what they touch, and one queue's keys share one slot."""

from __future__ import annotations

import asyncio
import time

import msgspec
import pytest

from engine.embedded import unused_port
from engine.store.flow_base import SoughtChild
from engine.store.gates import behind, ticket_of
from engine.store.numbers import Tally
from engine.store.schedule_base import ScheduleChange
from engine.store.scripts import script
from engine.wire.keys import READY, slot_tag
from schemas.numbers import HOUR_MS, Levels
from schemas.rules import LANES
from tests.support.gates import admit, leave, question
from tests.support.jobs import AT_MS, dead, done, fields, packed, settlement
from tests.support.monitor import recorded
from tests.support.rigs import KEYS, QUEUE, ServerRig
from tests.support.servers import RedisTestServer, StartRedis

STORE_SCRIPTS = [
    "admit",
    "flow_lost",
    "flow_sweep",
    "limit",
    "forget",
    "promote",
    "reclaim",
    "recover",
    "release",
    "renew",
    "retire",
    "schedule",
    "settle",
    "summon",
    "tally",
    "trim",
    "unhold",
    "waiting",
]


async def exercise(rig: ServerRig) -> None:
    """Call every verb in a way that takes every branch that touches a key."""
    await exercise_gates(rig)
    store, other = rig.store("a"), rig.store("b")
    for one in (store, other):
        await one.open(QUEUE)
    for lane in LANES:
        for _ in range(4):
            await rig.add(lane, fields())
    ended, released, stranded, trimmed = (await store.fetch(QUEUE, {"low": 4})).leases
    await store.settle(
        QUEUE,
        settlement(
            [ended],
            lane="low",
            released=[released],
            done=[done("j1")],
            retries=[(await rig.now_ms() - 5, packed())],
            again=[fields()],
            dead=[dead("j2")],
            aside=[("pack", packed()), ("post", packed("low"))],
            stats={"done:pack": 1},
            events=[b"{}"],
            replies=[(f"mq:{{{QUEUE}}}:reply:x", [b"a", b"b"])],
            finished=["j1"],
            tombstones=["j1"],
        ),
    )
    await asyncio.to_thread(store.renew, QUEUE, "low", {stranded.entry: 1, b"1-1": 1})
    await store.recover(QUEUE, {"low": {trimmed.entry}})
    await rig.delete("low", trimmed.entry)
    await other.reclaim(QUEUE, idle_ms_min=0, count=10)
    await rig.delay(AT_MS, b"junk")
    await store.promote(QUEUE, count=10)
    await rig.call("HSET", KEYS.cancelled, "j3", "{}")
    await rig.delay(AT_MS, packed(body=[*fields(), b"_engine", b'{"id":"j3","enqueued_ms":1}']))
    await store.control(QUEUE)
    for _ in range(3):
        await store.summon(QUEUE, ["pack", "post"], count=10)
    await store.forget(QUEUE, ["j3"], age_ms_min=0)
    await store.forget(QUEUE, ["j3"], age_ms_min=0)
    await store.hold(QUEUE, "post", "no key")
    await store.unhold(QUEUE, ["pack", "post"], count=10)
    await store.wait(QUEUE, LANES, 1, 10)
    await store.schedule(
        QUEUE, ScheduleChange(name=b"s", before=None, after=b"{}", jobs=[fields()])
    )
    await store.schedule(QUEUE, ScheduleChange(name=b"s", before=b"{}", after=None))
    await store.schedules(QUEUE)
    await store.report(QUEUE, {"j1": b"{}"}, [b"{}"])
    await store.trim(QUEUE, done_jobs_max=1, done_age_ms_max=1)
    await store.gauges(QUEUE, ["pack", "post"])
    told = Tally(sequence=1, at_ms=AT_MS, counts={"run:pack": [1]}, levels=Levels(waiting=1))
    await store.tally(QUEUE, told)
    await store.sum_up(QUEUE, AT_MS + HOUR_MS)
    await store.flow_sweep(QUEUE, ms=5)
    await store.flow_lost(QUEUE, [SoughtChild("c", "c", "pack", b"{}")])
    await store.retire(QUEUE, idle_ms_min=0)
    await store.leave("a", [QUEUE])


async def exercise_gates(rig: ServerRig) -> None:
    """Likewise for the verbs of gates: each job behind another, or for a limit, or refused."""
    store = rig.store("a")
    await store.open(QUEUE)
    await store.declare_limits(QUEUE, {"sms": "100 1000 1 1", "all": "0 1000 0 1 share=header:s"})
    for number in range(4):
        await rig.add("high", fields(id=f"g{number}", key="k"))
    await rig.add("high", fields(id="g4"))
    *keyed, loose = (await store.fetch(QUEUE, {"high": 5})).leases
    first, others = question(keyed[0], key="k", unique="u", own_id="g0"), keyed[1:]
    await admit(store, "high", first, *(question(lease, key="k") for lease in others))
    shared = question(loose, limits=("sms", "all\x02s1"), unique="v", mode="debounce", ms=1)
    await admit(store, "high", shared)
    await admit(store, "high", msgspec.structs.replace(shared, unique=""))
    await store.limit(QUEUE, "high", first, "sms")
    await store.limit(QUEUE, "high", first, "sms", shut_ms=1)
    member = behind("high", "sms", ticket_of(b"1-0"), ["", "", "g9", "sms"], fields(id="g9"))
    left = [leave(keyed[0], key="k", unique="u"), leave(loose)]
    await store.settle(
        QUEUE,
        settlement([keyed[0], loose], lane="high", leaves=left, behind=[member], room=5),
    )
    await store.release(QUEUE, count=10, every=True)
    await rig.call("FLUSHALL")


def wait_until_ready(server: RedisTestServer) -> None:
    """A new cluster node refuses commands for a moment, and tells nobody when that is over."""
    for _ in range(500):
        if "cluster_state:ok" in str(server.call("CLUSTER", "INFO")):
            return
        time.sleep(0.02)
    raise AssertionError("the cluster node did not become ready")


@pytest.mark.servers
async def test_scripts_touch_only_keys_that_they_declare(redis_url: str) -> None:
    rig = ServerRig("valkey", redis_url)

    with recorded(redis_url) as recording:
        await exercise(rig)
    await rig.close()

    assert recording.undeclared == set()
    scripts = [script(name) for name in STORE_SCRIPTS] + [script("settle", gated=True)]
    assert [one.name for one in scripts if one.sha.decode() not in recording.ran] == []


@pytest.mark.servers
async def test_a_recording_sees_what_was_not_declared(redis_url: str) -> None:
    """The check above would be worth nothing if it could not fail."""
    rig = ServerRig("valkey", redis_url)

    with recorded(redis_url) as recording:
        await rig.call("EVAL", "return redis.call('SET', 'hidden', ARGV[1])", 1, "shown", "x")
    await rig.close()

    assert [key for _, _, key in recording.undeclared] == ["hidden"]


@pytest.mark.servers
async def test_a_queue_lives_on_a_cluster_node(start_redis: StartRedis) -> None:
    """A cluster refuses every command and script whose keys lie in more than one slot."""
    bus = {"cluster-port": str(unused_port())}
    server = start_redis(config={"cluster-enabled": "yes", **bus})
    server.call("CLUSTER", "ADDSLOTS", *range(16_384))
    await asyncio.to_thread(wait_until_ready, server)
    rig = ServerRig("valkey", server.url)
    with pytest.raises(Exception, match="same slot"):
        await rig.call("EXISTS", "mq:{a}:normal", "mq:{b}:normal")

    await exercise(rig)

    await rig.close()


def test_all_keys_of_a_queue_carry_its_tag() -> None:
    others = {"queue", "lanes", "streams"}
    named = [getattr(KEYS, name) for name in KEYS.__slots__ if name not in others]
    by_lane = [make(lane) for lane in LANES for make in (KEYS.lane, KEYS.busy, KEYS.parked)]
    by_lane += [KEYS.lane(READY[lane]) for lane in LANES]
    made = [KEYS.held("pack"), KEYS.minutes(AT_MS), KEYS.quarters(AT_MS), KEYS.producer("p1")]

    assert {slot_tag(key) for key in (*named, *by_lane, *made, *KEYS.gates())} == {QUEUE}

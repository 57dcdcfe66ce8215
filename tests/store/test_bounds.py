"""The script that takes what finds room, on real servers."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py

from engine.core.pressure import Asked, Bounds, Level, answers, has_room
from engine.store.batches import Channel, Outgoing, outgoing
from engine.store.pressure import level_commands, read_level
from engine.store.redis import RedisStore
from engine.store.scripts import script
from engine.wire.keys import GROUP, READY, QueueKeys
from schemas.rules import BYTES_MAX_LEAST, LANES
from tests.support.servers import NotInstalled, RedisTestServer

KEYS = QueueKeys("bounded")

pytestmark = pytest.mark.servers


class Rig:
    """One queue on a real server, and producers that send to it by hand."""

    def __init__(self, server: RedisTestServer) -> None:
        self.server = server
        self.redis: Any = server.client(protocol=2)

    def bound(self, **fields: int) -> None:
        self.redis.delete(KEYS.control)
        self.redis.hset(KEYS.control, mapping=fields)

    def send(self, channel: Channel, jobs: list[Outgoing]) -> list[bytes]:
        return self.run(*channel.bounded(jobs, ["held-type"]))

    def run(self, keys: list[str], arguments: list[Any]) -> list[bytes]:
        found: list[bytes] = self.redis.eval(
            script("enqueue_bounded").text, len(keys), *keys, *arguments
        )
        return found

    def lengths(self) -> dict[str, int]:
        return {lane: self.redis.xlen(KEYS.lane(lane)) for lane in LANES}

    def held(self) -> int:
        set_aside = int(self.redis.xlen(KEYS.held("held-type")))
        apart = sum(int(self.redis.zcard(key)) for key in (KEYS.delayed, KEYS.flows))
        return sum(self.lengths().values()) + set_aside + apart


@pytest.fixture(
    params=[
        "valkey",
        *(pytest.param(name, marks=pytest.mark.full) for name in ("redis62", "redis70", "redis82")),
    ]
)
def rig(
    request: pytest.FixtureRequest, session_directory: Path, servers: dict[str, RedisTestServer]
) -> Iterator[Rig]:
    name = request.param
    if name not in servers:
        try:
            servers[name] = RedisTestServer(session_directory / f"suite-{name}", name=name)
        except NotInstalled as reason:
            pytest.skip(str(reason))
        servers[name].start()
    servers[name].call("FLUSHALL")
    made = Rig(servers[name])
    yield made
    made.redis.close()


def job(lane: str = "normal", *, when_full: str = "wait", size: int = 10) -> Outgoing:
    fields = [b"type", b"noop", b"data", b'{"x":"%s"}' % (b"y" * size)]
    return outgoing(lane, fields, ordered=False, when_full=when_full)


def words(reply: list[bytes]) -> list[str]:
    """Say what became of the jobs; entry ids become ``ok``."""
    return ["ok" if b"-" in word else word.decode() for word in reply[:-1]]


def test_what_finds_room_is_taken_and_the_rest_is_told(rig: Rig) -> None:
    rig.bound(jobs_max=10)
    rig.redis.xadd(KEYS.held("held-type"), {"_lane": "low"})
    rig.redis.zadd(KEYS.delayed, {"a job": 1})
    rig.redis.zadd(KEYS.flows, {"a parent": 0})
    channel = Channel(KEYS)

    reply = rig.send(channel, [job(lane) for lane in LANES] + [job(when_full="shed")] * 5)

    assert words(reply) == ["ok"] * 6 + ["shed"] * 3
    assert reply[-1] == b"9/10/0/0"
    assert rig.lengths() == {"critical": 1, "high": 1, "normal": 3, "low": 1}
    assert words(rig.send(channel, [job(), job()])) == ["ok", "full"]
    assert rig.held() == 10


def test_parked_and_released_jobs_count(rig: Rig) -> None:
    rig.bound(jobs_max=4)
    rig.redis.zadd(KEYS.parked("low"), {"one": 0, "another": 0})
    rig.redis.xadd(KEYS.lane(READY["high"]), {"type": "noop"})

    assert words(rig.send(Channel(KEYS), [job(), job()])) == ["ok", "full"]


def test_engines_count_and_measure_as_the_script_does(rig: Rig) -> None:
    """Method: the numbers that the script told last, beside those of the engine's commands."""
    rig.bound(jobs_max=10, bytes_max=10 * BYTES_MAX_LEAST)
    rig.redis.zadd(KEYS.delayed, {"a job": 1})
    channel = Channel(KEYS)
    rig.send(channel, [job(lane, size=3_000) for lane in LANES])
    # A batch that adds nothing tells what was measured.
    refused = rig.send(channel, [job(size=20 * BYTES_MAX_LEAST)])
    raw = [rig.redis.execute_command(*each) for each in level_commands(KEYS, ["held-type"])]
    level = read_level(raw)

    assert refused[-1] == b"5/10/%d/%d" % (level.bytes, 10 * BYTES_MAX_LEAST)
    assert level.jobs == 5


async def test_a_server_that_forbids_memory_still_counts_jobs(rig: Rig) -> None:
    rig.bound(jobs_max=10)
    rig.send(Channel(KEYS), [job()])
    store = RedisStore.from_url(rig.server.url, consumer="a")
    rig.redis.execute_command("ACL", "SETUSER", "default", "-memory")
    try:
        found = await store.pressure(KEYS.queue, ["held-type"])
    finally:
        rig.redis.execute_command("ACL", "SETUSER", "default", "+memory")
        await store.close()

    assert (found.level, found.bounds) == (Level(jobs=1), Bounds(jobs=10))


def test_a_running_job_keeps_its_place_and_an_ended_one_gives_it_up(rig: Rig) -> None:
    rig.bound(jobs_max=1)
    lane, channel = KEYS.lane("normal"), Channel(KEYS)
    rig.redis.xgroup_create(lane, GROUP, "0", mkstream=True)
    rig.send(channel, [job()])
    entry = rig.redis.xreadgroup(GROUP, "a", {lane: ">"})[0][1][0][0]

    assert words(rig.send(channel, [job()])) == ["full"]
    rig.redis.xack(lane, GROUP, entry)
    rig.redis.xdel(lane, entry)
    assert words(rig.send(channel, [job()])) == ["ok"]


@pytest.mark.parametrize(
    ("fields", "taken"),
    [
        ({}, 6),
        ({"jobs_max_default": 2}, 2),
        ({"jobs_max_default": 2, "jobs_max": 4}, 4),
        ({"jobs_max_default": 2, "jobs_max": 0}, 6),
        ({"jobs_max": "what", "jobs_max_default": 3}, 3),
    ],
)
def test_what_operators_set_wins_over_what_engines_were_set_to(
    rig: Rig, fields: dict[str, Any], taken: int
) -> None:
    rig.bound(**fields, other=1)

    assert words(rig.send(Channel(KEYS), [job()] * 6)).count("ok") == taken


def test_bytes_are_bounded_by_what_the_server_measures(rig: Rig) -> None:
    rig.bound(bytes_max=BYTES_MAX_LEAST)
    channel = Channel(KEYS)
    found = [words(rig.send(channel, [job(size=2_000)]))[0] for _ in range(50)]
    memory = rig.redis.memory_usage(KEYS.lane("normal"), samples=0)

    assert found == sorted(found, reverse=True)
    assert 20 <= found.count("ok") <= 40
    # The last node of the stream may be allocated beyond what it holds.
    assert memory <= BYTES_MAX_LEAST + 4_096


def test_an_empty_queue_takes_one_job_of_any_size(rig: Rig) -> None:
    rig.bound(bytes_max=BYTES_MAX_LEAST, jobs_max=1)

    reply = rig.send(Channel(KEYS), [job("low", size=2 * BYTES_MAX_LEAST, when_full="shed"), job()])

    assert words(reply) == ["ok", "full"]


def test_a_lost_reply_is_told_again_and_nothing_is_done_twice(rig: Rig) -> None:
    rig.bound(jobs_max=3)
    command = Channel(KEYS).bounded([job(), job("low", when_full="shed"), job(), job(), job()], [])
    first = rig.run(*command)
    rig.redis.xtrim(KEYS.lane("normal"), maxlen=0)

    assert words(first) == ["ok", "ok", "ok", "full", "full"]
    assert rig.run(*command) == first
    assert rig.lengths()["normal"] == 0


def test_a_batch_that_comes_after_its_successor_is_refused(rig: Rig) -> None:
    """A connection that was given up may hand a batch over when its jobs were sent again."""
    rig.bound(jobs_max=2)
    channel = Channel(KEYS)
    late = channel.bounded([job(), job()], [])
    for command in (channel.bounded([job()], []), channel.command([job()])):
        rig.redis.eval(
            script("enqueue_bounded" if len(command[1]) == 4 else "enqueue").text,
            len(command[0]),
            *command[0],
            *command[1],
        )
    with pytest.raises(redis_py.ResponseError, match="STALE"):
        rig.run(*late)

    assert rig.held() == 2


def test_a_batch_that_cannot_be_written_whole_leaves_nothing_behind(rig: Rig) -> None:
    rig.bound(jobs_max=100)
    with pytest.raises(redis_py.ResponseError):
        rig.send(Channel(KEYS), [job(), job(), Outgoing("low", [b"odd"], False, 9)])

    assert rig.held() == 0


def test_the_server_does_as_the_rule_says(rig: Rig) -> None:
    """
    Goal: the script answers as :func:`engine.core.pressure.answers` does, and producers together
    never exceed the bound.

    Method: seeded batches of three producers, in turn with ends of jobs and changes of the bound.
    """
    draw = random.Random(8)
    channels = [Channel(KEYS) for _ in range(3)]
    most = 20
    for _ in range(120):
        if draw.random() < 0.1:
            most = draw.choice([1, 7, 20, 33])
        rig.bound(jobs_max=most)
        batch = [
            job(draw.choice(LANES), when_full=draw.choice(["wait", "fail", "shed"]))
            for _ in range(draw.randint(1, 9))
        ]
        asked = [Asked(each.lane, each.size, sheds=each.when_full == "shed") for each in batch]
        before = rig.held()
        expected = answers(Level(before), Bounds(jobs=most), asked)

        found = words(rig.send(draw.choice(channels), batch))

        assert found == [answer.decode() or "ok" for answer in expected]
        assert rig.held() <= max(most, before)
        assert rig.held() == before + found.count("ok")
        lane = KEYS.lane(draw.choice(LANES))
        rig.redis.xtrim(lane, maxlen=draw.randint(0, 6), approximate=False)
    assert not has_room(Level(33), Bounds(jobs=33), Asked("critical", 1, sheds=False))

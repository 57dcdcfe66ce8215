"""Another server takes over: what an engine holds by the old one's word ends nothing by itself."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from engine.errors import GroupMissing, StoreUnavailable
from engine.store.base import Lease, Settlement, Store
from engine.store.marks import Links
from engine.store.redis import RedisStore
from tests.support.jobs import done, fields, settlement
from tests.support.proxy import FaultProxy
from tests.support.rigs import KEYS, QUEUE, ServerRig
from tests.support.servers import RedisTestServer, StartRedis
from tests.support.waiting import eventually

pytestmark = pytest.mark.servers


def by_mark(store: Store, leases: list[Lease], sequence: int) -> Settlement:
    mark = store.mark(QUEUE, "normal")
    unsure = [lease.entry for lease in leases if lease.batch.mark is not mark] if mark else []
    parts: dict[str, Any] = {"mark": mark, "unsure": unsure, "done": [done("j1")]}
    return settlement(leases, sequence=sequence, **parts)


async def persist(store: Store, asked: Settlement) -> list[bytes]:
    """Send a settlement until it is answered, as an engine does."""
    while True:
        try:
            return await store.settle(QUEUE, asked)
        except StoreUnavailable:
            await asyncio.sleep(0.01)


async def lease_under_a_mark(
    rig: ServerRig, store: Store, *, before_read: Callable[[], None] = lambda: None
) -> Lease:
    """Let a store learn the mark, then read a job under it."""
    await rig.add("normal", fields())
    await store.settle(
        QUEUE, settlement((await store.fetch(QUEUE, {"normal": 1})).leases, sequence=1)
    )
    await rig.add("normal", fields())
    before_read()
    (lease,) = (await store.fetch(QUEUE, {"normal": 1})).leases
    assert lease.batch.mark is store.mark(QUEUE, "normal")
    assert lease.batch.mark is not None
    return lease


class Failover:
    """A primary behind a proxy, and a replica that takes its place as it was at a moment."""

    def __init__(self, start_redis: StartRedis) -> None:
        self.primary, self.replica = start_redis(), start_redis()
        self.replica.call("REPLICAOF", "127.0.0.1", self.primary.port)

    def part(self) -> None:
        """From now on the replica learns nothing any more."""
        with self.primary.client() as client:
            # What was written on another connection counts too: it all comes before this one's.
            client.set("written", "last")
            assert client.wait(1, 10_000) == 1
        self.replica.call("REPLICAOF", "NO", "ONE")

    def take_over(self, proxy: FaultProxy) -> None:
        """The primary dies, and its name leads to the replica."""
        self.primary.kill9()
        proxy.target = self.replica.port


@pytest.fixture
async def failover(start_redis: StartRedis) -> Failover:
    made = Failover(start_redis)
    await eventually(
        lambda: b"master_link_status:up" in _replication(made.replica), "in replication"
    )
    return made


def _replication(server: RedisTestServer) -> bytes:
    with server.client() as client:
        client.response_callbacks.clear()
        return bytes(client.execute_command("INFO", "replication"))


async def settle_after_failover(failover: Failover) -> tuple[list[bytes], list[Any]]:
    """
    Let an engine settle a job that the next server has given to somebody else.

    The mark has reached the replica, the read has not.
    """
    async with FaultProxy(failover.primary.port) as proxy:
        first, second = (
            ServerRig("valkey", proxy.url(failover.primary.url)),
            ServerRig("valkey", failover.replica.url),
        )
        store = first.store("a")
        await store.open(QUEUE)
        mine = await lease_under_a_mark(first, store, before_read=failover.part)
        asked = by_mark(store, [mine], 2)
        assert asked.mark is not None
        assert asked.unsure == []
        failover.take_over(proxy)
        other = second.store("b")
        await other.open(QUEUE)
        (theirs,) = (await other.fetch(QUEUE, {"normal": 1})).leases
        assert theirs.entry == mine.entry
        assert await second.call("HGET", KEYS.settled, "@normal") == asked.mark.value

        lost = await asyncio.wait_for(persist(store, asked), 30)
        ends = await second.stream(KEYS.done)
        await first.close()
        await second.close()
    return lost, ends


async def test_a_lease_of_the_old_server_is_looked_at_by_the_new_one(failover: Failover) -> None:
    """
    Goal: a failover that loses a read, and keeps the mark under which it was made, ends nothing.

    Method: a replica stops to follow between mark and read, and takes the primary's place.
    """
    lost, ends = await settle_after_failover(failover)

    assert len(lost) == 1
    assert ends == []


async def test_it_is_the_connection_that_tells(
    failover: Failover, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test above would be worth nothing if trusting marks over connections passed it."""

    def same(self: RedisStore, queue: str) -> Links:
        del self, queue
        return ()

    monkeypatch.setattr(RedisStore, "_links", same)

    lost, ends = await settle_after_failover(failover)

    assert lost == []
    assert len(ends) == 1


async def test_connections_to_two_servers_learn_no_marks(failover: Failover) -> None:
    """
    Goal: in a split, a read from one server is never settled by a mark of the other.

    Method: the connection that settles is made anew, to a replica that was promoted, while the
    one that reads still leads to the old primary.
    """
    async with FaultProxy(failover.primary.port) as proxy:
        rig = ServerRig("valkey", proxy.url(failover.primary.url))
        store = rig.store("a")
        assert isinstance(store, RedisStore)
        await store.open(QUEUE)
        await lease_under_a_mark(rig, store)
        failover.part()
        proxy.target = failover.replica.port
        store.gate_link(QUEUE).drop()

        for sequence in (2, 3):
            assert await store.settle(QUEUE, settlement(sequence=sequence)) == []

        assert store.gate_link(QUEUE).server != b""
        assert store.mark(QUEUE, "normal") is None
        await rig.close()


async def test_a_server_that_comes_back_empty_ends_nothing(start_redis: StartRedis) -> None:
    """
    Goal: kill -9 without persistence loses everything, and nothing is ended by what was before.

    Method: ids may be used again by other jobs, so the entry is added under the same id.
    """
    server = start_redis()
    rig = ServerRig("valkey", server.url)
    store = rig.store("a")
    await store.open(QUEUE)
    mine = await lease_under_a_mark(rig, store)
    asked = by_mark(store, [mine], 2)
    server.restart(kill=True)
    server.call("XADD", KEYS.lane("normal"), mine.entry, *fields(id="another"))

    with contextlib.suppress(GroupMissing):
        assert await persist(store, asked) == [mine.entry]
    other = rig.store("b")
    await other.open(QUEUE)
    (theirs,) = (await other.fetch(QUEUE, {"normal": 1})).leases

    assert theirs.entry == mine.entry
    assert await persist(store, asked) == [mine.entry]
    assert await other.settle(QUEUE, settlement([theirs], done=[done("another")])) == []
    await rig.close()

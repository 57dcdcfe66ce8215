"""
The model against a real server: the same random calls, the same answers.

The simulation is only as true as its model. Entry ids differ between the two, so entries are named
by the order in which they came into being.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from engine.store.base import Lease, Settlement, Store
from schemas.rules import LANES
from tests.support.jobs import dead, done, fields, packed, settlement
from tests.support.rigs import KEYS, QUEUE, MemoryRig, Rig, ServerRig

LEASE_MS = 30_000
CONSUMERS = ("a", "b", "c")


class Player:
    """Plays one seed's calls on one rig, and writes down what it was told."""

    def __init__(self, rig: Rig, seed: int) -> None:
        self.rig = rig
        self.chance = random.Random(seed)
        self.stores: dict[str, Store] = {name: rig.store(name) for name in CONSUMERS}
        # Entry ids alone repeat over lanes.
        self.names: dict[tuple[str, bytes], str] = {}
        self.hands: dict[str, list[Lease]] = {name: [] for name in CONSUMERS}
        self.sequences = dict.fromkeys([(name, lane) for name in CONSUMERS for lane in LANES], 0)
        self.jobs = 0
        self.told: list[Any] = []

    async def play(self, steps: int) -> list[Any]:
        for store in self.stores.values():
            await store.open(QUEUE)
        for _ in range(steps):
            moves = [self.add, self.add, self.fetch, self.fetch, self.settle, self.settle]
            moves += [self.age, self.renew, self.reclaim, self.recover, self.promote, self.lose]
            move = self.chance.choice(moves)
            self.told.append((move.__name__, await move(self.chance.choice(CONSUMERS))))
        self.told.append(await self.state())
        return self.told

    async def add(self, _name: str) -> None:
        self.jobs += 1
        await self.rig.add(self.chance.choice(LANES), fields(id=f"j{self.jobs}"))

    async def fetch(self, name: str) -> Any:
        counts = {lane: self.chance.randint(1, 3) for lane in self.chance.sample(LANES, 2)}
        ordered = {lane: counts[lane] for lane in LANES if lane in counts}
        fetched = await self.stores[name].fetch(QUEUE, ordered)
        return self.taken(name, fetched.leases), fetched.waiting

    async def settle(self, name: str) -> Any:
        lane = self.chance.choice(LANES)
        ours = [lease for lease in self.hands[name] if lease.batch.lane == lane]
        chosen = self.chance.sample(ours, self.chance.randint(0, len(ours)))
        if not chosen:
            return None
        # Now and then a number is used again: answered as applied, whatever is asked.
        step = self.chance.choice([1, 1, 1, 0]) if self.sequences[name, lane] else 1
        self.sequences[name, lane] += step
        asked = await self.settlement(lane, chosen, self.sequences[name, lane])
        asked.mark = mark = self.stores[name].mark(QUEUE, lane)
        asked.unsure = [lease.entry for lease in chosen if lease.batch.mark is not mark]
        lost = await self.stores[name].settle(QUEUE, asked)
        self.hands[name] = [lease for lease in self.hands[name] if lease not in chosen]
        return [self.names[lane, entry] for entry in lost]

    async def settlement(self, lane: str, chosen: list[Lease], sequence: int) -> Settlement:
        parts: dict[str, list[Lease]] = {"done": [], "retry": [], "dead": [], "back": []}
        for lease in chosen:
            parts[self.chance.choice(list(parts))].append(lease)
        delays = [self.chance.choice([-60_000, 3_600_000]) for _ in parts["retry"]]
        now_ms = await self.rig.now_ms()
        return settlement(
            parts["done"] + parts["retry"] + parts["dead"],
            released=parts["back"],
            lane=lane,
            sequence=sequence,
            held=self.chance.choice([len(chosen), 100]),
            done=[done(*map(job_id, parts["done"]))] if parts["done"] else [],
            retries=[
                # Members that differ keep due jobs in one order on both sides.
                (now_ms + delay + number, packed(lane, lease.fields))
                for number, (delay, lease) in enumerate(zip(delays, parts["retry"], strict=True))
            ],
            dead=[dead(job_id(lease), body=lease.fields) for lease in parts["dead"]],
            stats={"done:pack": len(parts["done"])} if parts["done"] else {},
        )

    async def age(self, _name: str) -> Any:
        return await self.age_in(self.chance.choice(LANES))

    async def age_in(self, lane: str) -> Any:
        pending = list(await self.rig.pending(lane))
        if not pending:
            return None
        entry = self.chance.choice(pending)
        await self.rig.age(lane, entry, LEASE_MS)
        return self.names[lane, entry]

    async def renew(self, name: str) -> Any:
        lane = self.chance.choice(LANES)
        counts = {
            lease.entry: lease.deliveries for lease in self.hands[name] if lease.batch.lane == lane
        }
        if not counts:
            return None
        lost = await asyncio.to_thread(self.stores[name].renew, QUEUE, lane, counts)
        return [self.names[lane, entry] for entry in lost]

    async def reclaim(self, name: str) -> Any:
        # One call per server looks at different stretches; a whole round must find the same.
        found = []
        for _ in range(8):
            answer = await self.stores[name].reclaim(QUEUE, idle_ms_min=LEASE_MS, count=50)
            assert answer.trimmed == []
            found += answer.leases
        return sorted(self.taken(name, found))

    async def recover(self, name: str) -> Any:
        known: dict[str, set[bytes]] = {}
        for lease in self.hands[name]:
            known.setdefault(lease.batch.lane, set()).add(lease.entry)
        return self.taken(name, await self.stores[name].recover(QUEUE, known))

    async def promote(self, name: str) -> Any:
        promoted = await self.stores[name].promote(QUEUE, count=self.chance.randint(1, 4))
        return promoted.moved, promoted.next_ms is None

    async def lose(self, name: str) -> None:
        """An engine forgets what it was given, as after a lost reply."""
        hand = self.hands[name]
        self.hands[name] = self.chance.sample(hand, len(hand) // 2)

    def taken(self, name: str, leases: list[Lease]) -> list[Any]:
        told = []
        for lease in leases:
            self.names.setdefault(place(lease), f"{job_id(lease)}/{len(self.names)}")
            held = [mine for mine in self.hands[name] if place(mine) != place(lease)]
            self.hands[name] = [*held, lease]
            told.append((self.names[place(lease)], lease.deliveries, lease.fields))
        return told

    async def state(self) -> Any:
        gauges = await self.stores["a"].gauges(QUEUE, ["pack"])
        pending = [
            (self.names[lane, entry], line.consumer, line.deliveries)
            for lane in LANES
            for entry, line in (await self.rig.pending(lane)).items()
        ]
        streams = [[row for _, row in await self.rig.stream(KEYS.done)]]
        streams += [[row for _, row in await self.rig.stream(KEYS.lane(lane))] for lane in LANES]
        dead_rows = [row[2:] for _, row in await self.rig.stream(KEYS.dead)]
        delayed = sorted(await self.rig.delayed())
        stats = (await self.rig.hash(KEYS.stats)).get(b"done:pack")
        return (
            gauges.waiting,
            gauges.active,
            gauges.dead,
            pending,
            streams,
            dead_rows,
            delayed,
            stats,
        )


def place(lease: Lease) -> tuple[str, bytes]:
    return lease.batch.lane, lease.entry


def job_id(lease: Lease) -> str:
    return lease.fields[lease.fields.index(b"id") + 1].decode()


@pytest.mark.servers
@pytest.mark.parametrize("seed", range(12))
async def test_the_model_answers_as_a_server_does(redis_url: str, seed: int) -> None:
    server = ServerRig("valkey", redis_url)
    try:
        real = await Player(server, seed).play(120)
    finally:
        await server.close()

    assert await Player(MemoryRig(), seed).play(120) == real

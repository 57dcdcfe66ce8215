"""
The model's gates against a real server's: the same random calls, the same answers and states.

See :mod:`tests.store.test_same_traces`. Tickets and entries differ between the two, so they are
named by the jobs that they belong to.
"""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from engine.core.limits import SHARE, make_rule
from engine.store.base import Dead, Lease, Settlement
from engine.store.gates import Question, behind, ticket_of
from engine.wire.codec import META, with_meta, without
from engine.wire.keys import READY, STREAMS, lane_of
from engine.wire.packing import unpack
from schemas.job import Meta
from tests.store.test_same_traces import CONSUMERS, Player, job_id
from tests.support.gates import Hand, admit, leave, meta, question, ticket
from tests.support.jobs import dead, done, fields, packed, settlement
from tests.support.rigs import KEYS, QUEUE, MemoryRig, Rig, ServerRig

USED_LANES = ("high", "normal")
HOUR_MS = 3_600_000
RULES = {
    "sms": [{"concurrency": 1}, {"concurrency": 2}, None],
    "mail": [{"rate": 1, "per_s": 3_600, "burst": 4}, None],
    "all": [{"concurrency": 2, "share": "header:s", "weights": {"s1": 2}}, None],
    "tenant=*": [{"concurrency": 1, "by": "header:t"}],
}
LIMITS = ("sms", "mail", f"all{SHARE}s1", f"all{SHARE}s2", "tenant=a", "tenant=b", "free")


class GatedPlayer(Player):
    """Plays with gated jobs."""

    streams = tuple(s for s in STREAMS if lane_of(s) in USED_LANES)

    def __init__(self, rig: Rig, seed: int) -> None:
        super().__init__(rig, seed)
        self.sequences = dict.fromkeys([(name, s) for name in CONSUMERS for s in STREAMS], 0)
        self.tickets: dict[tuple[str, str], str] = {}
        self.buried: list[tuple[str, list[bytes], Meta]] = []
        self.retried = 0

    def moves(self) -> list[Any]:
        often = [self.add, self.add, self.fetch, self.fetch, self.settle, self.settle, self.ask]
        often += [self.ask, self.ask, self.settle, self.fetch]
        rare = [self.age, self.renew, self.reclaim, self.recover, self.promote, self.lose]
        return [
            *often,
            *often,
            *rare,
            self.limit,
            self.release,
            self.rule,
            self.redrive,
            self.shift,
        ]

    async def play(self, steps: int) -> list[Any]:
        for store in self.stores.values():
            await store.open(QUEUE)
        await self.first_of_all()
        for name in RULES:
            await self.set_rule(name)
        for step in range(steps):
            if step == steps // 2:
                await self.rig.set_control("on_dead", self.chance.choice(["block", "continue"]))
            move = self.chance.choice(self.moves())
            self.told.append((move.__name__, await move(self.chance.choice(CONSUMERS))))
            if step % 10 == 0:
                self.told.append(await self.state())
        self.told.append(await self.state())
        return self.told

    async def first_of_all(self) -> None:
        """One job has asked, so that there are streams for those that are let through."""
        hand = Hand(self.rig, self.stores["a"])
        await self.rig.add("normal", fields(id="j0", key="k"))
        leases = await hand.take()
        await hand.ask(*leases)
        await hand.end(*leases)
        self.sequences["a", "normal"] = 1

    async def add(self, _name: str) -> None:
        self.jobs += 1
        lane, keyed = self.chance.choice(USED_LANES), self.chance.random() < 0.7
        more = {"key": self.chance.choice("kl")} if keyed else {}
        job = f"j{self.jobs}"
        entry = await self.rig.add(lane, fields(id=job, **more))
        self.tickets[lane, ticket_of(entry)] = job

    async def fetch(self, name: str) -> Any:
        await self.stores[name].control(QUEUE)
        streams = self.chance.sample(self.streams, 2)
        fetched = await self.stores[name].fetch(
            QUEUE, {s: self.chance.randint(1, 3) for s in streams}
        )
        waiting = {s: fetched.waiting.get(s, 0) for s in self.streams}
        return self.taken(name, fetched.leases), waiting

    def mine(self, name: str, *, most: int = 4) -> list[Lease]:
        """Some of a consumer's leases of one stream."""
        stream = self.chance.choice(self.streams)
        ours = [lease for lease in self.hands[name] if lease.batch.lane == stream]
        return self.chance.sample(ours, self.chance.randint(0, min(most, len(ours))))

    def question(self, lease: Lease) -> Question:
        """What a job asks for follows from its number alone."""
        number = int(job_id(lease)[1:])
        chance = random.Random(number)
        asks: dict[str, Any] = {}
        if chance.random() < 0.5:
            asks["limits"] = tuple(chance.sample(LIMITS, chance.randint(1, 2)))
        if chance.random() < 0.3:
            mode = chance.choice(["unique", "unique", "throttle", "debounce"])
            asks |= {"unique": chance.choice("vwx"), "mode": mode}
            asks |= {"ms": HOUR_MS, "wakes": self.chance.random() < 0.5}
        if chance.random() < 0.3:
            asks |= {"own_id": f"own{number % 7}", "body": chance.choice(["b1", "b2"])}
        return question(lease, **asks)

    async def ask(self, name: str) -> Any:
        chosen = self.mine(name)
        if not chosen:
            return None
        asked = [self.question(lease) for lease in chosen]
        stream = chosen[0].batch.lane
        answers = await admit(self.stores[name], stream, *asked, line_max=4, window_ms=24 * HOUR_MS)
        gone = [
            lease
            for lease, answer in zip(chosen, answers, strict=True)
            if answer.word in {"parked", "lost"}
        ]
        self.hands[name] = [lease for lease in self.hands[name] if lease not in gone]
        return [
            (job_id(lease), answer.word, answer.word == "wait" or answer.detail, answer.other)
            for lease, answer in zip(chosen, answers, strict=True)
        ]

    async def settle(self, name: str) -> Any:
        chosen = self.mine(name)
        if not chosen:
            return None
        stream = chosen[0].batch.lane
        step = self.chance.choice([1, 1, 1, 1, 0]) if self.sequences[name, stream] else 1
        self.sequences[name, stream] += step
        asked = await self.settlement(stream, chosen, self.sequences[name, stream])
        lost = await self.stores[name].settle(QUEUE, asked)
        self.hands[name] = [lease for lease in self.hands[name] if lease not in chosen]
        return [self.names[stream, entry] for entry in lost], self.taken(name, asked.handed)

    async def settlement(self, stream: str, chosen: list[Lease], sequence: int) -> Settlement:
        parts: dict[str, list[Lease]] = {
            word: [] for word in ("done", "retry", "dead", "back", "early", "limit")
        }
        for lease in chosen:
            parts[self.chance.choice([*parts, "done", "retry"])].append(lease)
        how = {"done": "free", "retry": "keep", "dead": "dead", "early": "early", "limit": "keep"}
        for lease in parts["dead"]:
            told = meta(lease) or Meta(id=job_id(lease), enqueued_ms=1)
            told = msgspec.structs.replace(told, ticket=ticket(lease), redrives=told.redrives + 1)
            self.buried.append((lane_of(stream), without(lease.fields, META), told))
        return settlement(
            [lease for word in how for lease in parts[word]],
            released=parts["back"],
            lane=stream,
            sequence=sequence,
            held=self.chance.choice([len(chosen), 100]),
            done=[done(*map(job_id, parts["done"]))] if parts["done"] else [],
            retries=[
                await self.put_off(lease, word)
                for word in ("retry", "early")
                for lease in parts[word]
            ],
            dead=[self.death(lease) for lease in parts["dead"]],
            leaves=[
                leave(lease, word, unique=self.question(lease).unique)
                for part, word in how.items()
                for lease in parts[part]
            ],  # type: ignore[arg-type]
            behind=[self.behind(lease) for lease in parts["limit"]],
            room=self.chance.randint(0, 2),
        )

    def death(self, lease: Lease) -> Dead:
        return dead(job_id(lease), body=without(lease.fields, META))

    async def put_off(self, lease: Lease, word: str) -> tuple[int, bytes]:
        """Each is due at a moment of its own, far from the others."""
        self.retried += 1
        lane = lane_of(lease.batch.lane)
        told = meta(lease) or Meta(id=job_id(lease), enqueued_ms=1)
        kept = msgspec.structs.replace(told, ticket=ticket(lease) if word == "retry" else "")
        to_ready = word == "retry" and b"key" in lease.fields
        member = packed(READY[lane] if to_ready else lane, with_meta(lease.fields, kept))
        return await self.rig.now_ms() - 100 * HOUR_MS + 20_000 * self.retried, member

    def behind(self, lease: Lease) -> Any:
        limit = self.chance.choice(["sms", "mail", "free"])
        told = meta(lease) or Meta(id=job_id(lease), enqueued_ms=1)
        kept = msgspec.structs.replace(told, ticket=ticket(lease), why="limit")
        asked = self.question(lease)
        head = [asked.key, asked.unique, asked.job_id, limit]
        return behind(
            lane_of(lease.batch.lane), limit, ticket(lease), head, with_meta(lease.fields, kept)
        )

    async def age(self, _name: str) -> Any:
        return await self.age_in(self.chance.choice(self.streams))

    async def renew(self, _name: str) -> None:
        """Has nothing to do with gates."""

    async def reclaim(self, name: str) -> Any:
        await self.stores[name].control(QUEUE)
        return await super().reclaim(name)

    async def recover(self, name: str) -> Any:
        await self.stores[name].control(QUEUE)
        return await super().recover(name)

    async def limit(self, name: str) -> Any:
        chosen = self.mine(name, most=1)
        if not chosen:
            return None
        stream, asked = chosen[0].batch.lane, question(chosen[0])
        limit = self.chance.choice(["sms", "mail", "free"])
        shut_ms = self.chance.choice([0, 0, 0, HOUR_MS])
        return await self.stores[name].limit(QUEUE, stream, asked, limit, shut_ms=shut_ms)

    async def release(self, name: str) -> Any:
        every = self.chance.random() < 0.5
        told = await self.stores[name].release(QUEUE, count=self.chance.randint(1, 5), every=every)
        return told.moved, told.next_ms is None

    async def set_rule(self, name: str) -> None:
        parts: Any = self.chance.choice(RULES[name])
        text = make_rule(name, **parts).text() if parts else None
        await self.rig.set_control(f"limit:{name}", text)

    async def rule(self, _name: str) -> None:
        await self.set_rule(self.chance.choice(list(RULES)))

    async def redrive(self, _name: str) -> None:
        if self.buried:
            lane, own, told = self.buried.pop(self.chance.randrange(len(self.buried)))
            await self.rig.add(lane, with_meta(own, told))

    async def shift(self, _name: str) -> None:
        """Time passes: by more than what the runs of the two sides may differ by."""
        await self.rig.let_pass(HOUR_MS + 60_000)

    # What is told of entries and tickets.

    def shown(self, lane: str, flat: list[bytes]) -> Any:
        """Fields, with the ticket by the job that it was first given to."""
        found = dict(zip(flat[::2], flat[1::2], strict=True))
        raw = found.pop(META, None)
        told = msgspec.json.decode(raw, type=Meta) if raw else None
        own = (told.id, told.redrives, self.of(lane, told.ticket)) if told else None
        return found, own

    def of(self, lane: str, ticket_: str) -> str:
        return self.tickets.get((lane, ticket_), "unknown") if ticket_ else ""

    def taken(self, name: str, leases: list[Lease]) -> list[Any]:
        told = []
        for (entry_name, deliveries, _), lease in zip(
            super().taken(name, leases), leases, strict=True
        ):
            told.append(
                (entry_name, deliveries, str(self.shown(lane_of(lease.batch.lane), lease.fields)))
            )
        return told

    async def state(self) -> Any:
        rows = {s: await self.rig.stream(KEYS.lane(s)) for s in STREAMS}
        places = {
            f"{s}/{entry.decode()}": self.shown(lane_of(s), flat)[0][b"id"]
            for s, found in rows.items()
            for entry, flat in found
        }
        gauges = await self.stores["a"].gauges(QUEUE, [])
        busy = {
            lane: {
                key: text[:1] == b"!" or self.of(lane, text.decode())
                for key, text in sorted((await self.rig.hash(KEYS.busy(lane))).items())
            }
            for lane in USED_LANES
        }
        parked = [
            self.member(lane, each) for lane in USED_LANES for each in await self.rig.parked(lane)
        ]
        taken = {
            field: places.get(by.decode(), b"gone") if field[:1] == b"i" else by
            for field, by in (await self.rig.hash(KEYS.unique)).items()
        }
        return {
            "pending": [
                (self.names.get((s, entry)), line.consumer, line.deliveries)
                for s in self.streams
                for entry, line in (await self.rig.pending(s)).items()
            ],
            "gauges": (gauges.waiting, gauges.parked, gauges.active),
            "busy": busy,
            "parked": parked,
            "admitted": sorted(places.get(each, b"gone") for each in await self.rig.admitted()),
            "places": await self.rig.hash(KEYS.limits),
            "unique": dict(sorted(taken.items())),
            "streams": [[self.shown(lane_of(s), flat) for _, flat in rows[s]] for s in STREAMS],
            "delayed": sorted(
                str((stream, self.shown(lane_of(stream), own)))
                for stream, own in map(_parts, await self.rig.delayed())
            ),
            "done": [row for _, row in await self.rig.stream(KEYS.done)],
        }

    def member(self, lane: str, member: bytes) -> Any:
        line, ticket_, job = member.split(b"\0", 2)
        head, *own = unpack(job)
        return line, self.of(lane, ticket_.decode()), head, self.shown(lane, own)


def _parts(member: bytes) -> tuple[str, list[bytes]]:
    stream, *own = unpack(member)
    return stream.decode(), own


@pytest.mark.servers
@pytest.mark.parametrize("seed", range(12))
async def test_the_model_keeps_gates_as_a_server_does(redis_url: str, seed: int) -> None:
    server = ServerRig("valkey", redis_url)
    try:
        real = await GatedPlayer(server, seed).play(150)
    finally:
        await server.close()

    played = await GatedPlayer(MemoryRig(), seed).play(150)

    for step, (ours, theirs) in enumerate(zip(played, real, strict=True)):
        assert ours == theirs, f"step {step} of seed {seed}"

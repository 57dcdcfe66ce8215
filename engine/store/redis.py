"""
The store over a real server.

Three kinds of connection, so that nothing waits behind a blocking read: one per queue for fetching,
one per queue for settling, and one for upkeep. Renewal has a blocking connection of its own, since
it is called from a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
import redis.asyncio
from redis.exceptions import NoScriptError, RedisError

from engine.core.leases import RELEASED_IDLE_MS, SUSPECT_DELIVERIES
from engine.errors import StoreRefused
from engine.store import connection
from engine.store.admission import GateVerbs
from engine.store.base import (
    Batch,
    Fetched,
    Lease,
    Reclaimed,
    Settlement,
)
from engine.store.cancels import CancelVerbs
from engine.store.encoding import settle_arguments
from engine.store.faults import fault
from engine.store.flows import FlowVerbs
from engine.store.link import Link, checked, evalsha, is_noscript
from engine.store.marks import Links, Mark, Marks
from engine.store.numbers import NumberVerbs
from engine.store.pressure import PressureVerbs
from engine.store.reads import Reads
from engine.store.scripts import script
from engine.wire.keys import GROUP, READY, RELEASED, QueueKeys, lane_of
from schemas.rules import LANES


class StoreSettings(msgspec.Struct, frozen=True, kw_only=True):
    """
    What the store needs to know.

    Attributes:
        timeout_s: Time after which a silent server counts as gone; above any blocking read.
        connect_timeout_s: Time that connecting may take.
        done_jobs_max: Finished jobs kept per queue.
        events_max: Entries kept in an events stream.
        dead_groups_max: Fingerprints told apart per queue.
        progress_ttl_s: How long progress is kept after the last report of a queue.
    """

    timeout_s: float = 5.0
    connect_timeout_s: float = 5.0
    done_jobs_max: int = 100_000
    events_max: int = 10_000
    dead_groups_max: int = 1_000
    progress_ttl_s: int = 86_400


class RedisStore(CancelVerbs, FlowVerbs, GateVerbs, PressureVerbs, NumberVerbs):
    """
    :class:`engine.store.base.Store` over Redis or Valkey.

    Args:
        pool: Where and how to connect.
        renewer: A blocking client for :meth:`renew`.
        consumer: This engine's name in the groups, fresh for each process start.
        monotonic: Seconds that never go back.
        settings: Bounds and time-outs.
    """

    def __init__(
        self,
        pool: redis.asyncio.ConnectionPool,
        *,
        renewer: redis.Redis,
        consumer: str,
        monotonic: Callable[[], float],
        settings: StoreSettings,
    ) -> None:
        super().__init__(
            Link(pool, timeout_s=settings.timeout_s, asks_server=True),
            consumer=consumer,
            events_max=settings.events_max,
            progress_ttl_s=settings.progress_ttl_s,
        )
        self._pool = pool
        self._renewer = renewer
        self._monotonic = monotonic
        self._settings = settings
        self._fetching: dict[str, Link] = {}
        self._settling: dict[str, Link] = {}
        self._reads: dict[str, Reads] = {}
        self._cursors: dict[str, dict[str, bytes]] = {}
        self._marks = Marks()

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        consumer: str,
        monotonic: Callable[[], float] | None = None,
        settings: StoreSettings | None = None,
    ) -> RedisStore:
        """
        Build a store for one engine; nothing is connected yet.

        Raises:
            SettingsError: The URL cannot be read.
        """
        settings = settings or StoreSettings()
        return cls(
            connection.pool(
                url,
                name=consumer,
                timeout_s=settings.timeout_s,
                connect_timeout_s=settings.connect_timeout_s,
            ),
            renewer=connection.sync_client(
                url, name=f"{consumer}-renew", timeout_s=settings.timeout_s
            ),
            consumer=consumer,
            monotonic=monotonic or asyncio.get_running_loop().time,
            settings=settings,
        )

    async def open(self, queue: str) -> None:
        keys = self.keys_of(queue)
        expected = {
            b"stream": [
                *keys.streams.values(),
                *(keys.dead, keys.done, keys.events, keys.flow_ends),
            ],
            b"zset": [
                *(keys.delayed, keys.flows, keys.flows_todo, keys.limits_due, keys.unique_ends),
                *map(keys.parked, LANES),
            ],
            b"hash": [
                *(keys.stats, keys.settled, keys.dead_groups, keys.control, keys.progress),
                *(keys.cancelled, keys.flow_sent, keys.admitted, keys.limits, keys.unique),
                *map(keys.busy, LANES),
            ],
        }
        kinds = {name: kind for kind, names in expected.items() for name in names}
        found = checked(await self._upkeep.call(*((b"TYPE", name) for name in kinds)))
        for (name, kind), actual in zip(kinds.items(), found, strict=True):
            if actual not in {kind, b"none"}:
                raise StoreRefused(
                    "wrongtype", f"{name} holds a {actual.decode()} and should be a {kind.decode()}"
                )
        await self._find_gates(keys, dict(zip(kinds, found, strict=True)))
        lanes = [keys.lane(stream) for stream in self.streams_of(queue)]
        groups = await self._upkeep.call(*((b"XINFO", b"GROUPS", lane) for lane in lanes))
        # Only what is missing: a server that is out of memory refuses to be asked for more.
        missing = [lane for lane, told in zip(lanes, groups, strict=True) if not _has_group(told)]
        if missing:
            # A new group delivers again what others hold.
            marks = [f"@{stream}" for stream in self.streams_of(queue)]
            await self._upkeep.one(b"HDEL", keys.settled, *marks)
            create = ((b"XGROUP", b"CREATE", lane, GROUP, b"0", b"MKSTREAM") for lane in missing)
            made = await self._upkeep.call(*create)
            checked([reply for reply in made if not str(reply).startswith("BUSYGROUP")])

    async def _find_gates(self, keys: QueueKeys, found: Mapping[str, bytes]) -> None:
        """Learn whether the queue has jobs behind gates, also where the mark of it was deleted."""
        await self.control(keys.queue)
        behind = [keys.admitted, *map(keys.parked, LANES), *map(keys.lane, READY.values())]
        if keys.queue not in self._gated and any(found[key] != b"none" for key in behind):
            await self._upkeep.one(b"HSET", keys.control, b"gates", b"1")
            self._gated.add(keys.queue)

    async def fetch(self, queue: str, counts: Mapping[str, int]) -> Fetched:
        keys, link = self.keys_of(queue), self._link(self._fetching, queue)
        reads = self._reads_of(queue)
        commands = [reads.command((lane,), count) for lane, count in counts.items()]
        streams = self.streams_of(queue)
        names = [keys.lane(stream) for stream in streams]
        count_left = evalsha(script("waiting"), names, GROUP)
        marks = self._marks_of(queue, counts)
        since = self._monotonic()
        replies = await link.call(*commands, count_left)
        leases = reads.leases(replies[:-1], since, marks)
        if is_noscript(replies[-1]):
            left = await link.run(script("waiting"), names, GROUP)
        else:
            left = checked(replies[-1:])[0]
        return Fetched(leases, dict(zip(streams, left, strict=True)))

    async def wait(
        self, queue: str, lanes: Sequence[str], count: int, block_ms: int
    ) -> list[Lease]:
        reads = self._reads_of(queue)
        command = reads.command(tuple(lanes), count, block_ms)
        marks = self._marks_of(queue, lanes)
        since = self._monotonic()
        replies = await self._link(self._fetching, queue).call(command)
        return reads.leases(replies, since, marks)

    def mark(self, queue: str, lane: str) -> Mark | None:
        return self._marks.of(queue, lane, self._links(queue))

    async def settle(self, queue: str, settlement: Settlement) -> list[bytes]:
        keys, lane = self.keys_of(queue), settlement.lane
        link = self._link(self._settling, queue)
        # A mark must not reach another server than that from which it was learned.
        await link.ready()
        links = self._links(queue)
        mark = settlement.mark
        if mark is not None and (settlement.leaves or mark.links != links):
            mark = None
        wanted = script("settle", gated=bool(settlement.leaves))
        since = self._monotonic()
        names, arguments = settle_arguments(keys, self.consumer, settlement, self._settings, mark)
        reply = await link.run(wanted, names, *arguments)
        if reply is None:
            # An entry had left the pending list by none of our ways: each is looked at.
            names, arguments = settle_arguments(keys, self.consumer, settlement, self._settings)
            reply = await link.run(wanted, names, *arguments)
        lost: list[bytes]
        lost, settlement.found, *through = reply
        if links == self._links(queue) and self._has_one_server(queue):
            self._marks.learn(queue, lane, settlement.found, links)
        if not settlement.leaves:
            return lost
        handed, settlement.moved = through
        batch = Batch(lane=READY[lane_of(lane)], since=since)
        settlement.handed = [
            Lease(batch, entry, fields, admitted=bool(has_turn))
            for entry, fields, has_turn in handed
        ]
        return lost

    def gate_link(self, queue: str) -> Link:
        return self._link(self._settling, queue)

    def renew(self, queue: str, lane: str, entries: Mapping[bytes, int]) -> list[bytes]:
        key = self.keys_of(queue).lane(lane)
        wanted = script("renew")
        flat = [part for entry in entries.items() for part in entry]
        arguments: list[Any] = [1, key, GROUP, self.consumer, *flat]
        try:
            try:
                lost: list[bytes] = self._renewer.evalsha(wanted.sha.decode(), *arguments)
            except NoScriptError:
                lost = self._renewer.eval(wanted.text.decode(), *arguments)
        except (RedisError, OSError) as error:
            # A half-read reply must not be taken for the next one.
            self._renewer.connection_pool.disconnect()
            raise fault(error) from None
        return lost

    async def reclaim(self, queue: str, *, idle_ms_min: int, count: int) -> Reclaimed:
        keys = self.keys_of(queue)
        cursors = self._cursors.setdefault(queue, {})
        found = Reclaimed([], [])
        suspects = 1
        for lane in self.streams_of(queue):
            room = count - len(found.leases)
            if room <= 0:
                break
            cursor, taken, deleted = await self._upkeep.run(
                script("reclaim"),
                [keys.lane(lane), keys.settled],
                GROUP,
                self.consumer,
                idle_ms_min,
                cursors.get(lane, b"0-0"),
                min(room, 100),
                SUSPECT_DELIVERIES,
                suspects,
                RELEASED,
                RELEASED_IDLE_MS,
                lane,
            )
            cursors[lane] = cursor
            leases = self._owned(lane, taken)
            suspects -= sum(lease.deliveries >= SUSPECT_DELIVERIES for lease in leases)
            found.leases += leases
            found.trimmed += [(lane, entry) for entry in deleted]
        return found

    async def recover(self, queue: str, in_hand: Mapping[str, set[bytes]]) -> list[Lease]:
        keys = self.keys_of(queue)
        leases: list[Lease] = []
        for lane in self.streams_of(queue):
            known = in_hand.get(lane, set())
            taken = await self._upkeep.run(
                script("recover"),
                [keys.lane(lane)],
                GROUP,
                self.consumer,
                len(known) + 1_000,
                *known,
            )
            leases += self._owned(lane, taken)
        return leases

    async def close(self) -> None:
        for link in (self._upkeep, *self._fetching.values(), *self._settling.values()):
            link.drop()
        await asyncio.to_thread(self._renewer.close)

    def _link(self, links: dict[str, Link], queue: str) -> Link:
        link = links.get(queue)
        if link is None:
            timeout_s = self._settings.timeout_s
            link = links[queue] = Link(self._pool, timeout_s=timeout_s, asks_server=True)
        return link

    def _all_links(self, queue: str) -> list[Link]:
        return [
            self._upkeep,
            self._link(self._fetching, queue),
            self._link(self._settling, queue),
        ]

    def _links(self, queue: str) -> Links:
        return tuple([link.connects for link in self._all_links(queue)])

    def _has_one_server(self, queue: str) -> bool:
        """Tell whether everything that this engine says of a queue goes to one server process."""
        servers = {link.server for link in self._all_links(queue)}
        return len(servers) == 1 and b"" not in servers

    def _marks_of(self, queue: str, streams: Iterable[str]) -> dict[str, Mark | None]:
        """The marks that are known before a read: later ones say nothing of what it brings."""
        links = self._links(queue)
        return {stream: self._marks.of(queue, stream, links) for stream in streams}

    def _reads_of(self, queue: str) -> Reads:
        reads = self._reads.get(queue)
        if reads is None:
            reads = self._reads[queue] = Reads(self.keys_of(queue), self.consumer)
        return reads

    def _owned(self, lane: str, taken: Sequence[Any]) -> list[Lease]:
        batch = Batch(lane=lane, since=self._monotonic())
        return [Lease(batch, entry, fields, count) for entry, fields, count in taken]


def _has_group(told: Any) -> bool:
    """Tell whether ours is among a stream's groups; an error reply tells of no stream."""
    return isinstance(told, list) and any(GROUP.encode() in info for info in told)

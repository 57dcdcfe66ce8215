"""An engine's dealings with gates, one call at a time, over a real server."""

from __future__ import annotations

import msgspec

from engine.store.base import Dead, Lease, Settlement
from engine.store.gates import How, Leave, Question, ticket_of
from engine.store.redis import RedisStore
from engine.wire.codec import DEAD, META
from schemas.job import DeadRecord, ErrorRecord, Meta
from schemas.rules import LANES


class GatedEngine:
    """
    Takes jobs, asks for them, and ends them.

    Args:
        store: Its store.
        queue: The queue.
        limits: Names of the limits that every job goes by.
    """

    def __init__(self, store: RedisStore, queue: str, *, limits: tuple[str, ...] = ()) -> None:
        self.store = store
        self.queue = queue
        self.limits = limits
        self.running: dict[str, Lease] = {}
        self._sequence = 0

    async def take(self) -> list[str]:
        """Take and ask for all jobs there are; returns the ids of those that run now."""
        await self.store.control(self.queue)
        streams = self.store.streams_of(self.queue)
        fetched = await self.store.fetch(self.queue, dict.fromkeys(streams, 50))
        started = []
        for stream in dict.fromkeys(lease.batch.lane for lease in fetched.leases):
            leases = [lease for lease in fetched.leases if lease.batch.lane == stream]
            answers = await self.store.admit(
                self.queue,
                stream,
                [self._question(lease) for lease in leases],
                id_window_ms=0,
                line_max=1_000,
            )
            for lease, answer in zip(leases, answers, strict=True):
                if answer.word == "run":
                    started.append(_named(lease, b"id"))
                    self.running[started[-1]] = lease
        return started

    async def end(self, job_id: str, how: How = "free") -> None:
        """End a job: as done, or as dead with its place in the order."""
        lease = self.running.pop(job_id)
        self._sequence += 1
        dead = [_death(lease, job_id)] if how == "dead" else []
        leave = Leave(lease.entry, how, key=_named(lease, b"key"), ticket=_ticket(lease))
        lost = await self.store.settle(
            self.queue,
            Settlement(
                lane=lease.batch.lane,
                sequence=self._sequence,
                ended=[lease.entry],
                held=1,
                dead=dead,
                leaves=[leave],
                at_ms=1,
            ),
        )
        assert not lost

    def _question(self, lease: Lease) -> Question:
        meta = _meta(lease)
        return Question(
            entry=lease.entry,
            ticket=meta.ticket if meta else "",
            key=_named(lease, b"key"),
            job_id=_named(lease, b"id"),
            limits=self.limits,
        )


def _named(lease: Lease, name: bytes) -> str:
    found = dict(zip(lease.fields[::2], lease.fields[1::2], strict=True))
    return found.get(name, b"").decode()


def _meta(lease: Lease) -> Meta | None:
    raw = _named(lease, META)
    return msgspec.json.decode(raw, type=Meta) if raw else None


def _ticket(lease: Lease) -> str:
    meta = _meta(lease)
    return meta.ticket if meta and meta.ticket else ticket_of(lease.entry)


def _death(lease: Lease, job_id: str) -> Dead:
    record = DeadRecord(
        id=job_id,
        type=_named(lease, b"type"),
        lane=next(lane for lane in LANES if lease.batch.lane.startswith(lane)),
        entry=lease.entry.decode(),
        reason="exhausted",
        error=ErrorRecord(kind="ValueError"),
        ticket=_ticket(lease),
        enqueued_ms=1,
        died_ms=1,
        fingerprint="f" * 12,
    )
    own = [
        part
        for name, value in zip(lease.fields[::2], lease.fields[1::2], strict=True)
        if name != META
        for part in (name, value)
    ]
    return Dead([DEAD, msgspec.json.encode(record), *own], record.fingerprint, b"{}")

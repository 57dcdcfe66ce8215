"""
The object store's side of cleanup: uploads that expired, objects to delete, and the comparison.

A key stands in the ledger from the transaction that removes its row until its object is gone. So
deleting is repeatable everywhere: an object that is not there is as good as deleted.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import structlog

from engine import Clock
from processors.database.pool import Database
from processors.database.statements import attachments as statements
from processors.errors import ConfigurationError, ServiceUnavailable
from processors.rules.object_keys import SHARDS, is_ours, shard
from processors.rules.retention import deletion_delay_s, instant_of
from processors.services.cleanup_run import Run
from processors.services.objects import ObjectMissing, ObjectStore, Stored
from processors.services.removal import release
from processors.settings.objects import ObjectSettings

log = structlog.get_logger("processors.cleanup")

DELETIONS_MAX = 200
LEASE = timedelta(minutes=10)
DOUBTFUL_MIN = 20
"""Fewer objects without a row are deleted in any case."""


class Deletion(NamedTuple):
    """
    What came of deleting one object.

    Attributes:
        key: Its key.
        found: Whether the store said that it was there.
        error: What went wrong, or None.
    """

    key: str
    found: bool
    error: Exception | None


class Differences(NamedTuple):
    """
    How store and database differ in one shard.

    Attributes:
        listed: Objects of ours.
        orphans: Keys of old objects without a row.
        unlisted: Attachments whose object was not listed, with their keys.
        unheld: Attachments that were attached once, and that no message holds.
    """

    listed: int
    orphans: list[str]
    unlisted: dict[UUID, str]
    unheld: set[UUID]


NOTHING = Differences(0, [], {}, set())


class Place(NamedTuple):
    """
    Where the comparison stands.

    Attributes:
        is_first: In the first round, which counts; the second deletes.
        shard: The next shard.
        listed: Objects that the first round saw.
        orphans: Objects without a row that it saw.
    """

    is_first: bool
    shard: int
    listed: int
    orphans: int

    @classmethod
    def read(cls, text: str) -> Place:
        """Read a place from a record."""
        if not text:
            return cls(is_first=True, shard=0, listed=0, orphans=0)
        name, number, listed, orphans = text.split(":")
        return cls(name == "count", int(number), int(listed), int(orphans))

    def written(self) -> str:
        """Write the place for a record."""
        name = "count" if self.is_first else "delete"
        return f"{name}:{self.shard}:{self.listed}:{self.orphans}"

    def after(self, found: Differences) -> Place:
        """Return the place behind one shard."""
        return self._replace(
            shard=self.shard + 1,
            listed=self.listed + found.listed,
            orphans=self.orphans + len(found.orphans),
        )

    @property
    def is_doubtful(self) -> bool:
        """Whether so many objects seem to be nobody's that the database may be the wrong one."""
        return self.orphans > max(DOUBTFUL_MIN, self.listed // 2)


class ObjectCleanup:
    """
    Keeps the object store and the database in step, for one run.

    Args:
        database: Where rows and ledger are.
        objects: The store; None where none is set, and only rows are seen to.
        settings: Ages and concurrency.
        run: Keeps the record.
        clock: The time.
    """

    def __init__(
        self,
        database: Database,
        objects: ObjectStore | None,
        settings: ObjectSettings,
        run: Run,
        clock: Clock,
    ) -> None:
        self._database = database
        self._objects = objects
        self._settings = settings
        self._run = run
        self._clock = clock

    async def plan(self) -> None:
        """Count uploads that expired, and objects to delete."""
        async with self._run.step() as connection:
            row = await connection.fetchrow(statements.COUNT_EXPIRED, self._now())
        assert row is not None
        self._run.count(attachments_removed=row["attachments"], objects_deleted=row["objects"])

    async def expire(self) -> bool:
        """Remove uploads that no message claimed in time; tells whether that was all."""
        while room := self._run.room():
            async with self._run.step(room) as connection:
                row = await connection.fetchrow(statements.EXPIRE, self._now(), room)
                assert row is not None
                self._run.changed(row["attachments"])
                self._run.count(
                    attachments_removed=row["attachments"], objects_queued=row["objects"]
                )
            if row["attachments"] < room:
                return True
            await self._run.rest()
        return False

    async def drain(self) -> bool:
        """
        Delete the objects that the ledger names; tells whether that was all.

        Raises:
            ServiceUnavailable: The store cannot serve; what was deleted by then is recorded.
            ConfigurationError: The store refuses.
        """
        if self._objects is None:
            return True
        while room := self._run.room():
            keys = await self._claim(min(room, DELETIONS_MAX))
            if not keys:
                return True
            gate = asyncio.Semaphore(self._settings.deletes_at_once)
            ends = await asyncio.gather(*(self._delete(gate, key) for key in keys))
            await self._record(ends, keys)
            trouble = next((end.error for end in ends if is_of_the_store(end.error)), None)
            if trouble is not None:
                raise trouble
        return False

    async def _claim(self, keys_max: int) -> dict[str, int]:
        now = self._now()
        rows = await self._database.fetch(
            statements.CLAIM_DELETIONS, now, keys_max, now + LEASE, self._run.job_id
        )
        return {row["key"]: row["attempts"] for row in rows}

    async def _delete(self, gate: asyncio.Semaphore, key: str) -> Deletion:
        assert self._objects is not None
        async with gate:
            try:
                return Deletion(key, await self._objects.delete(key), None)
            except Exception as error:  # noqa: BLE001 - one object's trouble is not the others'
                return Deletion(key, found=False, error=error)

    async def _record(self, ends: list[Deletion], attempts: dict[str, int]) -> None:
        now = self._now()
        done = [end for end in ends if end.error is None]
        failed = [end for end in ends if end.error and not is_of_the_store(end.error)]
        async with self._run.step() as connection:
            row = await connection.fetchrow(statements.DELETED, [end.key for end in done])
            assert row is not None
            delays = [deletion_delay_s(attempts[end.key] + 1) for end in failed]
            await connection.execute(
                statements.FAILED,
                [end.key for end in failed],
                [f"{type(end.error).__name__}: {end.error}"[:500] for end in failed],
                [now + timedelta(seconds=delay) for delay in delays],
            )
            await connection.execute(
                statements.UNLEASE, [end.key for end in ends if is_of_the_store(end.error)]
            )
            self._run.changed(row["removed"])
            self._run.count(
                objects_deleted=sum(end.found for end in done),
                objects_missing=sum(not end.found for end in done),
                objects_failed=len(failed),
            )

    async def reconcile(self, *, older_than: timedelta, force: bool) -> bool:
        """
        Compare store and database shard by shard, then delete what has no row; tells whether all.

        An upload writes its row before its object, so an old object without a row is nobody's.
        Where most of them seem to be, the database is more likely to be the wrong one: then
        nothing is deleted unless ``force`` says so. Hence the first round only counts.
        """
        if self._objects is None:
            return True
        before = self._now() - older_than
        place = Place.read(self._run.record.after)
        while place.shard < SHARDS:
            if not self._run.room():
                async with self._run.step():
                    self._run.record.after = place.written()
                return False
            found = await self._compare(place.shard, before)
            place = await (self._report if place.is_first else self._collect)(place, found)
            if place.shard == SHARDS and place.is_first and not self._run.order.dry_run:
                if place.is_doubtful and not force:
                    log.error("objects_spared", objects=place.listed, without_row=place.orphans)
                    return True
                place = place._replace(is_first=False, shard=0)
        return self._run.order.dry_run or await self.drain()

    async def _compare(self, number: int, before: datetime) -> Differences:
        assert self._objects is not None
        first, end = shard(number)
        listed: dict[str, Stored] = {}
        async for chunk in self._objects.list(first):
            listed |= {each.key: each for each in chunk if is_ours(each.key)}
        # After the listing: a row that is missing now belonged to no object that is listed.
        rows = await self._database.fetch(statements.KEYS_OF_SHARD, first, end)
        queued = await self._database.fetch(statements.DELETIONS_OF_SHARD, first, end)
        known = {key for row in rows for key in (row["object_key"], *row["thumbnail_keys"])}
        known |= {row["key"] for row in queued}
        return Differences(
            listed=len(listed),
            orphans=sorted(
                key for key, each in listed.items() if key not in known and each.modified < before
            ),
            unlisted={
                row["id"]: row["object_key"]
                for row in rows
                if row["state"] != "pending" and row["object_key"] not in listed
            },
            unheld={row["id"] for row in rows if row["is_unheld"]},
        )

    async def _report(self, place: Place, found: Differences) -> Place:
        """Count and tell what differs in one shard."""
        missing = await self._missing(found.unlisted)
        place = place.after(found)
        if place.shard < SHARDS and found == NOTHING:
            return place
        async with self._run.step():
            self._run.count(
                objects_listed=found.listed,
                objects_without_row=len(found.orphans),
                rows_without_object=len(missing),
                attachments_unheld=len(found.unheld),
            )
            self._run.sample("objectsWithoutRow", found.orphans)
            self._run.sample("rowsWithoutObject", missing)
            if place.shard == SHARDS and place.is_doubtful and not self._run.order.dry_run:
                self._run.count(objects_spared=place.orphans)
            self._run.record.after = place.written()
        if missing:
            log.warning("objects_missing", attachments=len(missing), first=missing[0])
        return place

    async def _collect(self, place: Place, found: Differences) -> Place:
        """Write one shard's objects without a row into the ledger, and rows that nothing holds."""
        place = place.after(NOTHING)
        if place.shard < SHARDS and not found.orphans and not found.unheld:
            return place
        async with self._run.step() as connection:
            row = await connection.fetchrow(statements.ADD_DELETIONS, found.orphans, self._now())
            gone, objects = await release(connection, found.unheld, self._now())
            assert row is not None
            self._run.count(objects_queued=row["added"] + objects, attachments_removed=gone)
            self._run.record.after = place.written()
        return place

    async def _missing(self, candidates: dict[UUID, str]) -> list[str]:
        """Of rows whose objects were not listed, return those that still lack them."""
        assert self._objects is not None
        lacking = []
        for attachment_id, key in candidates.items():
            try:
                await self._objects.head(key)
            except ObjectMissing:
                lacking.append(attachment_id)
        rows = await self._database.fetch(statements.STILL_STORED, lacking) if lacking else []
        return sorted(str(row["id"]) for row in rows)

    def _now(self) -> datetime:
        return instant_of(self._clock.now_ms())


def is_of_the_store(error: Exception | None) -> bool:
    """Whether a failure concerns the whole store, and not the object at hand."""
    return isinstance(error, ServiceUnavailable | ConfigurationError)

"""One job with everything that is known of it."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import msgspec

from engine.admin.explain import Explainer
from engine.errors import Malformed
from engine.store.operator import Found, OperatorStore
from engine.store.operator.entry import as_json, raw_fields
from engine.wire.flows import CHILDREN, PARENT, job_of, read_parent
from schemas.job import AttemptRecord, DeadRecord, Tombstone
from schemas.stats import QueueStats
from schemas.story import Attempt, Burial, CancelOrder, JobStory


async def tell(
    store: OperatorStore,
    found: Found,
    stats: QueueStats,
    explainer: Explainer,
    *,
    bytes_max: int = sys.maxsize,
) -> JobStory:
    """Gather a job's story; of fields with more bytes than that, their size alone."""
    meta = found.meta()
    record = found.record
    done = found.done
    progress = None
    if found.state == "active":
        progress = await store.jobs.progress(found.queue, found.id)
    tombstone = None
    if found.state not in {"done", "dead"}:
        tombstone = await store.orders.tombstone(found.queue, found.id)
        if tombstone is not None and not tombstone.stops(found.enqueued_ms):
            tombstone = None
    facts = None
    if stats.gates is not None or found.state == "waiting":
        facts = await store.gates.facts(found, await store.now_ms())
    return JobStory(
        job=found.row(),
        why=explainer.why(found, stats, tombstone, facts),
        payload=as_json(found.field(b"data"), bytes_max),
        fields=raw_fields(found.fields, bytes_max),
        deliveries=found.deliveries,
        lost=record.lost if record else meta.lost if meta else 0,
        snoozes=meta.snoozes if meta else 0,
        redrives=record.redrives if record else meta.redrives if meta else 0,
        history=_attempts(record.history if record else meta.history if meta else ()),
        progress=progress,
        result=as_json(done.result, bytes_max) if done else None,
        dead=_burial(found, record) if record else None,
        children=await store.jobs.children(found) if found.field(CHILDREN) else [],
        parent=_parent(found),
        cancelled=_order(tombstone) if tombstone else None,
        schedule=await _schedule(store, found),
    )


async def _schedule(store: OperatorStore, found: Found) -> str:
    """Name the schedule that made a job; of done jobs the id alone tells it."""
    name, _, tick = found.id.rpartition(":")
    if not (name and tick.removeprefix("now-").isdigit()):
        return ""
    if found.done is None:
        told = (found.field(b"schedule") or b"").decode("utf-8", "replace")
        return name if told == name else ""
    return name if await store.schedules.one(found.queue, name) is not None else ""


def _parent(found: Found) -> str:
    raw = found.field(PARENT)
    try:
        parent = read_parent(raw) if raw else None
    except Malformed:
        return ""
    return f"{parent.queue}/{job_of(parent.flow)}" if parent else ""


def _burial(found: Found, record: DeadRecord) -> Burial:
    return Burial(
        reason=record.reason,
        rule=record.rule,
        path=record.path,
        error=record.error,
        died_ms=record.died_ms,
        fingerprint=record.fingerprint,
        cut=record.cut,
        sha256=record.sha256,
        unable=found.unable(),
    )


def _order(tombstone: Tombstone) -> CancelOrder:
    return CancelOrder(who=tombstone.who, reason=tombstone.reason, at_ms=tombstone.at_ms)


def _attempts(history: Sequence[AttemptRecord]) -> list[Attempt]:
    return [Attempt(**msgspec.structs.asdict(record)) for record in history]

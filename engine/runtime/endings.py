"""
What is written when jobs end: from (job, outcome, decision) to the parts of a settlement. Pure.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence

import msgspec

from engine.core import decision as to
from engine.core import outcome as was
from engine.core.fingerprint import fingerprint
from engine.runtime.flow_records import FLOW_BYTES_MAX, flow_end, opened_flow
from engine.runtime.jobs import LiveJob
from engine.runtime.leaving import comes_back_to, head_of, leaves_of, ticket_kept
from engine.runtime.results import Column
from engine.store.base import Dead, Settlement
from engine.store.gates import behind
from engine.store.marks import Mark
from engine.wire.codec import DEAD, META, with_meta, without
from engine.wire.done import encode_done
from engine.wire.keys import lane_of
from engine.wire.packing import pack
from schemas.job import AttemptRecord, DeadRecord, ErrorRecord, Meta
from schemas.rules import LANES

HISTORY_MAX = 10
FIELDS_KEPT_MAX = 2_000
"""A dead letter keeps so many names and values; Lua's stack bounds what one XADD can take."""
_NO_ERROR = ErrorRecord(kind="")
_json = msgspec.json.Encoder().encode

_OUTCOME_WORDS: dict[type, str] = {
    was.Failed: "failed",
    was.TimedOut: "timeout",
    was.Retried: "retry",
    was.Snoozed: "snooze",
    was.Held: "hold",
    was.Limited: "limit",
    was.Cancelled: "cancelled",
}
_COUNTED_AS = {"backoff": "retried", "snooze": "snoozed"}


class Ending(msgspec.Struct, frozen=True):
    """
    One attempt's end that is not plain success.

    Attributes:
        job: The job.
        outcome: How the attempt ended.
        decision: What becomes of the job.
        at_ms: Unix ms of the end.
        run_us: How long it ran, in µs; 0 where no handler was started.
    """

    job: LiveJob
    outcome: was.Outcome
    decision: to.Decision
    at_ms: int
    run_us: int


def settlement_of(
    *,
    lane: str,
    engine: str,
    sequence: int,
    held: int,
    successes: Sequence[LiveJob],
    columns: Sequence[Column],
    endings: Sequence[Ending],
    lost: dict[str, int],
    at_ms: int,
    kept_bytes_max: int,
    gates: bool = False,
    mark: Mark | None = None,
) -> Settlement:
    """
    Build one settlement from everything that ended in one lane.

    Args:
        lane: The lane.
        engine: This engine's name.
        sequence: The settlement's number.
        held: Entries of the lane that this engine holds.
        successes: Jobs that are done.
        columns: The same by type.
        endings: All other ends.
        lost: Deliveries per type that were found lost with their engines.
        at_ms: Unix ms.
        kept_bytes_max: A dead letter larger than this leaves a hash in place of its fields.
        gates: Jobs of the queue have asked for gates.
        mark: The mark that the settlement may go by.
    """
    leases = [job.lease for job in successes]
    settlement = Settlement(
        lane=lane,
        sequence=sequence,
        held=held,
        ended=[lease.entry for lease in leases],
        released=[],
        deliveries={lease.entry: lease.deliveries for lease in leases if lease.deliveries != 1},
        done=[],
        retries=[],
        again=[],
        dead=[],
        aside=[],
        stats={f"lost:{name}": count for name, count in lost.items()},
        events=[],
        replies=[],
        finished=[],
        leaves=[],
        behind=[],
        brought_back=[],
        at_ms=at_ms,
    )
    for column in columns:
        _add_done(settlement, engine, column)
    for ending in endings:
        _add_ending(settlement, engine, ending, kept_bytes_max)
    settlement.leaves = leaves_of(successes, endings, gates=gates)
    if mark is not None:
        settlement.mark = mark
        leases += [ending.job.lease for ending in endings]
        settlement.unsure = [lease.entry for lease in leases if lease.batch.mark is not mark]
    return settlement


def _add_done(settlement: Settlement, engine: str, column: Column) -> None:
    bound, jobs = column.bound, column.jobs
    initial = settlement.lane[0].encode() + b"-"
    # Of bare jobs, nothing is left to say; their ids are built as by LiveJob.id.
    others = [job for job in jobs if job.envelope is not None or job.reported]
    ids = (
        [job.id.encode() for job in jobs] if others else [initial + job.lease.entry for job in jobs]
    )
    results = [job.result for job in jobs]
    settlement.done.append(
        encode_done(
            bound.name,
            lane_of(settlement.lane),
            engine,
            ids,
            column.us,
            results if any(results) else None,
        )
    )
    settlement.stats[f"done:{bound.name}"] = len(jobs)
    if bound.events:
        settlement.events += [_event("done", job, at_ms=settlement.at_ms) for job in jobs]
    for job in others:
        if job.reported:
            settlement.finished.append(job.id)
        if job.envelope is not None:
            if job.envelope.reply:
                fields = [b"outcome", b"done", b"result", job.result or b"null"]
                settlement.replies.append(_reply(job, fields))
            if job.envelope.parent is not None:
                settlement.ends.append(flow_end(job, result=job.result))
            if job.envelope.meta is not None and job.envelope.meta.operation:
                settlement.brought_back.append(("done", job.envelope.meta.operation))


def _add_ending(settlement: Settlement, engine: str, ending: Ending, kept_bytes_max: int) -> None:
    job, decision = ending.job, ending.decision
    lease = job.lease
    if lease.deliveries != 1:
        settlement.deliveries[lease.entry] = lease.deliveries
    if isinstance(decision, to.HandBack):
        settlement.released.append(lease.entry)
        return
    if not isinstance(ending.outcome, was.Trimmed):
        settlement.ended.append(lease.entry)
    if job.reported:
        settlement.finished.append(job.id)
    counted = _apply(settlement, engine, ending, kept_bytes_max)
    if counted:
        name = f"{counted}:{job.bound.name}"
        settlement.stats[name] = settlement.stats.get(name, 0) + 1
        if job.bound.events:
            error = _error(ending.outcome)
            word = "dead" if counted == "cancelled" else counted
            settlement.events.append(_event(word, job, at_ms=ending.at_ms, error=error.message))


def _apply(settlement: Settlement, engine: str, ending: Ending, kept_bytes_max: int) -> str:
    """Write down what becomes of a job; returns the word that it is counted under."""
    job, decision = ending.job, ending.decision
    match decision:
        case to.RetryAt(at_ms=due_ms, attempts=attempts, why=why):
            meta = _meta(ending, engine, attempts=attempts, why=why)
            if why == "backoff" and due_ms <= settlement.at_ms and _is_lanes_own(job):
                # Not so what spends no attempt: it may be asked for without end.
                settlement.again.append(with_meta(job.lease.fields, meta))
            else:
                settlement.retries.append((due_ms, _packed(job, meta, decision)))
            return _COUNTED_AS.get(why, "")
        case to.SetAside(attempts=attempts):
            meta = _meta(ending, engine, attempts=attempts, why="hold")
            settlement.aside.append((job.bound.name, _packed(job, meta, decision)))
            return "snoozed" if isinstance(ending.outcome, was.Held) else ""
        case to.OpenFlow(attempts=attempts):
            meta = _meta(ending, engine, attempts=attempts, why="children")
            settlement.opened.append(opened_flow(job, meta))
            return ""
        case to.DeadLetter():
            _add_death(settlement, _death(ending, engine, decision), ending, kept_bytes_max)
            return "cancelled" if is_ordered(ending) else "dead"
        case to.WaitFor(limit=limit, attempts=attempts):
            meta = _meta(ending, engine, attempts=attempts, why="limit")
            head = head_of(job, limit)
            fields = with_meta(job.lease.fields, meta)
            settlement.behind.append(behind(job.lane, limit, job.ticket, head, fields))
            return "snoozed"
        case to.Fold():
            _add_fold(settlement, engine, ending, decision)
            return "duplicate"
        case _:
            raise AssertionError(f"{decision} does not end a lease")


def is_ordered(ending: Ending) -> bool:
    """Tell whether a job ends because somebody cancelled it: that is a wish, and no failure."""
    return isinstance(ending.outcome, was.Cancelled) and ending.outcome.ordered


def _is_lanes_own(job: LiveJob) -> bool:
    """Tell whether a job came from its lane itself and holds nothing of the gates."""
    lease, envelope = job.lease, job.envelope
    keyed = envelope is not None and envelope.key
    return lease.batch.lane in LANES and not (keyed or lease.gated or lease.admitted)


def _packed(job: LiveJob, meta: Meta, decision: to.Decision) -> bytes:
    stream = comes_back_to(job, decision)
    return pack([stream.encode(), *with_meta(job.lease.fields, meta)])


def put_off(settlement: Settlement) -> None:
    """Let jobs wait in the delayed set that were to go to the end of their lane: it may be full."""
    lane = settlement.lane.encode()
    settlement.retries += [(settlement.at_ms, pack([lane, *each])) for each in settlement.again]
    settlement.again = []


def _add_fold(settlement: Settlement, engine: str, ending: Ending, decision: to.Fold) -> None:
    """Record a job as done that another one stands for."""
    job = ending.job
    result = _json({"replacedBy" if decision.replaced else "duplicateOf": decision.by})
    run = array("I", [0])
    ids = [job.id.encode()]
    settlement.done.append(encode_done(job.bound.name, job.lane, engine, ids, run, [result]))
    if job.envelope is None:
        return
    if job.envelope.meta is not None and job.envelope.meta.operation:
        settlement.brought_back.append(("done", job.envelope.meta.operation))
    if job.envelope.reply:
        fields = [b"outcome", b"done", b"result", result]
        settlement.replies.append(_reply(job, fields))
    if job.envelope.parent is not None:
        settlement.ends.append(flow_end(job, result=result))


def _meta(ending: Ending, engine: str, *, attempts: int, why: str) -> Meta:
    job = ending.job
    before = job.envelope.meta if job.envelope is not None else None
    return Meta(
        id=job.id,
        enqueued_ms=job.enqueued_ms,
        attempts=attempts,
        lost=job.lost,
        snoozes=(before.snoozes if before else 0) + (why == "snooze"),
        redrives=before.redrives if before else 0,
        operation=before.operation if before else "",
        ticket=ticket_kept(job, ending.decision) if job.envelope is not None else "",
        why=why,
        history=_history(ending, engine),
    )


def _history(ending: Ending, engine: str) -> tuple[AttemptRecord, ...]:
    meta = ending.job.envelope.meta if ending.job.envelope is not None else None
    before = meta.history if meta else ()
    word = _OUTCOME_WORDS.get(type(ending.outcome))
    never_ran = ending.run_us == 0 and isinstance(ending.outcome, was.Held)
    if word is None or never_ran or not getattr(ending.outcome, "started", True):
        # No handler was started, so there is no attempt to tell of.
        return before
    record = AttemptRecord(
        number=ending.job.attempt,
        at_ms=ending.at_ms,
        run_ms=ending.run_us // 1000,
        engine=engine,
        outcome=word,
        error=_error(ending.outcome),
    )
    if word == "snooze" and before and before[-1].outcome == "snooze":
        # A job may be put off for days: its real attempts must not be pushed out of the story.
        before = before[:-1]
    return (*before, record)[-HISTORY_MAX:]


def _error(outcome: was.Outcome) -> ErrorRecord:
    return getattr(outcome, "error", None) or _NO_ERROR


def _add_death(
    settlement: Settlement, record: DeadRecord, ending: Ending, kept_bytes_max: int
) -> None:
    job = ending.job
    meta = job.envelope.meta if job.envelope is not None else None
    fields = job.lease.fields
    size = sum(map(len, fields))
    if job.envelope is not None and job.envelope.children > 0:
        kept_bytes_max += FLOW_BYTES_MAX
    if size > kept_bytes_max or len(fields) > FIELDS_KEPT_MAX:
        record = msgspec.structs.replace(
            record, cut=size, sha256=hashlib.sha256(b"\0".join(fields)).hexdigest()
        )
        fields = []
    elif record.reason != "malformed":
        fields = without(fields, META)
    sample = {
        "id": record.id,
        "type": record.type,
        "reason": record.reason,
        "kind": record.error.kind,
        "message": record.error.message,
    }
    settlement.dead.append(Dead([DEAD, _json(record), *fields], record.fingerprint, _json(sample)))
    if job.envelope is not None and job.envelope.reply:
        reason, error = record.reason.encode(), record.error.message.encode()
        told = [b"outcome", b"dead", b"reason", reason, b"error", error]
        settlement.replies.append(_reply(job, told))
    if job.envelope is not None and job.envelope.parent is not None:
        settlement.ends.append(flow_end(job, record))
    if meta is not None and meta.operation:
        settlement.brought_back.append(("dead", meta.operation))


def _death(ending: Ending, engine: str, decision: to.DeadLetter) -> DeadRecord:
    job, outcome = ending.job, ending.outcome
    error = _error(outcome)
    meta = job.envelope.meta if job.envelope is not None else None
    if error is _NO_ERROR and meta is not None and meta.history:
        # Dead without an attempt of its own: the last one says most.
        error = meta.history[-1].error or _NO_ERROR
    rule, path = (outcome.rule, outcome.path) if isinstance(outcome, was.Broken) else ("", "")
    return DeadRecord(
        id=job.id,
        type=job.bound.name,
        lane=job.lane,
        entry=job.lease.entry.decode(),
        reason=decision.reason,
        error=error,
        rule=rule,
        path=path,
        attempts=decision.attempts,
        lost=job.lost,
        redrives=meta.redrives if meta else 0,
        ticket=job.ticket if job.envelope is not None and job.envelope.key else "",
        enqueued_ms=job.enqueued_ms,
        died_ms=ending.at_ms,
        fingerprint=fingerprint(job.bound.name, decision.reason, error.kind, error.message),
        history=_history(ending, engine),
    )


def _event(name: str, job: LiveJob, *, at_ms: int, error: str = "") -> bytes:
    told = {"event": name, "id": job.id, "type": job.type, "attempt": job.attempt, "atMs": at_ms}
    return _json({**told, "error": error} if error else told)


def event_started(job: LiveJob, at_ms: int) -> bytes:
    """Tell the events stream that a job was started."""
    return _event("started", job, at_ms=at_ms)


def event_progressed(job: LiveJob, at_ms: int, percent: float, message: str) -> bytes:
    """Tell the events stream how far a job is."""
    told = {"event": "progressed", "id": job.id, "type": job.type, "attempt": job.attempt}
    return _json({**told, "atMs": at_ms, "percent": percent, "message": message})


def _reply(job: LiveJob, fields: list[bytes]) -> tuple[str, list[bytes]]:
    assert job.envelope is not None
    about = [b"id", job.id.encode(), b"type", job.type.encode(), b"attempt", b"%d" % job.attempt]
    return job.envelope.reply, about + fields

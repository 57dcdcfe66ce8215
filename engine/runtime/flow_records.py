"""
What flows are made of, from the jobs of one engine: the state that a parent leaves behind, the
message of a child that ended, the jobs that are sent for its children. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from engine.runtime.jobs import LiveJob
from engine.store.flow_base import ChildJob, ChildNote, FlowTask, Opened
from engine.wire import flows
from engine.wire.codec import META, encode_meta, with_meta, without
from engine.wire.packing import pack
from schemas import rules
from schemas.flow import CANCELLED, DONE, FAILED, IGNORED, ChildEnd, ChildFailure, ParentRecord
from schemas.job import DeadRecord, Meta

FLOW_BYTES_MAX = rules.CHILDREN_BYTES_MAX + 2 * rules.FLOW_RESULTS_BYTES_MAX
"""What a parent's entry may hold beside its payload and envelope."""

ERROR_CHARS_MAX = 200
CHUNK_JOBS = 100
CHUNK_BYTES = 524_288
"""Bounds of one script call."""

NULL = b"null"
_json = msgspec.json.Encoder().encode


def opened_flow(job: LiveJob, meta: Meta) -> Opened:
    """Lay out what is known of a parent while it waits."""
    envelope = job.envelope
    assert envelope is not None
    family = envelope.family
    own = with_meta(without(job.lease.fields, flows.FAMILY), meta)
    states = flows.fresh_states(envelope.children, family)
    fields = [
        b"job", pack([job.lane.encode(), *own]),
        b"states", states.encode(),
        b"redrives", b"%d" % meta.redrives,
    ]  # fmt: skip
    if envelope.results:
        results = family.results or () if family is not None else ()
        done = [(n, bytes(raw)) for n, raw in enumerate(results) if states[n] == DONE]
        fields += [b"want", b"1", b"bytes", b"%d" % sum(len(raw) for _, raw in done)]
        for number, raw in done:
            fields += (b"r%d" % number, raw)
    return Opened(flows.flow_of(job.id, job.lane, job.lease.entry.decode()), fields)


def flow_end(job: LiveJob, record: DeadRecord | None = None, *, result: bytes = b"") -> bytes:
    """Tell a child's parent of its end."""
    assert job.envelope is not None
    parent = job.envelope.parent
    assert parent is not None
    end = ChildEnd(
        parent=parent,
        id=job.id,
        type=job.type,
        reason=record.reason if record else "",
        error=error_of(record),
        result=msgspec.Raw(result if parent.results and result else NULL),
    )
    return flows.encode_end(end)


def error_of(record: DeadRecord | None) -> str:
    """Shorten a death's error to one line."""
    if record is None:
        return ""
    error = record.error
    told = f"{record.rule}: " if record.rule else ""
    kind = error.kind if error.kind != record.rule else ""
    return (told + ": ".join(filter(None, (kind, error.message))))[:ERROR_CHARS_MAX]


def note_of(end: ChildEnd, queue: str) -> ChildNote:
    """Turn a child's message into what is noted in its parent's flow."""
    parent = end.parent
    if not end.reason:
        result = bytes(end.result)
        return ChildNote(parent.number, DONE, result=b"" if result == NULL else result)
    failure = ChildFailure(
        number=parent.number,
        id=end.id,
        type=end.type,
        queue=queue,
        reason=end.reason,
        error=end.error,
    )
    letter = IGNORED if parent.on_failure == "ignore" else FAILED
    if end.reason == "cancelled":
        letter = CANCELLED
    closes = {"fail": "failed", "continue": "continued", "ignore": ""}[parent.on_failure]
    return ChildNote(parent.number, letter, closes, failure=_json(failure))


def marker(queue: str, flow: str, number: int) -> str:
    """Name a child among all that were sent to its queue."""
    return f"{queue}/{flow}/{number}"


def read_marker(name: str) -> tuple[str, str, int]:
    """Undo :func:`marker`."""
    queue, _, rest = name.partition("/")
    flow, _, number = rest.rpartition("/")
    return queue, flow, int(number)


class Child(msgspec.Struct, frozen=True):
    """
    One child of a flow that has something to do.

    Attributes:
        number: Its place.
        queue: Its queue.
        id: Its job id.
        job: What is sent.
    """

    number: int
    queue: str
    id: str
    job: ChildJob


def parent_of(task: FlowTask) -> Meta:
    """Read what an engine wrote of a flow's parent."""
    found = dict(zip(task.job[1::2], task.job[2::2], strict=True))
    return msgspec.json.decode(found[META], type=Meta)


def children_of(queue: str, task: FlowTask, letters: str, *, now_ms: int) -> Iterator[Child]:
    """
    Build the children of a flow that are in certain states.

    Args:
        queue: The parent's queue.
        task: The flow.
        letters: The states.
        now_ms: Dates those that are sent again, after their parent came back from the dead.

    Raises:
        Malformed: The field ``children`` was not judged by an engine.
    """
    found = dict(zip(task.job[1::2], task.job[2::2], strict=True))
    meta = parent_of(task)
    for number, spec in enumerate(flows.read_children(found[flows.CHILDREN])):
        if number >= len(task.states) or task.states[number] not in letters:
            continue
        job_id = spec.id or flows.child_id(meta.id, number)
        parent = ParentRecord(
            queue=queue,
            flow=task.flow,
            number=number,
            on_failure=spec.on_failure,
            results=flows.RESULTS in found and found[flows.RESULTS] == b"1",
        )
        fields = [*spec.fields, *(() if spec.id else (b"id", job_id.encode()))]
        if b"traceparent" in found and b"traceparent" not in spec.fields:
            fields += (b"traceparent", found[b"traceparent"])
            if b"tracestate" in found and b"tracestate" not in spec.fields:
                fields += (b"tracestate", found[b"tracestate"])
        if spec.children:
            fields += (flows.CHILDREN, spec.children)
            fields += (flows.RESULTS, b"1") if spec.results else ()
        fields += (flows.PARENT, flows.encode_parent(parent))
        if meta.redrives:
            fields += (META, encode_meta(_again(job_id, meta, now_ms)))
        name = marker(queue, task.flow, number)
        job = ChildJob(marker=name, lane=spec.lane, fields=fields)
        yield Child(number, spec.queue or queue, job_id, job)


def _again(job_id: str, parent: Meta, now_ms: int) -> Meta:
    """Mark a child that is sent again, so that nobody takes it for a repeat by its producer."""
    return Meta(id=job_id, enqueued_ms=now_ms, redrives=parent.redrives, why="redrive")


def chunks(children: Iterable[Child]) -> Iterator[list[Child]]:
    """Part children into as many as one script call takes."""
    chunk: list[Child] = []
    size = 0
    for child in children:
        chunk.append(child)
        size += sum(map(len, child.job.fields))
        if len(chunk) == CHUNK_JOBS or size > CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def by_queue(chunk: Iterable[Child]) -> list[list[Child]]:
    """Part children by their queues."""
    queues: dict[str, list[Child]] = {}
    for child in chunk:
        queues.setdefault(child.queue, []).append(child)
    return list(queues.values())

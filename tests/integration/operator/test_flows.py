"""Jobs that wait for others, as operators see them, against a real server."""

from __future__ import annotations

import json

import pytest

from engine.admin import Admin
from engine.errors import WrongState
from engine.store.operator import Query
from engine.wire.codec import META, encode_meta
from engine.wire.flows import PARENT, encode_parent
from engine.wire.packing import pack
from schemas.flow import ParentRecord
from schemas.job import Meta
from schemas.story import JobStory
from tests.support.queue_writer import QUEUE, TYPE, QueueWriter, job_fields

TREE = json.dumps(
    [
        {"type": TYPE, "id": "own"},
        {"type": TYPE, "queue": "far"},
        {"type": TYPE, "children": [{"type": TYPE}]},
    ]
)


def wait_for_children(
    queue: QueueWriter, job_id: str, tree: str, states: str, **more: bytes
) -> None:
    """Put a parent behind its children, as a settlement does."""
    own = [*job_fields(children=tree, **more), META, encode_meta(Meta(id=job_id, enqueued_ms=7))]
    flow = f"{job_id}/n-9-0"
    job = pack([b"normal", *own])
    queue.call("HSET", queue.keys.flow(flow), "job", job, "states", states, "redrives", 0)
    queue.call("ZADD", queue.keys.flows, 0, flow)


async def find(admin: Admin, job_id: str) -> JobStory:
    (story,) = (await admin.job(job_id, queue=QUEUE)).found
    return story


async def test_a_parent_is_found_with_its_tree(admin: Admin, queue: QueueWriter) -> None:
    parent = encode_parent(ParentRecord(queue=QUEUE, flow="p/n-9-0", number=2))
    wait_for_children(queue, "p", TREE, "dps")
    wait_for_children(queue, "p.2", json.dumps([{"type": TYPE}]), "s", **{PARENT.decode(): parent})
    queue.beat()

    story, inner = await find(admin, "p"), await find(admin, "p.2")

    assert (story.job.state, story.job.note) == ("waiting-children", "2 of 3 left")
    assert story.why == f"waits for 2 of 3 children: p.1 in far, p.2 in {QUEUE}"
    assert [(row.id, row.state) for row in story.children] == [
        ("own", "done"),
        ("p.1", "to be sent"),
        ("p.2", "sent"),
    ]
    assert [(row.id, row.queue) for row in story.children[2].children] == [("p.2.0", QUEUE)]
    assert inner.parent == f"{QUEUE}/p"
    assert (await admin.queue(QUEUE)).flows == 2


async def test_parents_are_listed_in_pages(admin: Admin, queue: QueueWriter) -> None:
    for number in range(5):
        wait_for_children(queue, f"p{number}", TREE, "sss")

    first = await admin.jobs(QUEUE, "waiting-children", Query(limit=3, newest=False))
    rest = await admin.jobs(QUEUE, "waiting-children", Query(cursor=first.cursor, newest=False))

    assert [job.id for job in first.jobs] == ["p0", "p1", "p2"]
    assert [job.id for job in rest.jobs] == ["p3", "p4"]
    assert (first.total, rest.complete) == (5, True)
    newest = await admin.jobs(QUEUE, "waiting-children", Query(limit=1))
    assert [job.id for job in newest.jobs] == ["p4"]


async def test_a_parent_that_waits_can_be_cancelled_and_not_moved(
    admin: Admin, queue: QueueWriter
) -> None:
    wait_for_children(queue, "p", TREE, "sss")

    with pytest.raises(WrongState, match="waits for its children"):
        await admin.run_now("p", queue=QUEUE)
    with pytest.raises(WrongState, match="waits for its children"):
        await admin.change_priority("p", "high", queue=QUEUE)
    order = await admin.cancel("p", queue=QUEUE)

    assert order.changed
    assert "cancelled" in (await find(admin, "p")).why


async def test_a_namesake_of_a_longer_id_is_not_found(admin: Admin, queue: QueueWriter) -> None:
    wait_for_children(queue, "p/x", TREE, "sss")
    wait_for_children(queue, "p", TREE, "sss")

    assert (await find(admin, "p")).job.id == "p"
    assert (await find(admin, "p/x")).job.id == "p/x"

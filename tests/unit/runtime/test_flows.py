"""Jobs that wait for others, in a whole engine over the model."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest

from engine import Cancel, Exponential, Job, Registry
from engine.runtime import flow_sweep
from engine.testing import EngineHarness
from schemas.flow import ChildrenRecord
from schemas.job import DeadRecord, Meta

RETRY = Exponential(attempts=2, base_s=1)


class Seen:
    """An app of two queues whose handlers write down what they saw."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.let_go = asyncio.Event()
        self.children: dict[str, Any] = {}
        self.registry = Registry()
        for queue in ("near", "far"):
            self._add(queue)

    def _add(self, queue: str) -> None:
        @self.registry.job(f"{queue}-work", queue=queue, retry=RETRY)
        async def work(job: Job, payload: dict[str, Any]) -> Any:
            self.order.append(job.id)
            self.children[job.id] = job.children
            if payload.get("hangs") and job.attempt > 1:
                await self.let_go.wait()
            if payload.get("fail"):
                raise RuntimeError("no such user")
            if payload.get("cancel"):
                raise Cancel("not wanted")
            return payload.get("returns")


def child(queue: str = "near", **spec: Any) -> dict[str, Any]:
    return {"queue": queue, "type": f"{queue}-work", **spec}


def add(engine: EngineHarness, children: list[dict[str, Any]], **fields: Any) -> str:
    """A producer's bare XADD of a whole tree."""
    return engine.add("near-work", {}, children=json.dumps(children), **fields)


async def test_a_parent_runs_after_all_of_its_children_and_knows_their_results() -> None:
    seen = Seen()
    async with EngineHarness(seen.registry) as engine:
        children = [
            child("far", data={"returns": {"n": 1}}),
            child(data={"returns": "two"}, id="own"),
            child(),
        ]
        parent = add(engine, children, id="sum", results=1)
        await engine.drain()

    assert seen.order[-1] == parent == "sum"
    assert sorted(seen.order[:-1]) == ["own", "sum.0", "sum.2"]
    found = seen.children["sum"]
    assert (found.total, found.done, found.unfinished) == (3, 3, 0)
    assert found.results == ({"n": 1}, "two", None)
    assert set(engine.done("far")) == {"sum.0"}
    assert engine.model.queue("near").flow_states == {}
    assert engine.model.queue("near").flow_sent == engine.model.queue("far").flow_sent == {}
    assert engine.engine.meters.queues["near"].flows_closed["complete"] == 1


async def test_a_chain_runs_one_after_the_other() -> None:
    seen = Seen()
    async with EngineHarness(seen.registry) as engine:
        add(engine, [child("far", id="b", children=[child(id="a")])], id="c")
        await engine.drain()

    assert seen.order == ["a", "b", "c"]


async def test_a_failed_child_fails_its_parent_which_tells_of_it() -> None:
    seen = Seen()
    async with EngineHarness(seen.registry) as engine:
        add(engine, [child("far", data={"fail": True})], id="p")
        await engine.drain()

    record = engine.dead("near")["p"]
    assert record.reason == "child-failed"
    assert record.error.message == (
        "child 0, p.0 (far-work in far), ended dead: exhausted: RuntimeError: no such user"
    )
    assert "p" not in seen.order


async def test_an_ignored_child_is_counted_and_its_parent_waits_for_the_others() -> None:
    seen = Seen()
    async with EngineHarness(seen.registry) as engine:
        children = [
            child(data={"fail": True}, onFailure="ignore"),
            child(data={"cancel": True}, onFailure="ignore"),
            child("far", delay=5_000),
        ]
        add(engine, children, id="p")
        await engine.drain()

    found = seen.children["p"]
    assert (found.done, found.ignored, found.cancelled, found.failed) == (1, 1, 1, 0)
    assert {failure.id for failure in found.failures} == {"p.0", "p.1"}
    assert seen.order[-1] == "p"


async def test_a_child_may_let_its_parent_go_on_without_the_others() -> None:
    seen = Seen()
    async with EngineHarness(seen.registry) as engine:
        children = [
            child(data={"cancel": True}, onFailure="continue"),
            child("far", delay=60_000),
        ]
        add(engine, children, id="p")
        await engine.until(lambda: "p" in seen.order)
        found = seen.children["p"]
        await engine.drain()

    assert (found.cancelled, found.unfinished) == (1, 1)
    assert seen.order[-1] == "p.1"
    assert engine.model.queue("near").flow_states == {}


async def test_a_child_that_breaks_a_rule_tells_its_parent_too() -> None:
    seen = Seen()
    async with EngineHarness(seen.registry) as engine:
        children = [child("far", type="nobody-s", onFailure="ignore")]
        add(engine, children, id="p")
        await engine.drain()

    assert seen.children["p"].failures[0].reason == "malformed"
    assert "type-unknown" in seen.children["p"].failures[0].error


async def test_a_tree_is_judged_before_any_of_it_is_sent() -> None:
    seen = Seen()
    async with EngineHarness(seen.registry) as engine:
        add(engine, [child(), child(children=[child(attempts=0)])], id="p")
        await engine.drain()

    record = engine.dead("near")["p"]
    assert (record.reason, record.rule) == ("malformed", "child-attempts-number")
    assert record.path == "$[1].children[0]"
    assert seen.order == []


async def test_a_parent_without_children_just_runs() -> None:
    seen = Seen()
    async with EngineHarness(seen.registry) as engine:
        add(engine, [], id="p")
        await engine.drain()

    assert seen.order == ["p"]
    assert seen.children["p"].total == 0


@pytest.mark.parametrize("waits", [True, False])
async def test_a_child_whose_entry_is_deleted_while_it_is_leased_tells_its_parent(
    waits: bool,
) -> None:
    """By the entry in which it was sent; by what stood in it where the engine has it in hand."""
    seen = Seen()
    async with EngineHarness(seen.registry) as engine:
        far = engine.model.queue("far")
        far.control_hash["paused"] = "1"
        await engine.advance(1)
        children = [child("far", data={"fail": True, "hangs": True}, onFailure="ignore")]
        add(engine, children, id="p")
        await engine.advance(3)
        if waits:
            far.read("another", "normal", 1)
            del far.control_hash["paused"]
        else:
            del far.control_hash["paused"]
            await engine.advance(3)
            assert seen.order == ["p.0", "p.0"]
        far.streams["normal"].entries.clear()
        await engine.advance(60)

        assert engine.dead("far")["p.0"].reason == "trimmed"
        assert engine.dead("far")["p.0"].type == "far-work"
        assert seen.children["p"].ignored == 1
        assert far.flow_sent == {}
        seen.let_go.set()


async def test_retries_of_a_parent_do_not_send_its_children_again() -> None:
    seen = Seen()
    async with EngineHarness(seen.registry) as engine:
        engine.add("near-work", {"fail": True}, children=json.dumps([child()]), id="p")
        await engine.drain()

    assert seen.order == ["p.0", "p", "p"]
    assert engine.dead("near")["p"].reason == "exhausted"


async def test_a_stranger_s_word_about_children_is_malformed() -> None:
    seen = Seen()
    async with EngineHarness(seen.registry) as engine:
        family = msgspec.json.encode(ChildrenRecord(how="complete", states="x"))
        job = [b"type", b"near-work", b"data", b"{}", b"children", b"[]", b"_children", family]
        engine.add_entry(job, queue="near")
        engine.add_entry([b"type", b"near-work", b"data", b"{}", b"_parent", b"{}"], queue="near")
        await engine.drain()

    assert {record.rule for record in engine.dead("near").values()} == {"engine-field"}


async def test_cancelling_a_parent_cancels_its_children_down_the_tree() -> None:
    seen = Seen()
    async with EngineHarness(seen.registry) as engine:
        inner = [child(delay=60_000), child("far", delay=60_000, id="leaf")]
        add(engine, [child("far", children=inner), child(delay=60_000)], id="p")
        await engine.until(lambda: len(engine.model.queue("far").delayed) == 1)
        engine.model.queue("near").cancel("p", who="ann", reason="enough")
        await engine.advance(10)
        assert seen.order == []
        await engine.drain()

    ends = engine.dead("near") | engine.dead("far")
    assert {job_id: record.reason for job_id, record in ends.items()} == dict.fromkeys(
        ["p", "p.0", "p.1", "p.0.0", "leaf"], "cancelled"
    )
    assert engine.model.queue("near").cancelled == engine.model.queue("far").cancelled == {}
    assert engine.model.queue("near").flow_states == engine.model.queue("far").flow_states == {}
    assert seen.order == []


async def test_a_failed_child_calls_its_siblings_back() -> None:
    seen = Seen()
    async with EngineHarness(seen.registry) as engine:
        children = [child(data={"cancel": True}), child("far", delay=60_000)]
        add(engine, children, id="p")
        await engine.until(lambda: "p" in engine.dead("near"))
        await engine.advance(10)
        await engine.drain()

    assert engine.dead("far")["p.1"].reason == "cancelled"
    assert "another child failed" in engine.dead("far")["p.1"].error.message


async def test_a_tombstone_of_an_earlier_job_leaves_its_namesake_s_children_alone() -> None:
    seen = Seen()
    async with EngineHarness(seen.registry) as engine:
        engine.model.queue("near").cancel("p")
        await engine.advance(1)
        add(engine, [child("far", delay=3_000)], id="p")
        await engine.drain()

    assert seen.order == ["p.0", "p"]


async def test_a_redriven_parent_sends_what_is_not_done_again() -> None:
    seen = Seen()
    async with EngineHarness(seen.registry) as engine:
        children = [child(data={"returns": 1}), child("far", data={"fail": True}, id="bad")]
        add(engine, children, id="p", results=1)
        await engine.until(lambda: "p.0" in seen.order)
        await engine.drain()
        assert engine.dead("near")["p"].reason == "child-failed"
        seen.order.clear()
        redrive(engine, "near", "p")
        await engine.until(lambda: "bad" in seen.order)
        await engine.drain()

    assert "p.0" not in seen.order
    assert {record.redrives for record in engine.dead("near").values()} == {1}


def redrive(engine: EngineHarness, queue: str, job_id: str) -> None:
    """What `dead retry` does."""
    stream = engine.model.queue(queue).dead
    for entry, fields in list(stream.entries.items()):
        record = msgspec.json.decode(fields[1], type=DeadRecord)
        if record.id == job_id:
            del stream.entries[entry]
            now_ms = int(engine.model.now_ms())
            meta = Meta(id=job_id, enqueued_ms=now_ms, redrives=record.redrives + 1)
            engine.add_entry([*fields[2:], b"_engine", msgspec.json.encode(meta)], queue=queue)


async def test_a_parent_that_is_a_duplicate_sends_no_children() -> None:
    seen = Seen()
    async with EngineHarness(seen.registry) as engine:
        add(engine, [child(delay=5_000)], id="p", unique="report")
        add(engine, [child()], id="q", unique="report")
        await engine.until_ended("q", queue="near")
        assert seen.order == []
        await engine.drain()

    assert engine.done("near")["q"].result == b'{"duplicateOf":"p"}'
    assert seen.order == ["p.0", "p"]


async def test_a_child_that_is_a_duplicate_counts_as_done() -> None:
    seen = Seen()
    async with EngineHarness(seen.registry) as engine:
        engine.add("far-work", {}, id="first", unique="x", delay=5_000)
        add(engine, [child("far", unique="x")], id="p", results=1)
        await engine.until_ended("p", queue="near")
        await engine.drain()

    assert seen.children["p"].results == ({"duplicateOf": "first"},)


async def test_a_parent_takes_its_place_in_the_order_of_its_key_after_its_children() -> None:
    seen = Seen()
    async with EngineHarness(seen.registry) as engine:
        add(engine, [child(delay=5_000)], id="p", key="k")
        engine.add("near-work", {}, id="later", key="k")
        await engine.advance(1)
        assert seen.order == ["later"]
        await engine.drain()

    assert seen.order == ["later", "p.0", "p"]


async def test_a_job_that_is_early_holds_no_key_for_those_behind_it() -> None:
    """It has an id that must be new, so it is asked for together with the one behind it."""
    seen = Seen()
    async with EngineHarness(seen.registry) as engine:
        engine.add("near-work", {}, id="early", key="k", delay=5_000)
        engine.add("near-work", {}, id="later", key="k")
        await engine.advance(1)
        assert seen.order == ["later"]
        await engine.drain()

    assert seen.order == ["later", "early"]


async def test_a_child_that_is_deleted_before_an_engine_takes_it_fails_its_parent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(flow_sweep, "PASS_MS", 1_000)
    seen = Seen()
    async with EngineHarness(seen.registry) as engine:
        engine.model.queue("far").control_hash["paused"] = "1"
        await engine.advance(1)
        parent = add(engine, [child("far"), child("far", delay=200_000)])
        far = engine.model.queue("far")
        await engine.until(lambda: len(far.flow_sent) == 2)
        lane = far.lanes["normal"]
        del lane.entries[min(lane.entries)]
        while parent not in engine.dead("near"):
            await engine.advance(2)

        record = engine.dead("near")[parent]
        assert record.reason == "child-failed"
        assert f"{parent}.0" in record.error.message
        assert "trimmed" in record.error.message
        assert seen.order == []

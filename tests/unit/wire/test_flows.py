"""The field ``children`` and what travels between parents and children."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from engine.errors import Malformed
from engine.wire import flows
from engine.wire.codec import Limits, parse, salvage
from schemas.flow import ChildEnd, ChildrenRecord, ParentRecord
from schemas.rules import CHILDREN_DEPTH_MAX, CHILDREN_MAX

PARENT = ParentRecord(queue="q", flow="p/n-1-0", number=3, on_failure="ignore", results=True)


def judged(children: Any, **more: bytes) -> Any:
    raw = children if isinstance(children, bytes) else json.dumps(children).encode()
    flat = [b"type", b"t", b"data", b"{}", b"children", raw]
    for name, value in more.items():
        flat += (name.encode(), value)
    return parse(flat, entry_ms=1_763_769_600_000, limits=Limits())


def nested(depth: int) -> dict[str, Any]:
    tree: dict[str, Any] = {"type": "t"}
    for _ in range(depth - 1):
        tree = {"type": "t", "children": [tree]}
    return tree


def test_a_child_is_what_a_producer_would_write() -> None:
    (spec,) = flows.read_children(
        b'[{"queue":"far","type":"t","lane":"low","data":{"n": 1e400},"delay":5,"id":"c",'
        b'"tenant":"a","onFailure":"ignore","results":true,"children":[ ]}]'
    )

    assert (spec.queue, spec.lane, spec.on_failure, spec.id) == ("far", "low", "ignore", "c")
    assert (spec.children, spec.results) == (b"[ ]", True)
    found = dict(zip(spec.fields[::2], spec.fields[1::2], strict=True))
    assert found == {
        b"type": b"t",
        b"data": b'{"n": 1e400}',
        b"delay": b"5",
        b"id": b"c",
        b"tenant": b"a",
    }


def test_a_child_may_name_nothing_but_its_type() -> None:
    (spec,) = flows.read_children(b'[{"type":"t"}]')

    assert (spec.queue, spec.lane, spec.on_failure, spec.children) == ("", "normal", "fail", b"")
    assert spec.fields == [b"type", b"t", b"data", b"{}"]


def test_a_parent_knows_how_many_children_it_has() -> None:
    assert judged([]).children == 0
    assert judged([{"type": "t"}, nested(3)], results=b"1").children == 2
    assert judged([nested(CHILDREN_DEPTH_MAX)]).children == 1


@pytest.mark.parametrize(
    ("children", "rule", "path"),
    [
        (b"", "children-json", "$"),
        (b"{}", "children-json", "$"),
        (b"[1]", "children-json", "$"),
        (b'[{"type":"t"}', "children-json", "$"),
        (b'[{"type":"t","data":"\xff"}]', "children-json", "$"),
        (b"[" * 100_000, "children-json", "$"),
        (b'[{"type":"t","data":' + b"[" * 100_000 + b"}]", "children-json", "$"),
        ([{"type": "t", "children": [{"type": "t", "children": 7}]}], "children-json", None),
        ([{}], "child-field", "$[0]"),
        ([{"type": "T"}], "child-type-name", "$[0]"),
        ([{"type": "t", "attempts": 0}], "child-attempts-number", "$[0]"),
        ([{"type": "t", "delay": 1.5}], "child-field", "$[0]"),
        ([{"type": "t", "delay": None}], "child-field", "$[0]"),
        ([{"type": "t", "delay": 1, "at": 5}], "child-delay-number", "$[0]"),
        ([{"type": "t", "lane": "fast"}], "child-field", "$[0]"),
        ([{"type": "t", "queue": "a b"}], "child-field", "$[0]"),
        ([{"type": "t", "onFailure": "retry"}], "child-field", "$[0]"),
        ([{"type": "t", "_engine": "x"}], "child-field", "$[0]"),
        ([{"type": "t", "id": "a b"}], "child-id-name", "$[0]"),
        (b'[{"type":"t","x":"\\ud800"}]', "children-json", "$"),
        ([{"type": "t"}, nested(2) | {"key": ""}], "child-key-name", "$[1]"),
        ([nested(CHILDREN_DEPTH_MAX + 1)], "children-depth", None),
        ([{"type": "t"}] * (CHILDREN_MAX + 1), "children-too-many", ""),
        (b"[" + b" " * 1_048_576 + b"]", "children-too-large", ""),
    ],
)
def test_a_broken_tree_names_its_rule_and_place(children: Any, rule: str, path: str | None) -> None:
    with pytest.raises(Malformed) as caught:
        judged(children)

    assert caught.value.rule == rule
    assert path in {None, caught.value.path}


def test_results_are_those_of_children() -> None:
    with pytest.raises(Malformed, match="children-missing"):
        parse([b"type", b"t", b"data", b"{}", b"results", b"1"], entry_ms=1, limits=Limits())


def test_what_travels_reads_as_it_was_written() -> None:
    end = ChildEnd(parent=PARENT, id="c", type="t", reason="exhausted", error="no")

    assert flows.read_parent(flows.encode_parent(PARENT)) == PARENT
    assert flows.read_end(flows.encode_end(end)) == end


@pytest.mark.parametrize(
    "change",
    [
        {"queue": "a b"},
        {"number": -1},
        {"number": CHILDREN_MAX},
        {"flow": ""},
        {"flow": "a b/n-1-0"},
        {"flow": "x" * 400},
    ],
)
def test_an_address_that_no_engine_wrote_is_malformed(change: dict[str, Any]) -> None:
    raw = flows.encode_parent(msgspec.structs.replace(PARENT, **change))

    with pytest.raises(Malformed, match="engine-field"):
        flows.read_parent(raw)
    with pytest.raises(Malformed, match="engine-field"):
        parse([b"type", b"t", b"data", b"{}", b"_parent", raw], entry_ms=1, limits=Limits())


@pytest.mark.parametrize(
    "raw",
    [
        b"{}",
        b"",
        msgspec.json.encode(ChildrenRecord(how="complete", states="x")),
        msgspec.json.encode(ChildrenRecord(how="complete", states="d" * (CHILDREN_MAX + 1))),
        msgspec.json.encode(ChildrenRecord(how="complete", states="d", results=())),
    ],
)
def test_a_family_that_no_engine_wrote_is_malformed(raw: bytes) -> None:
    with pytest.raises(Malformed, match="engine-field"):
        flows.read_family(raw)


def test_a_malformed_child_still_says_whose_it_is() -> None:
    flat = [b"type", b"T", b"data", b"{", b"_parent", flows.encode_parent(PARENT)]

    told = salvage(flat, Limits())

    assert told is not None
    assert told.parent == PARENT


def test_a_child_s_name_is_its_parent_s_and_its_number() -> None:
    assert flows.child_id("order-7", 3) == "order-7.3"
    assert flows.job_of(flows.flow_of("a/b", "low", "1-2")) == "a/b"
    long = flows.child_id("x" * 128, 9_999)
    assert len(long) < 60
    assert flows.child_id("x" * 128, 9_999) == long != flows.child_id("x" * 127 + "y", 9_999)


def test_after_a_redrive_only_what_is_not_done_is_sent_again() -> None:
    family = ChildrenRecord(how="failed", states="dficsp")

    assert flows.fresh_states(6, family) == "dppppp"
    assert flows.fresh_states(2, None) == "pp"
    assert flows.fresh_states(2, family) == "pp"

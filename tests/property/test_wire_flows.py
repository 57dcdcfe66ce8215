"""The field ``children`` comes from strangers: nothing but Malformed is ever raised."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from engine.errors import Malformed
from engine.wire import flows
from engine.wire.codec import Limits, parse
from schemas.rules import LANES

NOW_MS = 1_763_769_600_000

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
members = st.sampled_from(
    ["type", "data", "queue", "lane", "id", "delay", "attempts", "onFailure", "results", "children"]
)
strange = st.lists(st.dictionaries(members | st.text(max_size=5), anything, max_size=6), max_size=3)
payloads = st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=9), max_size=3)


def specs(children: st.SearchStrategy[Any] | None = None) -> st.SearchStrategy[dict[str, Any]]:
    optional: dict[str, st.SearchStrategy[Any]] = {
        "queue": st.sampled_from(["a", "b"]),
        "lane": st.sampled_from(LANES),
        "delay": st.integers(0, 1_000),
        "data": payloads,
        "onFailure": st.sampled_from(["fail", "ignore", "continue"]),
        "tenant": st.text("abc", min_size=1, max_size=5),
    }
    if children is not None:
        optional["children"] = st.lists(children, max_size=3)
    return st.fixed_dictionaries({"type": st.sampled_from(["t", "u"])}, optional=optional)


trees = st.lists(st.recursive(specs(), specs, max_leaves=12), max_size=4)


def judged(raw: bytes) -> int:
    fields = [b"type", b"t", b"data", b"{}", b"children", raw]
    return parse(fields, entry_ms=NOW_MS, limits=Limits()).children


@given(st.binary(max_size=200))
def test_bytes_are_judged(raw: bytes) -> None:
    for judge in (judged, flows.read_parent, flows.read_family, flows.read_end):
        with contextlib.suppress(Malformed):
            judge(raw)


@given(strange)
def test_strange_trees_are_judged(tree: Any) -> None:
    with contextlib.suppress(Malformed):
        judged(json.dumps(tree).encode())


@given(trees)
def test_a_tree_reads_as_it_was_written(tree: Any) -> None:
    raw = json.dumps(tree).encode()

    assert judged(raw) == len(tree)
    check(tree, raw)


def check(tree: Any, raw: bytes) -> None:
    found = flows.read_children(raw)
    assert len(found) == len(tree)
    for spec, wanted in zip(found, tree, strict=True):
        fields = dict(zip(spec.fields[::2], spec.fields[1::2], strict=True))
        assert (spec.queue, spec.lane) == (wanted.get("queue", ""), wanted.get("lane", "normal"))
        assert spec.on_failure == wanted.get("onFailure", "fail")
        assert json.loads(fields[b"data"]) == wanted.get("data", {})
        assert fields.get(b"tenant", b"").decode() == wanted.get("tenant", "")
        if spec.children:
            check(wanted["children"], spec.children)
        else:
            assert "children" not in wanted

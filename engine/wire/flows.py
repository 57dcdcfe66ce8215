"""
The field ``children`` ⇄ specs of the jobs that a parent waits for, and what travels between them.

Like all that reads what strangers write, this raises :class:`~engine.errors.Malformed` and nothing
else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import cast, get_args

import msgspec

from engine.errors import Malformed
from schemas import rules
from schemas.flow import PENDING, SENT, ChildEnd, ChildrenRecord, OnFailure, ParentRecord

CHILDREN = b"children"
RESULTS = b"results"
PARENT = b"_parent"
"""The engine's own field in a child: where its end is told."""

FAMILY = b"_children"
"""The engine's own field in a parent that waits no more: what became of its children."""

_PARENT_BYTES_MAX = 1_024
_FAMILY_BYTES_MAX = 1_048_576
_FLOW_CHARS_MAX = rules.ID_CHARS_MAX + 64
_OWN = frozenset({"queue", "lane", "type", "data", "children", "onFailure", "results"})
_POLICIES = get_args(OnFailure)
_level = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])
_value = msgspec.json.Decoder(str | bool | int)
_parent = msgspec.json.Decoder(ParentRecord)
_family = msgspec.json.Decoder(ChildrenRecord)
_end = msgspec.json.Decoder(ChildEnd)
_encode = msgspec.json.Encoder().encode


class ChildSpec(msgspec.Struct, frozen=True):
    """
    One child, as its parent names it.

    Attributes:
        queue: Its queue; empty for its parent's.
        lane: Its lane.
        on_failure: What becomes of the parent if it ends dead.
        id: Its own id, or an empty string.
        fields: Its fields as a producer would write them, those of a parent left out.
        children: The JSON of its own children, or nothing.
        results: Whether it wants their results.
    """

    queue: str
    lane: str
    on_failure: OnFailure
    id: str
    fields: list[bytes]
    children: bytes
    results: bool


def read_children(raw: bytes) -> list[ChildSpec]:
    """
    Read one level of a tree.

    Raises:
        Malformed: A rule is broken; the path names the child.
    """
    return [_child(spec, f"$[{number}]") for number, spec in enumerate(_decode(raw, "$"))]


def walk(raw: bytes) -> Iterator[tuple[str, ChildSpec]]:
    """
    Read a whole tree within its bounds, parents before their children, each with its path.

    Raises:
        Malformed: A rule is broken.
    """
    if len(raw) > rules.CHILDREN_BYTES_MAX:
        detail = f"{len(raw)} bytes, over {rules.CHILDREN_BYTES_MAX}"
        raise Malformed("children-too-large", detail=detail)
    todo = [("$", raw, 1)]
    count = 0
    while todo:
        path, level, depth = todo.pop()
        if depth > rules.CHILDREN_DEPTH_MAX:
            detail = f"deeper than {rules.CHILDREN_DEPTH_MAX}"
            raise Malformed("children-depth", path=path, detail=detail)
        for number, raw_spec in enumerate(_decode(level, path)):
            count += 1
            if count > rules.CHILDREN_MAX:
                raise Malformed("children-too-many", detail=f"over {rules.CHILDREN_MAX}")
            at = f"{path}[{number}]"
            spec = _child(raw_spec, at)
            if spec.children:
                todo.append((f"{at}.children", spec.children, depth + 1))
            yield at, spec


def judge_tree(raw: bytes, judge: Callable[[list[bytes]], object]) -> int:
    """
    Judge a whole tree before any of it is sent; returns how many children its root has.

    Args:
        raw: The field ``children``.
        judge: Judges the fields of one child.

    Raises:
        Malformed: A rule is broken; the path names the child.
    """
    for path, spec in walk(raw):
        try:
            judge(spec.fields)
        except Malformed as error:
            detail = f"{error.detail} at {error.path}" if error.path else error.detail
            raise Malformed(f"child-{error.rule}", path=path, detail=detail) from None
    return len(_decode(raw, "$"))


def _decode(raw: bytes, path: str) -> list[dict[str, msgspec.Raw]]:
    try:
        if not raw.isascii():
            # The JSON decoder keeps parts unread, so it may miss bad UTF-8.
            raw.decode()
        return _level.decode(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Malformed("children-json", path=path, detail=str(error)[:200]) from None


def _child(spec: dict[str, msgspec.Raw], path: str) -> ChildSpec:
    policy = _text(spec, "onFailure", path) or "fail"
    if policy not in _POLICIES:
        raise _wrong(path, f"`onFailure` must be one of {', '.join(_POLICIES)}")
    lane = _text(spec, "lane", path) or "normal"
    if lane not in rules.LANES:
        raise _wrong(path, f"`lane` must be one of {', '.join(rules.LANES)}")
    queue = _text(spec, "queue", path)
    if queue and not rules.QUEUE_NAME.fullmatch(queue):
        raise _wrong(path, f"`queue` must match {rules.QUEUE_NAME.pattern}")
    if "type" not in spec:
        raise _wrong(path, "`type` is required")
    fields = [b"type", _encoded(_text(spec, "type", path), path)]
    fields += [b"data", bytes(spec.get("data", b"{}"))]
    for name in spec.keys() - _OWN:
        if name.startswith("_"):
            raise _wrong(path, f"`{name}` is the engine's own")
        fields += [_encoded(name, path), _encoded(_text(spec, name, path), path)]
    return ChildSpec(
        queue=queue,
        lane=lane,
        on_failure=cast(OnFailure, policy),
        id=_text(spec, "id", path),
        fields=fields,
        children=bytes(spec.get("children", b"")),
        results=_text(spec, "results", path) == "1",
    )


def _text(spec: dict[str, msgspec.Raw], name: str, path: str) -> str:
    """Read a member as the text of a field; empty where it is left out."""
    raw = spec.get(name)
    if raw is None:
        return ""
    try:
        value = _value.decode(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise _wrong(path, f"`{name}` must be a text or a whole number") from None
    if isinstance(value, bool):
        return "1" if value else "0"
    return str(value)


def _encoded(text: str, path: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise _wrong(path, "a lone surrogate is no text") from None


def _wrong(path: str, detail: str) -> Malformed:
    return Malformed("child-field", path=path, detail=detail)


def read_parent(raw: bytes) -> ParentRecord:
    """
    Read where a child's end is to be told.

    Raises:
        Malformed: No engine wrote this.
    """
    try:
        if len(raw) > _PARENT_BYTES_MAX:
            raise ValueError("too long")
        parent = _parent.decode(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise _not_ours(PARENT, str(error)[:200]) from None
    if not (
        rules.QUEUE_NAME.fullmatch(parent.queue)
        and 0 <= parent.number < rules.CHILDREN_MAX
        and 1 <= len(parent.flow) <= _FLOW_CHARS_MAX
        and parent.flow.isprintable()
        and " " not in parent.flow
    ):
        raise _not_ours(PARENT, "it names no flow")
    return parent


def read_family(raw: bytes) -> ChildrenRecord:
    """
    Read what became of a parent's children.

    Raises:
        Malformed: No engine wrote this.
    """
    try:
        if len(raw) > _FAMILY_BYTES_MAX:
            raise ValueError("too long")
        family = _family.decode(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise _not_ours(FAMILY, str(error)[:200]) from None
    states = family.states
    results = family.results
    if len(states) > rules.CHILDREN_MAX or set(states) - set("psdfic"):
        raise _not_ours(FAMILY, "the states are none")
    if results is not None and len(results) != len(states):
        raise _not_ours(FAMILY, "there are more or fewer results than children")
    return family


def _not_ours(field: bytes, detail: str) -> Malformed:
    return Malformed("engine-field", detail=f"`{field.decode()}` is the engine's own: {detail}")


def encode_parent(parent: ParentRecord) -> bytes:
    """Undo :func:`read_parent`."""
    return _encode(parent)


def encode_end(end: ChildEnd) -> bytes:
    """Encode a child's message to its parent."""
    return _encode(end)


def read_end(raw: bytes) -> ChildEnd:
    """
    Undo :func:`encode_end`.

    Raises:
        Malformed: No engine wrote this.
    """
    try:
        end = _end.decode(raw)
        read_parent(_encode(end.parent))
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Malformed("flow-end", detail=str(error)[:200]) from None
    return end


def flow_of(job_id: str, lane: str, entry: str) -> str:
    """Name the flow of a parent: no other delivery of this job, and no namesake, shares it."""
    return f"{job_id}/{lane[0]}-{entry}"


def job_of(flow: str) -> str:
    """Return the id of a flow's parent."""
    return flow.rpartition("/")[0]


def child_id(parent_id: str, number: int) -> str:
    """Name a child that has no id of its own, the same on each try to send it."""
    name = f"{parent_id}.{number}"
    if len(name) <= rules.ID_CHARS_MAX:
        return name
    return f"{hashlib.sha256(parent_id.encode()).hexdigest()[:32]}.{number}"


def fresh_states(count: int, family: ChildrenRecord | None) -> str:
    """What a flow knows of its children when it opens: after a redrive, what is done stays so."""
    before = family.states if family is not None and len(family.states) == count else ""
    if not before:
        return PENDING * count
    return "".join(state if state == "d" else PENDING for state in before)


def unfinished(states: str) -> int:
    """Count the children that have not ended."""
    return states.count(PENDING) + states.count(SENT)

"""
Stream fields ⇄ :class:`Envelope`.

:func:`parse` judges everything about an entry that does not need its payload's type; the payload
itself is decoded by :mod:`engine.wire.payload`. Whatever is wrong comes out as
:class:`~engine.errors.Malformed` with the rule that was broken; nothing else is ever raised, since
the bytes come from strangers.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence

import msgspec

from engine.errors import Malformed
from engine.wire import flows
from engine.wire.claims import Claim, claim_of
from engine.wire.keys import is_reply_key
from engine.wire.meta import read_meta
from engine.wire.names import name_of
from schemas import rules
from schemas.flow import ChildrenRecord, ParentRecord
from schemas.job import Meta

META = b"_engine"
"""The engine's own field in an entry that has been through it before."""

DEAD = b"_dead"
"""The first field of an entry in the dead stream."""

MOVED = "moved"
"""Why the engine's own field stands in an entry that an operator moved and no engine judged yet."""

FIELDS_SALVAGED = 4 * rules.FIELDS_MAX
"""Names and values of a malformed entry in which its id is looked for."""

_KNOWN = frozenset(
    b"type data id delay at ttl expires attempts v reply traceparent tracestate key unique "
    b"window debounce debounce-max throttle children results _engine _parent _children".split()
)
_FAMILY_FIELDS = frozenset({flows.CHILDREN, flows.RESULTS, flows.FAMILY})
# W3C Trace Context, section 3.2: version ff and ids of nothing but zeros are invalid.
_TRACE = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_STATE = re.compile(r"[\x20-\x7e\t]+")
_DIGITS = re.compile(rb"[0-9]{1,15}")
_meta_encoder = msgspec.json.Encoder()


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """
    What an engine accepts beyond the fixed rules of the wire.

    Attributes:
        data_bytes_max: Size of ``data``.
        reply_patterns: Further keys that ``reply`` may name; ``*`` stands for any characters.
    """

    data_bytes_max: int = rules.DATA_BYTES_MAX
    reply_patterns: tuple[str, ...] = ()

    def allows_reply(self, key: str) -> bool:
        """Tell whether one of the patterns allows ``reply`` to name this key."""
        return any(_matches(pattern, key) for pattern in self.reply_patterns)


class Envelope(msgspec.Struct, kw_only=True):
    """
    A stream entry, judged but with its payload still encoded.

    Attributes:
        type: The job's type.
        data: The payload's JSON.
        id: The producer's own id, or an empty string.
        due_ms: Unix ms before which the job must not start; 0 for none.
        expires_ms: Unix ms after which it must not start; 0 for none.
        attempts: Overrides the type's maximum; 0 for no override.
        version: The payload's version.
        reply: A stream that wants the outcome, or an empty string.
        traceparent: W3C trace context, or an empty string.
        tracestate: What tracing systems add to it, or an empty string.
        key: Ordering key, or an empty string.
        unique: Uniqueness value, or an empty string.
        claim: How the value is taken; None without one.
        headers: Fields the engine does not know.
        meta: What the engine wrote on an earlier pass.
        children: How many jobs it waits for before it runs; -1 for a job that is no parent.
        results: Whether it wants their results.
        family: What became of them, once it need not wait any more.
        parent: The job that waits for this one.
    """

    type: str
    data: bytes
    id: str = ""
    due_ms: int = 0
    expires_ms: int = 0
    attempts: int = 0
    version: int = 1
    reply: str = ""
    traceparent: str = ""
    tracestate: str = ""
    key: str = ""
    unique: str = ""
    claim: Claim | None = None
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    meta: Meta | None = None
    children: int = -1
    results: bool = False
    family: ChildrenRecord | None = None
    parent: ParentRecord | None = None


def parse(fields: Sequence[bytes], *, entry_ms: int, limits: Limits) -> Envelope:
    """
    Judge a stream entry's fields.

    Args:
        fields: Names and values in turn, as the server returns them.
        entry_ms: Unix ms of the entry's id, from which ``delay`` and ``ttl`` count.
        limits: What this engine accepts.

    Raises:
        Malformed: A rule of the wire is broken.
    """
    if len(fields) % 2:
        raise Malformed("fields-odd", detail="a field has no value")
    if len(fields) > 2 * rules.FIELDS_MAX:
        raise Malformed("fields-too-many", detail=f"{len(fields) // 2}, over {rules.FIELDS_MAX}")
    found = dict(zip(fields[::2], fields[1::2], strict=True))
    if 2 * len(found) != len(fields):
        raise Malformed("field-repeated", detail="a field stands twice")
    meta = read_meta(raw) if (raw := found.get(META)) is not None else None
    enqueued_ms = meta.enqueued_ms if meta else entry_ms
    envelope = Envelope(type=_type(found.get(b"type")), data=_data(found.get(b"data"), limits))
    envelope.meta = meta
    if len(found) > 2 + (meta is not None):
        _add_options(envelope, found, enqueued_ms, limits)
    return envelope


def _add_options(
    envelope: Envelope, found: dict[bytes, bytes], enqueued_ms: int, limits: Limits
) -> None:
    """Judge what stands beside a type and a payload."""
    if is_unjudged(envelope.meta):
        envelope.due_ms = _moment(found, b"delay", b"at", enqueued_ms)
    envelope.expires_ms = _moment(found, b"ttl", b"expires", enqueued_ms)
    envelope.id = _name(found, b"id")
    envelope.key = _name(found, b"key")
    envelope.unique = _name(found, b"unique")
    envelope.claim = claim_of(found, _number)
    if b"attempts" in found:
        envelope.attempts = _number(found, b"attempts", 1, rules.ATTEMPTS_MAX)
    if b"v" in found:
        envelope.version = _number(found, b"v", 1, rules.VERSION_MAX)
    if b"reply" in found:
        envelope.reply = _reply(found[b"reply"], limits)
    envelope.traceparent = _traceparent(found.get(b"traceparent"))
    if envelope.traceparent:
        envelope.tracestate = _tracestate(found.get(b"tracestate"))
    if flows.PARENT in found:
        envelope.parent = flows.read_parent(found[flows.PARENT])
    if not found.keys().isdisjoint(_FAMILY_FIELDS):
        _add_family(envelope, found, enqueued_ms, limits)
    if not found.keys() <= _KNOWN:
        envelope.headers = _headers(found)


def _add_family(
    envelope: Envelope, found: dict[bytes, bytes], enqueued_ms: int, limits: Limits
) -> None:
    """Judge the jobs that this one waits for: the whole tree, before any of it is sent."""
    raw = found.get(flows.CHILDREN)
    if raw is None:
        raise Malformed("children-missing", detail="`results` asks for those of `children`")
    envelope.results = flows.RESULTS in found and _number(found, flows.RESULTS, 0, 1) == 1
    if flows.FAMILY in found:
        # It was judged before its children were sent.
        envelope.family = flows.read_family(found[flows.FAMILY])
        envelope.children = len(envelope.family.states)
        return
    envelope.children = flows.judge_tree(
        raw, lambda fields: parse(fields, entry_ms=enqueued_ms, limits=limits)
    )


def is_unjudged(meta: Meta | None) -> bool:
    """Tell whether no engine has looked at a job yet: it was parked by its key or moved before."""
    if meta is None or meta.why == MOVED:
        return True
    return bool(meta.ticket) and not (meta.why or meta.redrives)


def salvage(fields: Sequence[bytes], limits: Limits) -> Envelope | None:
    """
    Read what a malformed entry says of itself: its id, who waits for its end, what it gives back.

    Returns:
        An envelope with just these, or None where none can be read. Never raises.
    """
    found = dict(zip(fields[:FIELDS_SALVAGED:2], fields[1:FIELDS_SALVAGED:2], strict=False))
    told = Envelope(type="", data=b"")
    with contextlib.suppress(Malformed):
        told.meta = read_meta(raw) if (raw := found.get(META)) is not None else None
    with contextlib.suppress(Malformed):
        told.id = _name(found, b"id")
    with contextlib.suppress(Malformed):
        told.key = _name(found, b"key")
    with contextlib.suppress(Malformed):
        told.unique = _name(found, b"unique")
    with contextlib.suppress(Malformed):
        told.reply = _reply(found[b"reply"], limits) if b"reply" in found else ""
    with contextlib.suppress(Malformed):
        told.parent = flows.read_parent(found[flows.PARENT]) if flows.PARENT in found else None
    found_any = told.id or told.key or told.unique or told.reply or told.meta or told.parent
    return told if found_any else None


def encode_meta(meta: Meta) -> bytes:
    """Encode the engine's own field."""
    return _meta_encoder.encode(meta)


def with_meta(fields: Sequence[bytes], meta: Meta) -> list[bytes]:
    """Return an entry's fields with the engine's own field renewed."""
    return [*without(fields, META), META, encode_meta(meta)]


def without(fields: Sequence[bytes], name: bytes) -> list[bytes]:
    """Return an entry's fields without one name."""
    if name not in fields:
        return list(fields)
    return [
        part
        for at in range(0, len(fields), 2)
        if fields[at] != name
        for part in (fields[at], fields[at + 1])
    ]


def _type(raw: bytes | None) -> str:
    if raw is None:
        raise Malformed("type-missing", detail="the field `type` is required")
    try:
        name = raw.decode("ascii")
    except UnicodeDecodeError:
        name = ""
    if not rules.TYPE_NAME.fullmatch(name):
        raise Malformed("type-name", detail=f"must match {rules.TYPE_NAME.pattern}")
    return name


def _data(raw: bytes | None, limits: Limits) -> bytes:
    if raw is None:
        raise Malformed("data-missing", detail="the field `data` is required")
    if len(raw) > limits.data_bytes_max:
        raise Malformed("data-too-large", detail=f"{len(raw)} bytes, over {limits.data_bytes_max}")
    return raw


def _name(found: dict[bytes, bytes], field: bytes) -> str:
    raw = found.get(field)
    if raw is None:
        return ""
    name = name_of(raw)
    if not name:
        raise Malformed(
            f"{field.decode()}-name",
            detail=f"must be 1 to {rules.ID_CHARS_MAX} printable characters without spaces",
        )
    return name


def _number(found: dict[bytes, bytes], field: bytes, least: int, most: int) -> int:
    raw = found[field]
    if not _DIGITS.fullmatch(raw) or not least <= int(raw) <= most:
        raise Malformed(
            f"{field.decode()}-number", detail=f"must be a whole number from {least} to {most}"
        )
    return int(raw)


def _moment(found: dict[bytes, bytes], after: bytes, at: bytes, enqueued_ms: int) -> int:
    """Unix ms of a pair of fields, of which one counts from the XADD; 0 without either."""
    if after in found:
        if at in found:
            raise Malformed(
                f"{after.decode()}-number", detail=f"give `{after.decode()}` or `{at.decode()}`"
            )
        return enqueued_ms + _number(found, after, 0, rules.DELAY_MS_MAX)
    if at in found:
        return _number(found, at, 1, enqueued_ms + rules.DELAY_MS_MAX)
    return 0


def _reply(raw: bytes, limits: Limits) -> str:
    try:
        key = raw.decode()
    except UnicodeDecodeError:
        key = ""
    if len(key) <= 256 and (is_reply_key(key) or limits.allows_reply(key)):
        return key
    raise Malformed("reply-key", detail="must match mq:{…}:reply:* or ENGINE_REPLY_PATTERNS")


def _matches(pattern: str, key: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), key) is not None


def _traceparent(raw: bytes | None) -> str:
    """W3C Trace Context, section 4.2: a value that cannot be read is left out, not an error."""
    value = raw.decode("ascii", "replace") if raw else ""
    return value if _TRACE.fullmatch(value) else ""


def _tracestate(raw: bytes | None) -> str:
    """W3C Trace Context, section 3.3: what cannot be read is left out, like the other."""
    if not raw or len(raw) > rules.TRACESTATE_BYTES_MAX:
        return ""
    value = raw.decode("ascii", "replace")
    return value if _STATE.fullmatch(value) else ""


def _headers(found: dict[bytes, bytes]) -> dict[str, str]:
    unknown = [(name, value) for name, value in found.items() if name not in _KNOWN]
    if len(unknown) > rules.HEADERS_MAX:
        raise Malformed("headers-too-many", detail=f"{len(unknown)}, over {rules.HEADERS_MAX}")
    headers = {}
    for name, value in unknown:
        if len(name) + len(value) > rules.HEADER_BYTES_MAX:
            raise Malformed("header-too-large", detail=f"over {rules.HEADER_BYTES_MAX} bytes")
        try:
            headers[name.decode()] = value.decode()
        except UnicodeDecodeError:
            raise Malformed("header-utf8", detail="a header is not UTF-8") from None
    return headers

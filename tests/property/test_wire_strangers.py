"""Whatever strangers write, the wire answers with values or with Malformed."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from engine.errors import Malformed
from engine.wire.codec import META, Limits, parse, with_meta, without
from engine.wire.done import decode_done, encode_done
from engine.wire.packing import pack, pack_lists, unpack
from engine.wire.payload import payload_decoder
from schemas.job import AttemptRecord, ErrorRecord, Meta
from schemas.rules import ATTEMPTS_MAX, DELAY_MS_MAX, ID_CHARS_MAX

Answer = TypeVar("Answer")
NOW_MS = 1_763_769_600_000
LIMITS = Limits(data_bytes_max=1_000, reply_patterns=("a*b*c",))
NAMES = (
    b"type data id delay at ttl expires attempts v reply traceparent tracestate key unique _engine"
).split()
numbers = st.sampled_from(
    [b"0", b"1", b"-1", b"100", b"101", b"1e9", b"9" * 400, b" 1", b"", b"1.0"]
)
hostile = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass")),
    numbers,
    st.sampled_from(
        [b"send-message", b"{}", b"mq:{a}:reply:b", b'{"id":"x","enqueued_ms":1}', b"[" * 20_000]
    ),
    st.just(b"x" * 1_001),
)
names = st.sampled_from(NAMES) | st.binary(max_size=20)
flat_fields = st.lists(st.tuples(names, hostile), max_size=70).map(
    lambda pairs: [part for pair in pairs for part in pair]
)


def answer(call: Callable[[], Answer]) -> Answer | Malformed:
    """What a call returns, or the Malformed that it raises; anything else fails the test."""
    try:
        return call()
    except Malformed as error:
        return error


@given(flat_fields, st.integers(0, 2**50))
@example([b"type"], NOW_MS)
@example([b"x", b"y"] * 100_000, NOW_MS)
def test_parse_raises_malformed_and_nothing_else(fields: list[bytes], entry_ms: int) -> None:
    """And what it lets through keeps the bounds that the engine relies on."""
    envelope = answer(lambda: parse(fields, entry_ms=entry_ms, limits=LIMITS))
    if isinstance(envelope, Malformed):
        assert envelope.rule
        assert len(str(envelope)) < 600
        return
    assert 0 <= envelope.attempts <= ATTEMPTS_MAX
    assert len(envelope.data) <= 1_000
    assert envelope.due_ms >= 0
    if envelope.meta is None:
        assert envelope.due_ms <= entry_ms + DELAY_MS_MAX
    for name in (envelope.id, envelope.meta.id if envelope.meta else ""):
        assert len(name) <= ID_CHARS_MAX
        # Ids are joined by spaces in done entries, and one to a line in logs.
        assert not set(name) & set(" \n\r\x00")


job_fields = st.fixed_dictionaries(
    {
        b"type": st.from_regex(rb"[a-z0-9][a-z0-9._-]{0,63}", fullmatch=True),
        b"data": st.binary(max_size=100),
    },
    optional={
        b"id": st.from_regex(rb"[!-~]{1,128}", fullmatch=True),
        b"delay": st.integers(0, DELAY_MS_MAX).map(lambda n: b"%d" % n),
        b"ttl": st.integers(0, DELAY_MS_MAX).map(lambda n: b"%d" % n),
        b"attempts": st.integers(1, 100).map(lambda n: b"%d" % n),
        b"v": st.integers(1, 1_000_000).map(lambda n: b"%d" % n),
        b"x-header": st.text(max_size=100).map(str.encode),
    },
)
records = st.builds(
    AttemptRecord,
    number=st.integers(0, 10**6),
    at_ms=st.integers(0, 2**50),
    run_ms=st.integers(0, 2**50),
    engine=st.text(max_size=20),
    outcome=st.sampled_from(["failed", "timeout", "retry", "snooze", "hold", "lost"]),
    error=st.none()
    | st.builds(ErrorRecord, kind=st.text(max_size=9), message=st.text(max_size=99)),
)
metas = st.builds(
    Meta,
    id=st.from_regex(r"[!-~]{1,128}", fullmatch=True),
    enqueued_ms=st.integers(0, 2**50),
    attempts=st.integers(0, 1_000),
    lost=st.integers(0, 10),
    snoozes=st.integers(0, 10),
    redrives=st.integers(0, 10),
    why=st.sampled_from(["", "delay", "backoff", "snooze"]),
    history=st.lists(records, max_size=10).map(tuple),
)


@given(job_fields, metas)
def test_a_valid_job_stays_itself_over_a_pass_through_the_engine(
    job: dict[bytes, bytes], meta: Meta
) -> None:
    """
    Goal: a retry changes nothing but the engine's own field.

    Method: fields with the meta are packed, unpacked and parsed as the delayed set does it.
    """
    fields = [part for pair in job.items() for part in pair]
    first = parse(fields, entry_ms=NOW_MS, limits=LIMITS)

    lane, *again = unpack(pack([b"low", *with_meta(fields, meta)]))
    second = parse(again, entry_ms=NOW_MS + 60_000, limits=LIMITS)

    assert lane == b"low"
    assert without(again, META) == fields
    assert second.meta == meta
    for name in ("type", "data", "id", "attempts", "version", "headers", "reply", "key"):
        assert getattr(first, name) == getattr(second, name)
    if b"ttl" in job:
        assert second.expires_ms == meta.enqueued_ms + int(job[b"ttl"])


@given(st.lists(st.binary(max_size=300), max_size=30))
def test_packing_comes_back(items: list[bytes]) -> None:
    assert unpack(pack(items)) == items


@given(st.lists(st.lists(st.binary(max_size=20), max_size=5), max_size=5))
def test_packed_lists_are_the_packed_parts(lists: list[list[bytes]]) -> None:
    header = b"\xdd" + len(lists).to_bytes(4)

    assert pack_lists(lists) == header + b"".join(map(pack, lists))


@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda tail: b"\xdd" + tail))
def test_unpacking_raises_malformed_and_nothing_else(packed: bytes) -> None:
    with suppress(Malformed):
        assert pack(unpack(packed)) == packed


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=9), st.data())
def test_a_damaged_packing_is_refused_or_means_itself(
    items: list[bytes], data: st.DataObject
) -> None:
    packed = bytearray(pack(items))
    packed[data.draw(st.integers(0, len(packed) - 1))] ^= data.draw(st.integers(1, 255))

    with suppress(Malformed):
        assert pack(unpack(bytes(packed))) == bytes(packed)


class Part(msgspec.Struct):
    n: int


class Payload(msgspec.Struct, rename="camel"):
    some_text: str
    parts: list[Part] = []
    weight: float = 0.0


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["someText", "parts", "n", "weight", "x"]), inner)
    ),
    max_leaves=12,
)


@given(
    st.binary(max_size=300)
    | json_values.map(msgspec.json.encode)
    | st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass"))
    | st.sampled_from([b"[" * 100_000, b'{"x":' * 100_000, b"9" * 10_000, b"1e9999", b"NaN"]),
    st.sampled_from([Payload, dict[str, Any]]),
)
def test_a_payload_is_decoded_or_malformed(data: bytes, payload_type: Any) -> None:
    payload = answer(lambda: payload_decoder(payload_type)(data))
    if isinstance(payload, Malformed):
        assert payload.rule in {"data-json", "data-utf8", "data-nesting", "data-schema"}
        assert len(str(payload)) < 600
    else:
        assert isinstance(payload, payload_type if payload_type is Payload else dict)


ids = st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1, max_size=20)


@given(
    st.lists(st.tuples(ids, st.integers(0, 2**32 - 1), st.binary(max_size=50)), min_size=1),
    st.booleans(),
    st.integers(0, 2**50),
)
def test_done_entries_come_back(
    jobs: list[tuple[str, int, bytes]], with_results: bool, done_ms: int
) -> None:
    names_, times, results = zip(*jobs, strict=True)
    fields = encode_done(
        "pack",
        "low",
        "engine-1",
        [name.encode() for name in names_],
        array("I", times),
        results if with_results else None,
    )

    found = decode_done(b"%d-3" % done_ms, fields)

    assert [(job.id, job.run_us) for job in found] == list(zip(names_, times, strict=True))
    assert [job.result for job in found] == (list(results) if with_results else [b""] * len(jobs))
    assert {job.done_ms for job in found} == {done_ms}


@given(
    st.binary(max_size=30),
    st.lists(
        st.sampled_from(
            [
                b"type",
                b"lane",
                b"engine",
                b"n",
                b"ids",
                b"us",
                b"results",
                b"",
                b"\xff",
                b"a b",
                b"1234",
            ]
        ),
        max_size=14,
    ),
)
def test_decoding_done_raises_malformed_and_nothing_else(entry: bytes, fields: list[bytes]) -> None:
    with suppress(Malformed):
        decode_done(entry, fields)

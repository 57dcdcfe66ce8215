"""What a producer may write, and which rule each malformed entry breaks."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from engine.errors import Malformed
from engine.wire.codec import META, Limits, encode_meta, parse, with_meta, without
from engine.wire.payload import payload_decoder
from schemas.job import AttemptRecord, ErrorRecord, Meta

NOW_MS = 1_763_769_600_000
DAY_MS = 86_400_000
LIMITS = Limits()
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
NEGATIVE_ATTEMPT = b'{"number":-1,"at_ms":1,"run_ms":1,"engine":"e","outcome":"failed"}'
JOB = {b"type": b"send-message", b"data": b"{}"}


def entry(**fields: str | bytes) -> list[bytes]:
    """A valid entry with these fields added or replaced; None is not possible, see ``lacking``."""
    named = {name.encode(): _bytes(value) for name, value in fields.items()}
    return [part for pair in {**JOB, **named}.items() for part in pair]


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()


def lacking(name: bytes) -> list[bytes]:
    return without(entry(), name)


def broken(fields: list[bytes], limits: Limits = LIMITS) -> Malformed:
    with pytest.raises(Malformed) as caught:
        parse(fields, entry_ms=NOW_MS, limits=limits)
    return caught.value


def test_type_and_data_are_a_complete_job() -> None:
    envelope = parse(entry(), entry_ms=NOW_MS, limits=LIMITS)

    assert (envelope.type, envelope.data) == ("send-message", b"{}")
    assert (envelope.id, envelope.due_ms, envelope.expires_ms, envelope.attempts) == ("", 0, 0, 0)
    assert (envelope.version, envelope.headers, envelope.meta) == (1, {}, None)


def test_every_field_is_read() -> None:
    envelope = parse(
        entry(
            id="order-1",
            delay="1500",
            ttl="60000",
            attempts="7",
            v="3",
            reply="mq:{message-delivery}:reply:desk",
            traceparent=TRACE,
            tracestate="vendor=a:1,other=2",
            key="conversation-9",
            unique="welcome:9",
            tenant="acme",
        ),
        entry_ms=NOW_MS,
        limits=LIMITS,
    )

    assert (envelope.id, envelope.key, envelope.unique) == (
        "order-1",
        "conversation-9",
        "welcome:9",
    )
    assert (envelope.due_ms, envelope.expires_ms) == (NOW_MS + 1_500, NOW_MS + 60_000)
    assert (envelope.attempts, envelope.version) == (7, 3)
    assert envelope.reply == "mq:{message-delivery}:reply:desk"
    assert envelope.traceparent == TRACE
    assert envelope.tracestate == "vendor=a:1,other=2"
    assert envelope.headers == {"tenant": "acme"}


def test_absolute_times_are_read() -> None:
    fields = entry(at=str(NOW_MS + 5), expires=str(NOW_MS + 9))

    envelope = parse(fields, entry_ms=NOW_MS, limits=LIMITS)

    assert (envelope.due_ms, envelope.expires_ms) == (NOW_MS + 5, NOW_MS + 9)


def test_a_past_time_is_no_error() -> None:
    """Such a job is due, or late; both are decided later."""
    envelope = parse(entry(at="1", expires="1"), entry_ms=NOW_MS, limits=LIMITS)

    assert (envelope.due_ms, envelope.expires_ms) == (1, 1)


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        (lacking(b"type"), "type-missing"),
        (entry(type=""), "type-name"),
        (entry(type="Send-Message"), "type-name"),
        (entry(type="-x"), "type-name"),
        (entry(type="a" * 65), "type-name"),
        (entry(type="a b"), "type-name"),
        (entry(type="a\n"), "type-name"),
        (entry(type="a\x00"), "type-name"),
        (entry(type=b"\xff"), "type-name"),
        (entry(type="ünit"), "type-name"),
        (lacking(b"data"), "data-missing"),
        (entry(data=b"x" * 1_048_577), "data-too-large"),
        (entry(id=""), "id-name"),
        (entry(id="a b"), "id-name"),
        (entry(id="a\nb"), "id-name"),
        (entry(id="a\x00"), "id-name"),
        (entry(id="a\u2028"), "id-name"),
        (entry(id="a" * 129), "id-name"),
        (entry(id=b"\xc3("), "id-name"),
        (entry(key=""), "key-name"),
        (entry(unique="a b"), "unique-name"),
        (entry(delay="-1"), "delay-number"),
        (entry(delay="1.5"), "delay-number"),
        (entry(delay="1e3"), "delay-number"),
        (entry(delay=""), "delay-number"),
        (entry(delay=" 1"), "delay-number"),
        (entry(delay="٣"), "delay-number"),
        (entry(delay=b"\xff"), "delay-number"),
        (entry(delay="9" * 400), "delay-number"),
        (entry(delay=str(367 * DAY_MS)), "delay-number"),
        (entry(delay="1", at=str(NOW_MS)), "delay-number"),
        (entry(at="0"), "at-number"),
        (entry(at=str(NOW_MS + 367 * DAY_MS)), "at-number"),
        (entry(ttl="-1"), "ttl-number"),
        (entry(ttl="1", expires=str(NOW_MS)), "ttl-number"),
        (entry(expires="soon"), "expires-number"),
        (entry(attempts="0"), "attempts-number"),
        (entry(attempts="101"), "attempts-number"),
        (entry(attempts="-5"), "attempts-number"),
        (entry(attempts="1" * 400), "attempts-number"),
        (entry(v="0"), "v-number"),
        (entry(v="one"), "v-number"),
        (entry(v="1000001"), "v-number"),
        (entry(reply="elsewhere"), "reply-key"),
        (entry(reply="mq:{message-delivery}:normal"), "reply-key"),
        (entry(reply="mq:{a}x:reply:b"), "reply-key"),
        (entry(reply="mq:{}:reply:b"), "reply-key"),
        (entry(reply="mq:{a b}:reply:b"), "reply-key"),
        (entry(reply="mq:{a}:reply:\n"), "reply-key"),
        (entry(reply="mq:{a}:reply:" + "x" * 256), "reply-key"),
        (entry(reply=b"mq:{a}:reply:\xff"), "reply-key"),
        (entry(**{f"h{number}": "x" for number in range(33)}), "headers-too-many"),
        (entry(header="x" * 1_024), "header-too-large"),
        (entry(header=b"\xff"), "header-utf8"),
        ([*entry(), b"\xff", b"x"], "header-utf8"),
        ([*entry(), *(b"%d" % number for number in range(200_000))], "fields-too-many"),
        ([*entry(), b"type", b"send-message"], "field-repeated"),
        ([*entry(), b"lonely"], "fields-odd"),
        ([], "type-missing"),
    ],
)
def test_a_malformed_entry_breaks_a_rule_with_a_name(fields: list[bytes], rule: str) -> None:
    error = broken(fields)

    assert error.rule == rule
    assert error.detail
    assert len(str(error)) < 500


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        b'{"id":"x","enqueued_ms":NaN}',
        b'{"id":"x","enqueued_ms":-1}',
        b'{"id":"x","enqueued_ms":' + b"9" * 400 + b"}",
        b'{"id":"x","enqueued_ms":1,"attempts":-5}',
        b'{"id":"x","enqueued_ms":1,"lost":-1}',
        b'{"id":"","enqueued_ms":1}',
        b'{"id":"a b","enqueued_ms":1}',
        b'{"id":"a\\u0000","enqueued_ms":1}',
        b'{"id":"x","enqueued_ms":1,"history":[%s]}' % NEGATIVE_ATTEMPT,
        b'{"id":"x","enqueued_ms":1,"why":"' + b"x" * 524_288 + b'"}',
    ],
)
def test_a_stranger_does_not_write_the_engines_field(raw: bytes) -> None:
    """Its numbers steer the decision and its id joins others in done entries."""
    error = broken(entry(_engine=raw))

    assert error.rule == "engine-field"
    assert len(str(error)) < 500


def test_what_the_engine_wrote_is_read_again() -> None:
    meta = Meta(
        id="n-1-0",
        enqueued_ms=NOW_MS - 5_000,
        attempts=2,
        lost=1,
        why="backoff",
        history=(
            AttemptRecord(
                number=1,
                at_ms=NOW_MS,
                run_ms=3,
                engine="a",
                outcome="failed",
                error=ErrorRecord(kind="ValueError", message="no", traceback="…"),
            ),
        ),
    )

    envelope = parse(with_meta(entry(delay="9", ttl="60"), meta), entry_ms=NOW_MS, limits=LIMITS)

    assert envelope.meta == meta
    # The delay was served on the first pass; the time to live counts from the XADD.
    assert envelope.due_ms == 0
    assert envelope.expires_ms == NOW_MS - 5_000 + 60
    assert envelope.headers == {}


def test_renewing_the_engines_field_keeps_one_and_the_rest() -> None:
    first = with_meta(entry(tenant="acme"), Meta(id="a", enqueued_ms=1))
    second = with_meta(first, Meta(id="a", enqueued_ms=1, attempts=1))

    assert second[:-2] == entry(tenant="acme")
    assert second[-2:] == [META, encode_meta(Meta(id="a", enqueued_ms=1, attempts=1))]


def test_the_largest_job_can_still_be_retried() -> None:
    """All known fields and all headers, with the engine's own field, are within the bounds."""
    every = entry(
        id="i",
        delay="1",
        ttl="1",
        attempts="1",
        v="1",
        reply="mq:{a}:reply:b",
        traceparent=TRACE,
        key="k",
        unique="u",
        **{f"h{number}": "x" for number in range(32)},
    )
    parse(every, entry_ms=NOW_MS, limits=LIMITS)

    parse(with_meta(every, Meta(id="i", enqueued_ms=1)), entry_ms=NOW_MS, limits=LIMITS)


def test_limits_are_settings() -> None:
    limits = Limits(data_bytes_max=10, reply_patterns=("desk:*:answers", "exact"))

    assert broken(entry(data=b"x" * 11), limits).rule == "data-too-large"
    for key in ("desk:7:answers", "exact", "mq:{q}:reply:1"):
        assert parse(entry(reply=key), entry_ms=NOW_MS, limits=limits).reply == key
    for key in ("desk:7:answers:x", "exactly", "desk.7:answers"):
        assert broken(entry(reply=key), limits).rule == "reply-key"


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"junk",
        b"\xff",
        TRACE.upper().encode(),
        f"{TRACE}-x".encode(),
        b"ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        b"00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        b"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
    ],
)
def test_a_trace_that_cannot_be_read_is_left_out(value: bytes) -> None:
    envelope = parse(entry(traceparent=value), entry_ms=NOW_MS, limits=LIMITS)

    assert (envelope.traceparent, envelope.headers) == ("", {})


@pytest.mark.parametrize("value", [b"", b"a=\x00", b"a=\xc3\xa4", b"a=1\n", b"a=" + b"1" * 511])
def test_a_trace_state_that_cannot_be_read_is_left_out(value: bytes) -> None:
    envelope = parse(entry(traceparent=TRACE, tracestate=value), entry_ms=NOW_MS, limits=LIMITS)

    assert (envelope.traceparent, envelope.tracestate, envelope.headers) == (TRACE, "", {})


def test_a_trace_state_means_nothing_without_a_trace() -> None:
    envelope = parse(entry(tracestate="a=1"), entry_ms=NOW_MS, limits=LIMITS)

    assert (envelope.tracestate, envelope.headers) == ("", {})


class Inner(msgspec.Struct, rename="camel"):
    line_count: int


class Letter(msgspec.Struct, rename="camel"):
    content: str
    inner: Inner | None = None
    lines: list[int] = []


class Picky(msgspec.Struct):
    n: int

    def __post_init__(self) -> None:
        if self.n == 0:
            raise ValueError("n must not be 0")
        _ = {1: "one"}[self.n]


def refused(payload_type: Any, data: bytes) -> Malformed:
    with pytest.raises(Malformed) as caught:
        payload_decoder(payload_type)(data)
    return caught.value


def test_a_payload_is_decoded_into_its_type() -> None:
    assert payload_decoder(Letter)(b'{"content":"h\xc3\xa9","inner":{"lineCount":2}}') == Letter(
        "hé", Inner(2)
    )


@pytest.mark.parametrize(
    ("data", "rule", "path"),
    [
        (b"", "data-json", ""),
        (b"{", "data-json", ""),
        (b'{"content":"x"} {}', "data-json", ""),
        (b'{"content":NaN}', "data-json", ""),
        (b'{"content":"\\ud800"}', "data-json", ""),
        (b'\xef\xbb\xbf{"content":"x"}', "data-json", ""),
        (b'{"content":"\xff"}', "data-utf8", ""),
        (b'{"content":"x","unknown":"\xff"}', "data-utf8", ""),
        (b'{"unknown":' + b"[" * 100_000, "data-nesting", ""),
        (b"[]", "data-schema", "$"),
        (b'"x"', "data-schema", "$"),
        (b"null", "data-schema", "$"),
        (b"{}", "data-schema", "$"),
        (b'{"content":5}', "data-schema", "$.content"),
        (b'{"content":"x","inner":{"lineCount":"y"}}', "data-schema", "$.inner.lineCount"),
        (b'{"content":"x","inner":{}}', "data-schema", "$.inner"),
        (b'{"content":"x","lines":[1,2,"3"]}', "data-schema", "$.lines[2]"),
        (
            b'{"content":"x","inner":{"lineCount":' + b"9" * 5_000 + b"}}",
            "data-schema",
            "$.inner.lineCount",
        ),
    ],
)
def test_a_payload_that_does_not_fit_says_where(data: bytes, rule: str, path: str) -> None:
    error = refused(Letter, data)

    assert (error.rule, error.path) == (rule, path)
    assert error.detail


def test_a_payloads_own_check_is_a_rule_like_any_other() -> None:
    assert "n must not be 0" in refused(Picky, b'{"n":0}').detail
    # A mistake in the check is the payload's too: it must not stop the lane.
    assert refused(Picky, b'{"n":2}').rule == "data-schema"


def test_a_plain_dictionary_takes_any_object_and_nothing_else() -> None:
    decode = payload_decoder(dict[str, Any])

    assert decode(b'{"a":[1,2.5,null]}') == {"a": [1, 2.5, None]}
    assert refused(dict[str, Any], b"[]").rule == "data-schema"
    assert refused(dict[str, Any], b"{" * 100_000).rule in {"data-json", "data-nesting"}

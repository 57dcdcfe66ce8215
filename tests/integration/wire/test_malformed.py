"""Whatever is wrong with an entry, it is buried with its bytes, and the lane goes on."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from typing import Annotated, Any

import msgspec
import pytest

from engine import Job, Registry
from engine.runtime.vitals import rss_bytes
from tests.support.engines import KEYS, NO_WAIT, QUEUE, Server, serving

MIB = 1_048_576
DEEP = b"[" * 100_000 + b"]" * 100_000


class Parcel(msgspec.Struct):
    weight: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 1
    tags: list[str] = []
    note: Any = None


def registry() -> Registry:
    found = Registry()

    @found.job("pack", queue=QUEUE, retry=NO_WAIT)
    async def pack(job: Job, parcel: Parcel) -> int:
        return parcel.weight

    return found


@pytest.fixture
async def server(redis_url: str) -> AsyncIterator[Server]:
    async with Server(redis_url) as found, serving(registry(), redis_url):
        yield found


def job(**fields: bytes | str) -> list[Any]:
    """Fields of a good job with some changed."""
    return [part for pair in {"type": "pack", "data": "{}", **fields}.items() for part in pair]


MALFORMED = {
    "type missing": (["data", "{}"], "type-missing", ""),
    "type unknown": (job(type="unheard-of"), "type-unknown", ""),
    "type with a newline": (job(type="pack\n"), "type-name", ""),
    "type too long": (job(type="a" * 65), "type-name", ""),
    "type not ASCII": (job(type=b"p\xff"), "type-name", ""),
    "data missing": (["type", "pack"], "data-missing", ""),
    "data empty": (job(data=""), "data-json", ""),
    "bad UTF-8": (job(data=b'{"note":"\xff"}'), "data-utf8", ""),
    "bad JSON": (job(data='{"weight":'), "data-json", ""),
    "NaN": (job(data='{"note":NaN}'), "data-json", ""),
    "not an object": (job(data="[1]"), "data-schema", "$"),
    "deep nesting": (job(data=b'{"note":' + DEEP + b"}"), "data-nesting", ""),
    "wrong payload": (job(data='{"weight":"heavy"}'), "data-schema", "$.weight"),
    "wrong item": (job(data='{"tags":["a",2]}'), "data-schema", "$.tags[1]"),
    "400 digits": (job(data='{"weight":' + "9" * 400 + "}"), "data-schema", "$.weight"),
    "too large": (job(data=b'{"note":"' + b"x" * MIB + b'"}'), "data-too-large", ""),
    "id empty": (job(id=""), "id-name", ""),
    "id with NUL": (job(id="a\x00b"), "id-name", ""),
    "id with a newline": (job(id="a\nb"), "id-name", ""),
    "id with a space": (job(id="a b"), "id-name", ""),
    "id too long": (job(id="a" * 129), "id-name", ""),
    "id not UTF-8": (job(id=b"\xff"), "id-name", ""),
    "attempts negative": (job(attempts="-1"), "attempts-number", ""),
    "attempts zero": (job(attempts="0"), "attempts-number", ""),
    "attempts 400 digits": (job(attempts="9" * 400), "attempts-number", ""),
    "attempts not ASCII digits": (job(attempts="\u0661"), "attempts-number", ""),
    "delay a fraction": (job(delay="1.5"), "delay-number", ""),
    "delay absurd": (job(delay="9" * 15), "delay-number", ""),
    "delay and at": (job(delay="1", at="1"), "delay-number", ""),
    "at absurd": (job(at="9" * 15), "at-number", ""),
    "ttl negative": (job(ttl="-5"), "ttl-number", ""),
    "expires a word": (job(expires="soon"), "expires-number", ""),
    "v zero": (job(v="0"), "v-number", ""),
    "reply elsewhere": (job(reply="some:key"), "reply-key", ""),
    "reply to another queue": (job(reply="mq:{other}:reply:x"), "reply-key", ""),
    "key with a space": (job(key="a b"), "key-name", ""),
    "unique not UTF-8": (job(unique=b"\xff"), "unique-name", ""),
    "a field twice": ([*job(), "type", "pack"], "field-repeated", ""),
    "a header twice": ([*job(), "a", "1", "a", "2"], "field-repeated", ""),
    "headers too many": (
        job(**{f"h{number}": "" for number in range(33)}),
        "headers-too-many",
        "",
    ),
    "header too large": (job(colour="x" * 1_024), "header-too-large", ""),
    "header not UTF-8": (job(colour=b"\xff"), "header-utf8", ""),
    "fields too many": (
        [*job(), *(f"f{number}" for number in range(400))],
        "fields-too-many",
        "",
    ),
    "_engine no JSON": (job(_engine="what"), "engine-field", ""),
    "_engine without an id": (job(_engine='{"enqueued_ms":1}'), "engine-field", ""),
    "_engine with absurd numbers": (
        job(_engine='{"id":"a","enqueued_ms":1,"attempts":-9}'),
        "engine-field",
        "",
    ),
    "_engine with a bad id": (job(_engine='{"id":"a b","enqueued_ms":1}'), "engine-field", ""),
    "_engine huge": (job(_engine=b"[" * 600_000), "engine-field", ""),
}


def _bytes(fields: list[Any]) -> list[bytes]:
    return [part if isinstance(part, bytes) else part.encode() for part in fields]


async def test_every_kind_is_buried_with_its_bytes_rule_and_path(server: Server) -> None:
    entries = {name: await server.add(*fields) for name, (fields, _, _) in MALFORMED.items()}
    good = await server.add(*job())
    await server.until_ended(len(MALFORMED) + 1)

    letters = {record.entry: (record, raw) for record, raw in await server.letters()}
    for name, (fields, rule, path) in MALFORMED.items():
        record, raw = letters[entries[name]]
        assert (name, record.reason, record.rule, record.path) == (name, "malformed", rule, path)
        assert (record.attempts, record.lane) == (0, "normal"), name
        assert raw == _bytes(fields), name
        assert record.type == ("pack" if _bytes(fields)[:2] == [b"type", b"pack"] else "other"), (
            name
        )
        assert record.id
    assert set(await server.done()) == {f"n-{good}"}
    assert await server.call("XLEN", KEYS.lane("normal")) == 0
    # The groups count each of them.
    groups = await server.hash(KEYS.dead_groups)
    counted = sum(int(value) for name, value in groups.items() if name.endswith(":n"))
    assert counted == len(MALFORMED)


async def test_what_is_too_much_to_keep_leaves_its_hash_and_memory_stays_bounded(
    server: Server,
) -> None:
    await server.add(*job())
    await server.until_ended(1)
    before = rss_bytes()
    many = [*job(), *(f"f{number}" for number in range(200_000))]
    huge = job(data=b'{"note":"' + b"x" * 50_000_000 + b'"}')
    entries = {await server.add(*many): many}
    for _ in range(4):
        entries[await server.add(*huge)] = huge
    good = await server.add(*job())
    await server.until_ended(7)

    letters = await server.letters()
    assert {record.rule for record, _ in letters} == {"fields-too-many", "data-too-large"}
    for record, raw in letters:
        fields = _bytes(entries[record.entry])
        assert raw == []
        assert record.cut == sum(map(len, fields))
        assert record.sha256 == hashlib.sha256(b"\0".join(fields)).hexdigest()
    assert f"n-{good}" in await server.done()
    # Four of 50 MB came at once or one after the other; none of it stays (the test holds one).
    assert rss_bytes() - before < 400_000_000


async def test_bounds_are_met_exactly(server: Server) -> None:
    wrapping = len(b'{"note":""}')
    good = [
        job(data=b'{"note":"' + b"x" * (MIB - wrapping) + b'"}'),
        job(id="a" * 128),
        job(attempts="100"),
        job(type="pack", **{f"h{number}": "" for number in range(32)}),
        job(colour="x" * (1_024 - len("colour"))),
        job(at="1"),
        job(delay="0", ttl="60000"),
        job(traceparent="what is this"),
        job(key="conversation-7", unique="once"),
    ]
    await server.add_many(good)
    await server.until_ended(len(good))

    assert len(await server.done()) == len(good)


@pytest.mark.parametrize("lane", ["critical", "high", "normal", "low"])
async def test_the_readme_line_is_a_complete_job(server: Server, lane: str) -> None:
    entry = await server.call(
        "XADD", f"mq:{{{QUEUE}}}:{lane}", "*", "type", "pack", "data", '{"weight":7}'
    )
    await server.until_ended(1)

    (done,) = (await server.done()).values()
    assert (done.id, done.lane, done.result) == (f"{lane[0]}-{entry.decode()}", lane, b"7")


async def test_every_field_works_from_a_bare_xadd(server: Server) -> None:
    reply = f"mq:{{{QUEUE}}}:reply:me"
    now_ms = int((await server.call("TIME"))[0]) * 1000
    await server.call(
        "XADD", KEYS.lane("high"), "*",
        "type", "pack", "data", '{"weight":3}', "id", "order/7", "delay", "50", "ttl", "60000",
        "attempts", "3", "v", "1", "reply", reply, "key", "k", "unique", "u", "colour", "red",
        "traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )  # fmt: skip
    await server.add(*job(at=str(now_ms + 100), expires=str(now_ms + 60_000), id="later"))
    await server.add(*job(ttl="0", id="late", delay="20"))
    await server.until_ended(3)

    assert set(await server.done()) == {"order/7", "later"}
    assert (await server.dead())["late"].reason == "expired"
    ((_, told),) = await server.call("XRANGE", reply, "-", "+")
    assert dict(zip(told[::2], told[1::2], strict=True))[b"result"] == b"3"

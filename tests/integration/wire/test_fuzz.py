"""Arbitrary entries on a real engine: each ends once, and the engine lives."""

from __future__ import annotations

import asyncio
from typing import Any

import hypothesis
from hypothesis import strategies as st

from engine import Job, Registry
from engine.wire.codec import META
from tests.support.engines import KEYS, NO_WAIT, QUEUE, Server, serving
from tests.support.servers import RedisTestServer

NAMES = b"type data id delay at ttl expires attempts v reply traceparent key unique _engine".split()
WORDS = st.sampled_from(
    [
        b"",
        b"pack",
        b"{}",
        b'{"a":1}',
        b"null",
        b"1",
        b"0",
        b"99999999999999999999",
        b"-1",
        b"mq:{work}:reply:x",
        b"mq:{work}:normal",
        b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        b'{"id":"x","enqueued_ms":1}',
        b'{"id":"x","enqueued_ms":1,"attempts":3,"lost":9,"why":"hold"}',
    ]
)
VALUES = WORDS | st.binary(max_size=40) | st.text(max_size=20).map(lambda t: t.encode("utf-8"))
PAIRS = st.lists(st.tuples(st.sampled_from(NAMES) | st.binary(max_size=10), VALUES), max_size=6)
ENTRIES = st.builds(
    lambda good, pairs: [*([(b"type", b"pack"), (b"data", b"{}")] if good else []), *pairs],
    st.booleans(),
    PAIRS,
).filter(bool)
BATCHES = st.lists(ENTRIES, min_size=1, max_size=60)


def registry() -> Registry:
    found = Registry()

    @found.job("pack", queue=QUEUE, retry=NO_WAIT)
    async def pack(job: Job, payload: dict[str, Any]) -> str:
        return job.id

    return found


def _waits(fields: list[tuple[bytes, bytes]]) -> bool:
    """Jobs that are to start later, or under a version that nobody knows, do not end now."""
    return any(name in {b"delay", b"at", b"v"} for name, _ in fields)


@hypothesis.settings(max_examples=40, deadline=None)
@hypothesis.given(batch=BATCHES)
def test_each_entry_ends_once_whatever_it_is(
    shared_redis: RedisTestServer, batch: list[list[tuple[bytes, bytes]]]
) -> None:
    shared_redis.call("FLUSHALL")
    asyncio.run(_run(shared_redis.url, batch))


async def _run(url: str, batch: list[list[tuple[bytes, bytes]]]) -> None:
    entries = [[part for pair in fields for part in pair] for fields in batch]
    async with Server(url) as server, serving(registry(), url) as running:
        ids = await server.add_many(entries)
        last = await server.add("type", "pack", "data", "{}", "id", "the-last")

        async def at_rest() -> bool:
            waiting = await server.call("XLEN", KEYS.lane("normal"))
            return waiting == 0 and not running.engine.unsettled()

        await server.until(at_rest, "the end of all entries")
        assert not running.task.done()
        letters = await server.letters()
        done = [
            job_id
            for _, fields in await server.call("XRANGE", KEYS.done, "-", "+")
            for job_id in fields[fields.index(b"ids") + 1].decode().split(" ")
        ]
        delayed = await server.call("ZCARD", KEYS.delayed)
        buried = [record.entry for record, _ in letters]
        assert len(buried) == len(set(buried))
        assert set(buried) <= {*ids, last}
        assert "the-last" in done
        assert len(done) + len(buried) + delayed == len(ids) + 1
        assert delayed <= sum(map(_waits, batch))
        for record, raw in letters:
            given = entries[ids.index(record.entry)]
            kept = raw if record.reason == "malformed" else [*raw]
            assert kept == given or (META in given and record.reason != "malformed")

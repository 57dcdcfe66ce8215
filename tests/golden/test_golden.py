"""
Entries that engines have written, which must decode for ever.

The files are never edited: a new encoding gets a new folder beside ``v1``. Each holds the fields of
one entry (or, for the delayed set, one member) as :func:`engine.wire.packing.pack` lays them out.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from engine.wire.codec import DEAD, Envelope, Limits, parse
from engine.wire.done import DoneJob, decode_done
from engine.wire.packing import unpack
from schemas.job import AttemptRecord, DeadRecord, ErrorRecord, Meta

V1 = Path(__file__).parent / "v1"
ENTRY_MS = 1_763_769_700_000
FIRST_ERROR = ErrorRecord(kind="ValueError", message="no “quotes”", traceback="a.py:1 in f")
HISTORY = (
    AttemptRecord(
        number=1,
        at_ms=1_763_769_601_000,
        run_ms=12,
        engine="host-1",
        outcome="failed",
        error=FIRST_ERROR,
    ),
    AttemptRecord(
        number=2,
        at_ms=1_763_769_603_000,
        run_ms=30_000,
        engine="host-2",
        outcome="timeout",
        error=ErrorRecord(kind="timeout"),
    ),
)
META_1 = Meta(
    id="order-1",
    enqueued_ms=1_763_769_600_000,
    attempts=2,
    lost=1,
    snoozes=3,
    redrives=1,
    why="backoff",
    history=HISTORY,
)


def stored(name: str) -> list[bytes]:
    return unpack((V1 / f"{name}.bin").read_bytes())


def parsed(fields: list[bytes]) -> Envelope:
    return parse(fields, entry_ms=ENTRY_MS, limits=Limits())


def check_full(envelope: Envelope) -> None:
    assert envelope.type == "send-message"
    assert msgspec.json.decode(envelope.data)["content"] == "héllo ❤"
    assert (envelope.id, envelope.key, envelope.unique) == ("order-1", "c-1", "m-1")
    assert (envelope.attempts, envelope.version) == (7, 2)
    assert envelope.reply == "mq:{message-delivery}:reply:desk"
    assert envelope.traceparent.startswith("00-4bf92f3577b34da6")
    assert envelope.headers == {"tenant": "ü"}


def test_a_producers_entry_decodes() -> None:
    bare = parsed(stored("entry-bare"))

    assert (bare.type, bare.id, bare.meta) == ("send-message", "", None)


def test_a_producers_entry_with_every_field_decodes() -> None:
    full = parsed(stored("entry-full"))

    check_full(full)
    assert full.expires_ms == ENTRY_MS + 60_000


def test_an_entry_that_was_retried_decodes() -> None:
    retried = parsed(stored("entry-retried"))

    check_full(retried)
    assert retried.meta == META_1
    assert retried.expires_ms == META_1.enqueued_ms + 60_000


def test_a_member_of_the_delayed_set_decodes() -> None:
    lane, *fields = stored("delayed")

    assert lane == b"low"
    assert fields == stored("entry-retried")


def test_a_dead_letter_decodes() -> None:
    name, record, *fields = stored("dead")

    assert name == DEAD
    assert fields == stored("entry-full")
    assert msgspec.json.decode(record, type=DeadRecord) == DeadRecord(
        id="order-1",
        type="send-message",
        lane="low",
        entry="1763769700000-3",
        reason="exhausted",
        error=FIRST_ERROR,
        attempts=3,
        lost=1,
        redrives=1,
        enqueued_ms=1_763_769_600_000,
        died_ms=1_763_769_705_000,
        fingerprint="0123456789ab",
        history=HISTORY,
    )


def test_a_malformed_dead_letter_decodes_with_its_bytes() -> None:
    _, raw, *fields = stored("dead-malformed")
    record = msgspec.json.decode(raw, type=DeadRecord)

    assert fields == [b"\xff\x00", b"raw\r\n"]
    assert (record.rule, record.path, record.cut) == ("data-utf8", "$.content", 2_000_000)
    assert record.error.kind == "data-utf8"


def test_done_entries_decode() -> None:
    with_results = decode_done(b"1763769701234-0", stored("done"))
    without_results = decode_done(b"1763769701234-0", stored("done-without-results"))

    assert [(job.id, job.run_us, job.result) for job in with_results] == [
        ("n-1763769600000-0", 1_500, b'{"sequence":7}'),
        ("ü-2", 4_294_967_295, b""),
    ]
    assert without_results == [
        DoneJob(
            id="l-1763769600000-0",
            type="cleanup",
            lane="low",
            engine="host-1",
            done_ms=1_763_769_701_234,
            run_us=0,
        )
    ]


def test_every_file_is_read_by_a_test() -> None:
    source = Path(__file__).read_text()

    assert all(f'"{path.stem}"' in source for path in V1.iterdir())

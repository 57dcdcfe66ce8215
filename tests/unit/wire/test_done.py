"""Entries of the done stream."""

from __future__ import annotations

from array import array

import pytest

from engine.errors import Malformed
from engine.wire.done import US_MAX, DoneJob, decode_done, encode_done


def test_jobs_come_back_with_their_own_values() -> None:
    fields = encode_done(
        "pack", "low", "host-1", [b"a", "é".encode()], array("I", [0, US_MAX]), [b'{"x":1}', b""]
    )

    assert decode_done(b"1763769600000-7", fields) == [
        DoneJob(
            id="a",
            type="pack",
            lane="low",
            engine="host-1",
            done_ms=1_763_769_600_000,
            run_us=0,
            result=b'{"x":1}',
        ),
        DoneJob(
            id="é",
            type="pack",
            lane="low",
            engine="host-1",
            done_ms=1_763_769_600_000,
            run_us=US_MAX,
        ),
    ]


def test_the_number_of_jobs_is_the_fourth_field() -> None:
    """The scripts `settle` and `trim` read it there."""
    fields = encode_done("pack", "low", "e", [b"a", b"b"], array("I", [1, 2]), None)

    assert fields[6:8] == [b"n", b"2"]
    assert b"results" not in fields


GOOD = encode_done("pack", "low", "e", [b"a", b"b"], array("I", [1, 2]), [b"", b""])


@pytest.mark.parametrize(
    "fields",
    [
        [],
        GOOD[:-1],
        GOOD[2:],
        [*GOOD[:9], b"a b c", *GOOD[10:]],
        [*GOOD[:9], b"\xff \xff", *GOOD[10:]],
        [*GOOD[:11], b"\x01", *GOOD[12:]],
        [*GOOD[:13], b"junk"],
    ],
)
def test_what_no_engine_wrote_is_refused(fields: list[bytes]) -> None:
    with pytest.raises(Malformed):
        decode_done(b"1-0", fields)


def test_an_entry_id_that_is_none_is_refused() -> None:
    with pytest.raises(Malformed):
        decode_done(b"x", GOOD)

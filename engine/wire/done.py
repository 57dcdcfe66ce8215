"""
Entries of the done stream: one for the jobs of one type that were settled together.

Fields: ``type``, ``lane``, ``engine``, ``n`` (jobs), ``ids`` (joined by spaces, which no id
contains), ``us`` (run time of each in µs, little-endian u32), and ``results`` (JSON of each,
packed; left out where no handler returned anything).
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import msgspec

from engine.errors import Malformed
from engine.wire.packing import pack, unpack

US_MAX = 0xFFFFFFFF


class DoneJob(msgspec.Struct, frozen=True, kw_only=True):
    """
    One finished job, as read back.

    Attributes:
        id: The job's id.
        type: Its type.
        lane: The lane it came through.
        engine: Which engine ran it.
        done_ms: Unix ms of its settlement.
        run_us: How long its last attempt ran, in µs.
        result: JSON of what the handler returned, or empty.
    """

    id: str
    type: str
    lane: str
    engine: str
    done_ms: int
    run_us: int
    result: bytes = b""


def encode_done(  # noqa: PLR0917 - the columns in their order
    job_type: str,
    lane: str,
    engine: str,
    ids: Sequence[bytes],
    us: array[int],
    results: Sequence[bytes] | None,
) -> list[bytes]:
    """Build the fields of one done entry; the columns have the same length."""
    fields = [
        b"type", job_type.encode(),
        b"lane", lane.encode(),
        b"engine", engine.encode(),
        b"n", b"%d" % len(ids),
        b"ids", b" ".join(ids),
        b"us", us.tobytes(),
    ]  # fmt: skip
    if results is not None:
        fields += (b"results", pack(results))
    return fields


def decode_done(entry: bytes, fields: Sequence[bytes]) -> list[DoneJob]:
    """
    Undo :func:`encode_done` for one entry of the stream.

    Raises:
        Malformed: The entry was not written by an engine.
    """
    try:
        found = dict(zip(fields[::2], fields[1::2], strict=True))
        ids = found[b"ids"].decode().split(" ")
        us = array("I")
        us.frombytes(found[b"us"])
        results = unpack(found[b"results"]) if b"results" in found else [b""] * len(ids)
        return [
            DoneJob(
                id=job_id,
                type=found[b"type"].decode(),
                lane=found[b"lane"].decode(),
                engine=found[b"engine"].decode(),
                done_ms=int(entry.split(b"-")[0]),
                run_us=run_us,
                result=result,
            )
            for job_id, run_us, result in zip(ids, us, results, strict=True)
        ]
    except (KeyError, ValueError) as error:
        raise Malformed("done-entry", detail=str(error)) from None

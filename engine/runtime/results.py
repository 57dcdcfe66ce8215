"""What jobs that are done leave behind: their run times and what their handlers returned. Pure."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

import msgspec
import orjson

from engine.runtime.jobs import BoundType, LiveJob
from engine.wire.done import US_MAX

RESULT_BYTES_MAX = 65_536


class Column(msgspec.Struct, frozen=True):
    """
    Jobs of one type that are done together.

    Attributes:
        bound: The type.
        jobs: The jobs.
        us: How long each ran, in µs.
    """

    bound: BoundType
    jobs: Sequence[LiveJob]
    us: array[int]


def columns_of(successes: Sequence[LiveJob]) -> list[Column]:
    """Sort jobs that are done by their types."""
    bounds = {job.bound for job in successes}
    if len(bounds) == 1:
        return [Column(bounds.pop(), successes, _all_us(successes))]
    columns = []
    for bound in bounds:
        jobs = [job for job in successes if job.bound is bound]
        columns.append(Column(bound, jobs, _all_us(jobs)))
    return columns


def _all_us(jobs: Sequence[LiveJob]) -> array[int]:
    try:
        return array("I", [int(job.run_s * 1e6) for job in jobs])
    except OverflowError:
        # One of them ran for more than an hour.
        return array("I", [run_us(job.run_s) for job in jobs])


def encode_result(value: Any) -> bytes:
    """
    Encode what a handler returned.

    The job is done whatever it returned, so a value that cannot be written, or is too large, leaves
    a note in its place.
    """
    try:
        encoded = orjson.dumps(value, default=_plain, option=orjson.OPT_NON_STR_KEYS)
    except (TypeError, ValueError, RecursionError) as error:
        return orjson.dumps({"resultNotKept": f"cannot be written as JSON: {error}"[:200]})
    if len(encoded) > RESULT_BYTES_MAX:
        return orjson.dumps({"resultNotKept": f"{len(encoded)} bytes, over {RESULT_BYTES_MAX}"})
    return encoded


def _plain(value: Any) -> Any:
    return msgspec.to_builtins(value)


def run_us(seconds: float) -> int:
    """Seconds as the done stream stores them."""
    return min(US_MAX, max(0, round(seconds * 1e6)))

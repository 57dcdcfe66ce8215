"""What became of the jobs that a job waited for, as its handler sees it."""

from __future__ import annotations

from typing import Any

import msgspec

from schemas.flow import CANCELLED, DONE, FAILED, IGNORED, ChildFailure, ChildrenRecord


class Children(msgspec.Struct, frozen=True, kw_only=True):
    """
    The children of one job; all zero for a job without any.

    Attributes:
        total: How many there are.
        done: Ended as done.
        failed: Ended dead; only one that says ``continue`` lets its parent run.
        ignored: Ended dead, which they may.
        cancelled: Were cancelled.
        unfinished: Had not ended when the job went on without them.
        failures: Those that ended dead or were cancelled, the first twenty.
        results: What their handlers returned, in their order, None for those that are not done;
            empty unless the job asked for them.
    """

    total: int = 0
    done: int = 0
    failed: int = 0
    ignored: int = 0
    cancelled: int = 0
    unfinished: int = 0
    failures: tuple[ChildFailure, ...] = ()
    results: tuple[Any, ...] = ()


NONE = Children()


def children_of(family: ChildrenRecord | None) -> Children:
    """Read what an engine wrote down about a job's children."""
    if family is None:
        return NONE
    count = family.states.count
    ended = {
        "done": count(DONE),
        "failed": count(FAILED),
        "ignored": count(IGNORED),
        "cancelled": count(CANCELLED),
    }
    return Children(
        total=len(family.states),
        **ended,
        unfinished=len(family.states) - sum(ended.values()),
        failures=family.failures,
        results=tuple(_decoded(result) for result in family.results or ()),
    )


def _decoded(result: msgspec.Raw) -> Any:
    try:
        return msgspec.json.decode(result)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None

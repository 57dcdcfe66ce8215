"""
Jobs that wait for others, put together.

``chain(a, b, c)`` is ``c``, which waits for ``b``, which waits for ``a``;
``fan_in(parent, children)`` is ``parent``, which waits for all of them. Either is a job like any
other: it can be a child again, and one XADD carries the whole of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from engine.client.jobs import NewJob


def chain(*jobs: NewJob) -> NewJob:
    """
    Let jobs run one after the other.

    Args:
        jobs: At least one, in their order; each may have children of its own, which end before it
            as well.

    Returns:
        The last job, to be enqueued.
    """
    if not jobs:
        raise ValueError("a chain has at least one job")
    first, *rest = jobs
    for job in rest:
        first = fan_in(job, [first])
    return first


def fan_in(parent: NewJob, children: Sequence[NewJob], *, results: bool = False) -> NewJob:
    """
    Let a job run once others have ended.

    Args:
        parent: The job that waits.
        children: What it waits for, before those that it has already.
        results: Whether its handler is given their results.

    Returns:
        The parent, to be enqueued.
    """
    return msgspec.structs.replace(
        parent,
        children=[*children, *(parent.children or ())],
        results=results or parent.results,
    )

"""How full a queue is, as the page and ``--json`` print it."""

from __future__ import annotations

import msgspec


class Fullness(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """
    How full a queue is.

    Attributes:
        jobs: Jobs that it holds: waiting, running, delayed and set aside.
        jobs_max: Jobs that it may hold; 0 for no bound.
        bytes: Memory that they take on the server.
        bytes_max: Memory that they may take; 0 for no bound.
        ratio: The larger one of both by its bound; 0 without bounds.
        set_live: Whether an operator set a bound, which wins over the engines' settings.
        growth_jobs_s: Jobs that it gains per second, as engines saw it lately; None if none says.
        growth_bytes_s: Bytes likewise.
    """

    jobs: int
    jobs_max: int
    bytes: int
    bytes_max: int
    ratio: float
    set_live: bool
    growth_jobs_s: float | None = None
    growth_bytes_s: float | None = None

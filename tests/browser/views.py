"""Every view of the page, with what it must show over the seeded queues."""

from __future__ import annotations

from typing import NamedTuple


class View(NamedTuple):
    """
    One view.

    Attributes:
        name: For pictures and reports.
        path: Its address.
        shows: A text that only its data can bring.
    """

    name: str
    path: str
    shows: str


VIEWS = [
    View("overview", "/", "indexing"),
]

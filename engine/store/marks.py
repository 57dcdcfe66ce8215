"""
Marks: what lets a settlement do without a look at each of its entries.

A lane's mark is written by a settlement, is unlike any before it, and is deleted by whatever moves
an entry of the lane from one holder to another. So a lease that was read after its engine learned a
mark is still that engine's while the same mark stands. This holds within the life of one server:
what a mark says ends with the connections by which it was learned.
"""

from __future__ import annotations

import msgspec

Links = tuple[int, ...]
"""How often each of an engine's connections was made; it never repeats."""


class Mark(msgspec.Struct, frozen=True, eq=False):
    """
    One mark as an engine learned it; told from others by identity.

    Attributes:
        value: What the server holds.
        links: The connections by which it was learned.
    """

    value: bytes
    links: Links


class Marks:
    """The marks that one engine knows."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Mark] = {}

    def of(self, queue: str, stream: str, links: Links) -> Mark | None:
        """Return what is known of a stream, unless a connection was made anew since."""
        mark = self._known.get((queue, stream))
        return mark if mark is not None and mark.links == links else None

    def learn(self, queue: str, stream: str, value: bytes, links: Links) -> None:
        """Note the mark that a settlement found or wrote; empty for none."""
        known = self._known.get((queue, stream))
        if not value:
            self._known.pop((queue, stream), None)
        elif known is None or (known.value, known.links) != (value, links):
            self._known[queue, stream] = Mark(value, links)

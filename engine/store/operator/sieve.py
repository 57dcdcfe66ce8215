"""What readers bring of jobs before it is decoded, and a sieve for what cannot fit. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import repeat
from typing import Generic, TypeVar

from engine.store.operator.entry import Found
from engine.store.operator.link import Entry
from engine.store.operator.needle import Needle, is_plain
from schemas.rules import TYPE_NAME

Raw = TypeVar("Raw")
Sieve = Callable[[bytes], bool]
"""Tells of a job's bytes whether it may fit; only then it is worth decoding."""

_OF_AN_ENTRY = re.compile(r"[a-z]?(-[0-9-]*)?")
"""May stand in an id that is made of a lane and an entry, and is written nowhere."""


class Chunk(Generic[Raw]):
    """
    Some jobs that a reader found, each decoded only when it is asked for.

    Args:
        raws: What was read of each.
        read: Decodes one.
        hay: Gives all bytes of one in which its type, id, text or error stands, or is those of
            all together; None where jobs are decoded already.
    """

    def __init__(
        self,
        raws: Sequence[Raw],
        read: Callable[[Raw], Found],
        hay: Callable[[Raw], bytes] | bytes | None = None,
    ) -> None:
        self._raws = raws
        self._read = read
        self._hay = hay

    def __len__(self) -> int:
        return len(self._raws)

    def __iter__(self) -> Iterator[Found]:
        return map(self._read, self._raws)

    def position(self, at: int) -> str:
        """Return the position of one of the jobs."""
        return self._read(self._raws[at]).position

    def sifted(self, sieve: Sieve | None) -> Iterator[Found | None]:
        """Go through the jobs; one that cannot fit is None."""
        hay, read = self._hay, self._read
        if sieve is None or hay is None:
            yield from self
        elif isinstance(hay, bytes):
            yield from self if sieve(hay) else repeat(None, len(self))
        else:
            yield from (read(raw) if sieve(hay(raw)) else None for raw in self._raws)


def decoded(jobs: Sequence[Found]) -> Chunk[Found]:
    """Make a chunk of jobs that are decoded already."""
    return Chunk(jobs, _itself)


def entry_hay(entry: Entry) -> bytes:
    """Return what a stream's entry holds, with the id, of which a job may have its own."""
    name, fields = entry
    return b"\0".join((*fields, name))


def _itself(found: Found) -> Found:
    return found


def sieve_of(
    *, type_: str = "", job_id: str = "", text: str = "", fingerprint: str = ""
) -> Sieve | None:
    """
    Make the sieve for what is wanted, empty for any; None where none can help.

    What passes may still not fit; what fits always passes.
    """
    exact = [fingerprint.encode()] if is_plain(fingerprint) and fingerprint else []
    # Whatever has no proper name is called `other`.
    if type_ != "other" and TYPE_NAME.fullmatch(type_):
        exact.append(type_.encode())
    if is_plain(job_id) and not _OF_AN_ENTRY.fullmatch(job_id):
        exact.append(job_id.encode())
    needle = Needle(text)
    folded = needle.folded
    if not needle.is_plain or _OF_AN_ENTRY.fullmatch(text.lower()):
        folded = b""
    if not (exact or folded):
        return None

    if len(exact) + bool(folded) > 1:
        return lambda hay: all(part in hay for part in exact) and folded in hay.lower()
    if folded:
        return lambda hay: folded in hay.lower()
    (only,) = exact
    return lambda hay: only in hay

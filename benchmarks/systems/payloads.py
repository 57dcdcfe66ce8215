"""
What the jobs carry: JSON objects of an exact size, as objects and as ready commands.

A backlog of millions is written from patterns that leave only the numbers open, since making and
encoding an object for each would take longer than working it off.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from typing import Any

SMALL_BYTES = 200
LARGE_BYTES = 2_048
SIZES = (SMALL_BYTES, LARGE_BYTES) * 3 + (SMALL_BYTES,)
"""Of the seven job types that are mixed, in turn."""

LABELS = [f"label-{number}" for number in range(20)]
"""Part of the large payloads, which are no single long string."""

Payload = dict[str, Any]


@functools.cache
def pattern(size: int, number_digits: int, sent_digits: int) -> bytes:
    """Return a payload of that size with two ``%d`` left open: number, and when it was sent."""
    head = b'{"id":%d,"sent_ns":%d,"user":"ada@example.org",'
    if size > SMALL_BYTES:
        head += b'"labels":' + json.dumps(LABELS, separators=(",", ":")).encode() + b","
    head += b'"body":"'
    tail = b'"}'
    filler = size - (len(head) - len(b"%d%d") + number_digits + sent_digits) - len(tail)
    assert filler >= 0, f"a payload cannot be as small as {size} bytes"
    return head + b"x" * filler + tail


def encoded(number: int, sent_ns: int = 0, size: int = SMALL_BYTES) -> bytes:
    """Write one payload as JSON."""
    open_ = pattern(size, len(str(number)), len(str(sent_ns)))
    return open_ % (number, sent_ns)


def payload(number: int, sent_ns: int = 0, size: int = SMALL_BYTES) -> Payload:
    """Build one payload as an object."""
    built: Payload = json.loads(encoded(number, sent_ns, size))
    return built


def command(*words: bytes) -> bytes:
    """Write one command as the server reads it."""
    parts = [b"*%d\r\n" % len(words)]
    parts += [b"$%d\r\n%b\r\n" % (len(word), word) for word in words]
    return b"".join(parts)


def xadd(stream: str, fields: Mapping[str, bytes]) -> bytes:
    """Write the command that appends one entry."""
    words = [b"XADD", stream.encode(), b"*"]
    for name, value in fields.items():
        words += [name.encode(), value]
    return command(*words)


KEY_JOBS = 10
"""Jobs of one ordering key."""


class Commands:
    """
    The commands that append a backlog of bare entries.

    Args:
        streams: Where they go, in turn.
        types: Their types, in turn, with the size of the payload; a type ``""`` is not written.
        keys: Ordering keys that take turns until each has had its jobs; 0 for none.
    """

    def __init__(self, streams: list[str], types: list[tuple[str, int]], *, keys: int = 0) -> None:
        self._streams = streams
        self._types = types
        self._keys = keys
        self._open: dict[tuple[int, ...], bytes] = {}

    def of(self, numbers: range) -> bytes:
        """Write the commands of a stretch of jobs."""
        return b"".join(self._keyed(numbers) if self._keys else self._plain(numbers))

    def _plain(self, numbers: range) -> Iterator[bytes]:
        streams, types, open_ = len(self._streams), len(self._types), self._open
        for number in numbers:
            place = (number % streams, number % types, len(str(number)), 0)
            if place not in open_:
                open_[place] = self._pattern(*place)
            yield open_[place] % number

    def _keyed(self, numbers: range) -> Iterator[bytes]:
        open_ = self._open
        for number in numbers:
            key = self.key(number)
            place = (0, 0, len(str(number)), len(str(key)))
            if place not in open_:
                open_[place] = self._pattern(*place)
            yield open_[place] % (number, key)

    def key(self, number: int) -> int:
        """Name the key of a job: the keys of one block take turns, then come those of the next."""
        block, place = divmod(number, self._keys * KEY_JOBS)
        return block * self._keys + place % self._keys

    def _pattern(self, stream: int, kind: int, digits: int, key_digits: int) -> bytes:
        name, size = self._types[kind]
        # Letters stand in for what is left open, so that the lengths are right.
        data = b"N" * size
        fields = {"type": name.encode(), "data": data} if name else {"data": data}
        if key_digits:
            fields["key"] = b"key-" + b"K" * key_digits
        text = xadd(self._streams[stream], fields)
        written = pattern(size, digits, 1).replace(b'"sent_ns":%d', b'"sent_ns":0')
        text = text.replace(data, written)
        return text.replace(b"K" * key_digits, b"%d") if key_digits else text

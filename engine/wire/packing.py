"""
Lists of byte strings as one byte string that Lua's ``cmsgpack.unpack`` reads in C.

The layout is MessagePack with fixed-width headers: ``dd`` + count (u32), then ``db`` + length
(u32) + bytes for each item, or ``cd`` + u16 for a number. Redis' cmsgpack knows no ``bin`` type,
and stream fields need not be UTF-8, so the ``str 32`` header carries raw bytes here. Only this
module writes the layout.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.errors import Malformed

_ARRAY = b"\xdd"
_STRING = b"\xdb"
_NUMBER = b"\xcd"
_HEADS = [_STRING + length.to_bytes(4) for length in range(1_024)]
"""Headers of short items: most are field names and small values."""
_NUMBERS = [_NUMBER + number.to_bytes(2) for number in range(256)]


def pack(items: Sequence[bytes]) -> bytes:
    """Pack byte strings into one."""
    parts = [_ARRAY + len(items).to_bytes(4)]
    for item in items:
        length = len(item)
        parts.append(_HEADS[length] if length < 1_024 else _STRING + length.to_bytes(4))
        parts.append(item)
    return b"".join(parts)


def pack_lists(lists: Sequence[Sequence[bytes]]) -> bytes:
    """Pack a list of lists of byte strings into one byte string."""
    return join([pack(items) for items in lists])


def pack_numbered(numbers: Sequence[int], rows: Sequence[Sequence[bytes]]) -> bytes:
    """
    Pack rows of byte strings into one flat list, which Lua reads faster than a list of lists.

    Args:
        numbers: What stands before each row, 0 to 65,535.
        rows: As many rows.
    """
    parts = []
    for number, row in zip(numbers, rows, strict=True):
        parts.append(_NUMBERS[number] if number < 256 else _NUMBER + number.to_bytes(2))
        for item in row:
            length = len(item)
            parts.append(_HEADS[length] if length < 1_024 else _STRING + length.to_bytes(4))
            parts.append(item)
    count = (len(parts) + len(rows)) // 2
    return _ARRAY + count.to_bytes(4) + b"".join(parts)


def join(parts: Sequence[bytes]) -> bytes:
    """Make one list of what the others packed."""
    return b"".join([_ARRAY + len(parts).to_bytes(4), *parts])


def unpack(packed: bytes) -> list[bytes]:
    """
    Undo :func:`pack`.

    Raises:
        Malformed: The bytes were not written by :func:`pack`.
    """
    if packed[:1] != _ARRAY or len(packed) < 5:
        raise Malformed("packing", detail="not a packed list")
    count = int.from_bytes(packed[1:5])
    items = []
    position = 5
    for _ in range(count):
        start = position + 5
        if packed[position : position + 1] != _STRING or start > len(packed):
            raise Malformed("packing", detail=f"broken at byte {position}")
        position = start + int.from_bytes(packed[position + 1 : start])
        if position > len(packed):
            raise Malformed("packing", detail="cut short")
        items.append(packed[start:position])
    if position != len(packed):
        raise Malformed("packing", detail="trailing bytes")
    return items

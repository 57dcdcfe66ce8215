"""Lists of byte strings as one."""

from __future__ import annotations

import pytest

from engine.errors import Malformed
from engine.wire.packing import join, pack, pack_lists, pack_numbered, unpack


def test_the_layout_is_messagepack_with_fixed_headers() -> None:
    assert pack([]) == b"\xdd\x00\x00\x00\x00"
    assert pack([b"ab", b""]) == (b"\xdd\x00\x00\x00\x02\xdb\x00\x00\x00\x02ab\xdb\x00\x00\x00\x00")
    assert pack_lists([[b"a"], []]) == b"\xdd\x00\x00\x00\x02" + pack([b"a"]) + pack([])


def test_rows_stand_behind_their_numbers_in_one_list() -> None:
    packed = pack_numbered([1, 300], [[b"ab", b""], [b"c"]])

    assert packed == (
        b"\xdd\x00\x00\x00\x05"
        b"\xcd\x00\x01\xdb\x00\x00\x00\x02ab\xdb\x00\x00\x00\x00"
        b"\xcd\x01\x2c\xdb\x00\x00\x00\x01c"
    )
    assert join([packed, pack([])]) == b"\xdd\x00\x00\x00\x02" + packed + pack([])


def test_any_bytes_come_back() -> None:
    items = [b"", b"\x00\xff", bytes(range(256)), b"x" * 100_000, pack([b"nested"])]

    assert unpack(pack(items)) == items


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"\xdd",
        b"\xdd\x00\x00\x00",
        b"\xdb\x00\x00\x00\x00",
        b"\xdd\x00\x00\x00\x01",
        b"\xdd\xff\xff\xff\xff",
        b"\xdd\x00\x00\x00\x01\xdb\x00\x00",
        b"\xdd\x00\x00\x00\x01\xdb\x00\x00\x00\x05abcd",
        b"\xdd\x00\x00\x00\x01\xa1a",
        pack([b"a"]) + b"x",
    ],
)
def test_what_was_not_packed_here_is_refused(packed: bytes) -> None:
    with pytest.raises(Malformed) as caught:
        unpack(packed)

    assert caught.value.rule == "packing"

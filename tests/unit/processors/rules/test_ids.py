"""UUIDs of version 7."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from processors.rules.ids import uuid_v7


@given(now_ms=st.integers(0, 2**48 - 1), chance=st.binary(min_size=10, max_size=10))
def test_they_carry_version_variant_and_time(now_ms: int, chance: bytes) -> None:
    made = uuid_v7(now_ms, lambda _: chance)

    assert (made.version, made.variant) == (7, "specified in RFC 4122")
    assert made.int >> 80 == now_ms


def test_they_sort_by_time() -> None:
    made = [uuid_v7(now_ms, os.urandom) for now_ms in range(1_000, 1_100)]

    assert made == sorted(made)

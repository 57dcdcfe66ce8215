"""Keys of objects, and the shards that they are compared in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.rules.object_keys import SHARDS, is_ours, new_key, part_key, shard


@given(st.binary(min_size=16, max_size=16))
def test_a_key_is_ours_and_lies_in_one_shard_with_what_is_made_of_it(chance: bytes) -> None:
    key = new_key(lambda size: chance[:size])
    part = part_key(key, "small-2")

    homes = [n for n in range(SHARDS) if shard(n)[0] <= key < shard(n)[1]]

    assert homes == [chance[0]]
    assert all(shard(homes[0])[0] <= each < shard(homes[0])[1] for each in (key, part))
    assert is_ours(key)
    assert is_ours(part)


@pytest.mark.parametrize("key", ["", "readme", "ab/not", "AB/" + "0" * 30, "ab/" + "0" * 31])
def test_other_keys_are_none_of_ours(key: str) -> None:
    assert not is_ours(key)

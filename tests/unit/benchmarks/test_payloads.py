"""Backlogs written from patterns are what a client would have sent."""

from __future__ import annotations

import json

import hiredis
import pytest

from benchmarks.systems.payloads import (
    KEY_JOBS,
    LARGE_BYTES,
    SMALL_BYTES,
    Commands,
    encoded,
    payload,
)


def entries(text: bytes) -> list[list[bytes]]:
    """Read commands as the server does."""
    parser = hiredis.Reader()
    parser.feed(text)
    found = []
    while (words := parser.gets()) is not False:
        found.append(words)
    return found


@pytest.mark.parametrize("size", [SMALL_BYTES, LARGE_BYTES])
@pytest.mark.parametrize("number", [-1, 0, 7, 99_999, 12_345_678])
def test_a_payload_has_its_size_whatever_its_number(size: int, number: int) -> None:
    text = encoded(number, 1_234_567_890, size)

    assert len(text) == size
    assert json.loads(text)["id"] == number
    assert json.loads(text) == payload(number, 1_234_567_890, size)


def test_streams_and_types_take_turns_and_each_command_is_whole() -> None:
    commands = Commands(["a", "b"], [("x", SMALL_BYTES), ("y", LARGE_BYTES), ("z", SMALL_BYTES)])

    found = entries(commands.of(range(8, 14)))

    assert [words[:3] for words in found] == [[b"XADD", name, b"*"] for name in [b"a", b"b"] * 3]
    assert [words[4] for words in found] == [b"z", b"x", b"y", b"z", b"x", b"y"]
    assert [json.loads(words[6])["id"] for words in found] == list(range(8, 14))
    assert [len(words[6]) for words in found] == [SMALL_BYTES, SMALL_BYTES, LARGE_BYTES] * 2


def test_an_entry_without_a_type_has_its_data_alone() -> None:
    (words,) = entries(Commands(["raw"], [("", SMALL_BYTES)]).of(range(1)))

    assert words[3:] == [b"data", encoded(0)]


def test_each_key_gets_its_jobs_and_a_block_of_keys_ends_before_the_next() -> None:
    commands = Commands(["lane"], [("job", SMALL_BYTES)], keys=3)

    found = [words[8] for words in entries(commands.of(range(6 * KEY_JOBS)))]

    assert found[:4] == [b"key-0", b"key-1", b"key-2", b"key-0"]
    assert {key: found.count(key) for key in found} == {
        b"key-%d" % key: KEY_JOBS for key in range(6)
    }
    assert set(found[: 3 * KEY_JOBS]).isdisjoint(found[3 * KEY_JOBS :])

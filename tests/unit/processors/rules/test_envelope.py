"""The format of records: fixed vectors, and what must never open."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from processors.rules.envelope import (
    BadRecord,
    WrongKey,
    associated,
    blind_terms,
    check_value,
    decrypt,
    derived,
    encrypt,
    keyed_hash,
    unwrap,
    wrap,
)

KEY = bytes(range(32))
KEK = bytes(range(32, 64))
NONCE = bytes(range(12))
PLACE: dict[str, Any] = {
    "tenant": "acme",
    "conversation_id": UUID(int=1),
    "message_id": UUID(int=2),
    "version": 3,
    "field": "body",
    "key_id": UUID(int=4),
}

# Computed with another implementation of GCM and HKDF than the one under test. What was sealed
# with a release must open for ever: these values never change, a new format gets new ones.
AAD_1 = (
    "0000001273747265616d6c616e6520636f6e74656e740000000101"
    "0000000461636d65"
    "0000001000000000000000000000000000000001"
    "0000001000000000000000000000000000000002"
    "000000080000000000000003"
    "00000004626f6479"
    "0000001000000000000000000000000000000004"
)
RECORD_1 = "01000102030405060708090a0b2fc17277215e7443a75cf0610bb7978ece3d1a18"
WRAPPED_1 = (
    "78dac3cb0da39478"
    "01000102030405060708090a0b"
    "27e7afa7af2e6ea088a6cf2044c75f17d80be87f7763e2d7ac320fe355750002"
    "a8bcda98cf67e820d5dcda2e7ceebc43"
)
FINGERPRINT_KEY = "5dd86571f6330669792fe5e221441ca69e8f4707f6371e8d09d3ee53dce4fb4a"
BLIND_KEY = "ee0070000ca3a7ac5f318521f3477e67bdaa976015b18af7d1fc271e26f7c795"
BLIND_WORD = "3986d07ca310c921"

names = st.text(max_size=20)
places = st.fixed_dictionaries(
    {
        "tenant": names,
        "conversation_id": st.uuids(),
        "message_id": st.uuids(),
        "version": st.integers(1, 2**31 - 1),
        "field": names,
        "key_id": st.uuids(),
    }
)


def test_records_are_what_they_were() -> None:
    aad = associated(**PLACE)

    assert aad.hex() == AAD_1
    assert encrypt(AESGCM(KEY), NONCE, "häl".encode(), aad).hex() == RECORD_1
    assert decrypt(AESGCM(KEY), bytes.fromhex(RECORD_1), aad).decode() == "häl"


def test_wrapped_keys_are_what_they_were() -> None:
    context = {"key": "k", "conversation": "c"}

    assert wrap(KEK, KEY, NONCE, context).hex() == WRAPPED_1
    assert unwrap(KEK, bytes.fromhex(WRAPPED_1), context) == KEY


def test_hashes_are_what_they_were() -> None:
    assert derived(KEY, "fingerprint").hex() == FINGERPRINT_KEY
    assert derived(KEY, "blind").hex() == BLIND_KEY
    assert (
        blind_terms(bytes.fromhex(BLIND_KEY), ["word", "word"]) == [bytes.fromhex(BLIND_WORD)] * 2
    )
    assert keyed_hash(bytes.fromhex(BLIND_KEY), b"word")[:8].hex() == BLIND_WORD


@given(place=places, plaintext=st.binary(max_size=200), nonce=st.binary(min_size=12, max_size=12))
def test_a_record_opens_where_it_belongs(
    place: dict[str, Any], plaintext: bytes, nonce: bytes
) -> None:
    aad = associated(**place)

    assert decrypt(AESGCM(KEY), encrypt(AESGCM(KEY), nonce, plaintext, aad), aad) == plaintext


@given(one=places, other=places)
def test_a_record_opens_nowhere_else(one: dict[str, Any], other: dict[str, Any]) -> None:
    record = encrypt(AESGCM(KEY), NONCE, b"x", associated(**one))
    for name in one:
        moved = one | {name: other[name]}
        if moved != one:
            with pytest.raises(BadRecord):
                decrypt(AESGCM(KEY), record, associated(**moved))


@given(one=places, other=places)
def test_no_two_places_read_the_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert (associated(**one) == associated(**other)) == (one == other)


@pytest.mark.parametrize("bit", range(len(RECORD_1) * 4))
def test_a_flipped_bit_keeps_a_record_shut(bit: int) -> None:
    record = bytearray.fromhex(RECORD_1)
    record[bit // 8] ^= 1 << bit % 8

    with pytest.raises(BadRecord):
        decrypt(AESGCM(KEY), bytes(record), associated(**PLACE))


@given(record=st.binary(max_size=80))
def test_whatever_is_no_record_is_refused_by_name(record: bytes) -> None:
    with pytest.raises(BadRecord):
        decrypt(AESGCM(KEY), record, b"")


def test_another_format_is_refused_before_it_is_tried() -> None:
    with pytest.raises(BadRecord, match="format 2"):
        decrypt(AESGCM(KEY), b"\x02" + bytes.fromhex(RECORD_1)[1:], associated(**PLACE))


@pytest.mark.parametrize("bit", range(64, len(WRAPPED_1) * 4))
def test_a_flipped_bit_keeps_a_wrapped_key_shut(bit: int) -> None:
    wrapped = bytearray.fromhex(WRAPPED_1)
    wrapped[bit // 8] ^= 1 << bit % 8

    with pytest.raises(BadRecord):
        unwrap(KEK, bytes(wrapped), {"key": "k", "conversation": "c"})


@pytest.mark.parametrize("context", [{}, {"key": "c", "conversation": "k"}, {"key": "k"}])
def test_a_wrapped_key_opens_nowhere_else(context: dict[str, str]) -> None:
    with pytest.raises(BadRecord):
        unwrap(KEK, bytes.fromhex(WRAPPED_1), context)


def test_another_wrapping_key_is_told_from_damage() -> None:
    with pytest.raises(WrongKey):
        unwrap(KEY, bytes.fromhex(WRAPPED_1), {"key": "k", "conversation": "c"})
    with pytest.raises(WrongKey):
        unwrap(KEK, b"", {})


def test_a_check_value_tells_keys_apart() -> None:
    assert check_value(KEK).hex() == WRAPPED_1[:16]
    assert check_value(KEY) != check_value(KEK)

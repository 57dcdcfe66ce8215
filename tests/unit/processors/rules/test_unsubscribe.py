"""Tokens of unsubscribing: what we signed is read back, and nothing else."""

from __future__ import annotations

import base64
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.rules.unsubscribe import (
    CHANNELS,
    TOKEN_CHARS_MAX,
    Unsubscribe,
    read_unsubscribe,
    unsubscribe_token,
    unsubscribe_url,
)

ADA = UUID("0198c0de-0000-7000-8000-00000000ada0")
WISH = Unsubscribe(ADA, "message", "email")
KEYS = ("a key of some length",)

wishes = st.builds(
    Unsubscribe,
    user_id=st.uuids(),
    type=st.text(min_size=1, max_size=64).filter(lambda text: 1 <= len(_bytes(text)) <= 64),
    channel=st.sampled_from(CHANNELS),
)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "replace") if text.isprintable() else b""


@given(wishes)
def test_a_token_says_what_was_signed(wish: Unsubscribe) -> None:
    token = unsubscribe_token(wish, KEYS)

    assert read_unsubscribe(token, KEYS) == wish
    assert len(token) <= TOKEN_CHARS_MAX
    assert set(token) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


def test_old_keys_stay_good_and_the_first_one_signs() -> None:
    old = unsubscribe_token(WISH, ("the old key of old",))

    assert read_unsubscribe(old, ("the new key of new", "the old key of old")) == WISH
    assert unsubscribe_token(WISH, ("the new key of new", "x")) == unsubscribe_token(
        WISH, ("the new key of new",)
    )
    assert read_unsubscribe(old, ("the new key of new",)) is None
    assert read_unsubscribe(old, ()) is None


def test_every_changed_bit_is_noticed() -> None:
    raw = base64.urlsafe_b64decode(unsubscribe_token(WISH, KEYS) + "==")
    for bit in range(len(raw) * 8):
        changed = bytearray(raw)
        changed[bit // 8] ^= 1 << bit % 8
        token = base64.urlsafe_b64encode(bytes(changed)).decode().rstrip("=")
        assert read_unsubscribe(token, KEYS) is None, bit


@pytest.mark.parametrize(
    "token",
    ["", "a", "====", "A" * 22, "A" * 23, "ä" * 40, "../../etc", "A" * 100_000, " ", "A\n" * 20],
)
def test_what_is_no_token_is_none(token: str) -> None:
    assert read_unsubscribe(token, KEYS) is None


@given(st.text(max_size=200))
def test_any_text_is_read_without_an_error(token: str) -> None:
    assert read_unsubscribe(token, KEYS) is None


def test_the_address_stands_under_the_base() -> None:
    url = unsubscribe_url("https://chat.example/hooks/", WISH, KEYS)

    assert url == f"https://chat.example/hooks/unsubscribe/{unsubscribe_token(WISH, KEYS)}"

"""Values sealed for one asker."""

from __future__ import annotations

import base64
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.rules.replies import BadReply, BadReplyKey, key_bytes, opened, public_of, sealed

ONE, OTHER = bytes(range(1, 33)), bytes(range(2, 34))
MESSAGE = UUID(int=7)

# What a release sealed must open with a later one, and with other implementations of RFC 9180:
# one of those made this.
SEALED_1 = "fZwkMWU5glwYluV/KBl3Rnk85gy+461H2p0HuF+lXioA6ajkjLPU171gIAUrFN6WP4g3yQ=="


@given(content=st.binary(max_size=300), version=st.integers(1, 2**31 - 1))
def test_a_value_opens_for_whom_it_was_sealed(content: bytes, version: int) -> None:
    text = sealed(public_of(ONE), content, message_id=MESSAGE, version=version)

    assert opened(ONE, text, message_id=MESSAGE, version=version) == content


def test_a_value_opens_for_nobody_else_and_as_nothing_else() -> None:
    text = sealed(public_of(ONE), b"x", message_id=MESSAGE, version=1)
    record = bytearray(base64.b64decode(text))
    record[-1] ^= 1
    flipped = base64.b64encode(record).decode()

    for private, given_text, message_id, version in (
        (OTHER, text, MESSAGE, 1),
        (ONE, text, uuid4(), 1),
        (ONE, text, MESSAGE, 2),
        (ONE, flipped, MESSAGE, 1),
        (ONE, "", MESSAGE, 1),
        (ONE, "no base64", MESSAGE, 1),
        (ONE, "ä", MESSAGE, 1),
    ):
        with pytest.raises(BadReply):
            opened(private, given_text, message_id=message_id, version=version)


def test_what_was_sealed_before_opens() -> None:
    assert opened(ONE, SEALED_1, message_id=MESSAGE, version=3) == "häl".encode()


@pytest.mark.parametrize(
    "text",
    [
        base64.b64encode(b"\xff" * 32).decode(),
        base64.urlsafe_b64encode(b"\xff" * 32).decode(),
        base64.urlsafe_b64encode(b"\xff" * 32).decode().rstrip("="),
    ],
)
def test_keys_come_in_either_alphabet(text: str) -> None:
    assert key_bytes(text) == b"\xff" * 32


@pytest.mark.parametrize("text", ["", "ä", "AAAA", "A" * 42, "A" * 45, "A" * 20 + "!" + "A" * 22])
def test_what_is_no_key_is_refused_by_name(text: str) -> None:
    with pytest.raises(BadReplyKey):
        key_bytes(text)

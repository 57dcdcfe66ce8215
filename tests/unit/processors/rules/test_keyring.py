"""The text of keyrings."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.rules.keyring import BadKeyring, first, key_id_fault, parse, written

A, B = bytes(32), bytes(range(32))
A64, B64 = base64.b64encode(A).decode(), base64.b64encode(B).decode()

keyrings = st.dictionaries(
    st.from_regex(r"[A-Za-z0-9_.-]{1,64}", fullmatch=True),
    st.binary(min_size=32, max_size=32),
    min_size=1,
)


@given(keys=keyrings)
def test_what_is_written_reads_the_same_in_the_same_order(keys: dict[str, bytes]) -> None:
    assert list(parse(written(keys)).items()) == list(keys.items())


@pytest.mark.parametrize(
    "text",
    [
        f"a={A64}\nb={B64}",
        f"a={A64} b={B64}",
        f"a={A64},b={B64}\n",
        f"# two keys\n\na={A64} # the first\nb={base64.urlsafe_b64encode(B).decode()}",
    ],
)
def test_entries_stand_on_lines_or_beside_each_other(text: str) -> None:
    assert list(parse(text).items()) == [("a", A), ("b", B)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no key"),
        ("# nothing", "no key"),
        ("secret", "id=base64"),
        (f"a b={A64}", "id=base64"),
        (f"ä={A64}", "id=base64"),
        ("a=secret!", "key a is not base64"),
        ("a=c2VjcmV0", "key a has 6 bytes"),
        (f"a={A64}\na={B64}", "line 2: key a comes twice"),
    ],
)
def test_faults_are_named_without_the_key(text: str, said: str) -> None:
    with pytest.raises(BadKeyring, match=said) as error:
        parse(text)
    assert "secret" not in str(error.value)
    assert "c2VjcmV0" not in str(error.value)


def test_another_key_can_come_first() -> None:
    assert list(first({"a": A, "b": B}, "b")) == ["b", "a"]


def test_ids_are_plain_and_new() -> None:
    assert key_id_fault("2026-01", ["a"]) == ""
    assert "already" in key_id_fault("a", ["a"])
    assert "match" in key_id_fault("a=b", [])
    assert "match" in key_id_fault("", [])

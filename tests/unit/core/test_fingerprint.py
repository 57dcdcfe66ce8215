"""What deaths have in common."""

from __future__ import annotations

import pytest

from engine.core.fingerprint import fingerprint, normalise

ALIKE = [
    ("user 17 not found", "user 4711 not found"),
    (
        "no row 6f1c2f0e-8a3b-4c1d-9e2f-0123456789ab",
        "no row 7A1C2F0E-8A3B-4C1D-9E2F-0123456789AB",
    ),
    ("bad key 'alice'", "bad key 'bob and others'"),
    ('bad key "alice"', 'bad key "bob"'),
    ("bad key `alice`", "bad key `b`"),
    ("can't find user 'alice'", "can't find user 'bob'"),
    ("object at 0x7f00aa", "object at 0x1"),
    ("digest deadbeef01", "digest 0badc0de99"),
    ("took 1.5 s", "took 22.25 s"),
    ("first line 1\nsecond line", "first line 2\nanother second line"),
]


@pytest.mark.parametrize(("one", "two"), ALIKE)
def test_numbers_ids_and_quotes_make_no_difference(one: str, two: str) -> None:
    assert fingerprint("t", "exhausted", "E", one) == fingerprint("t", "exhausted", "E", two)


def test_everything_else_does() -> None:
    base = ("t", "exhausted", "ValueError", "no such user")
    others = [
        ("u", *base[1:]),
        (base[0], "timeout", *base[2:]),
        (*base[:2], "KeyError", base[3]),
        (*base[:3], "no such door"),
    ]

    assert len({fingerprint(*parts) for parts in (base, *others)}) == 5


def test_words_are_not_taken_for_ids() -> None:
    assert normalise("feedback facade defaced") == "feedback facade defaced"


def test_a_fingerprint_has_twelve_digits_whatever_the_text() -> None:
    for text in ("", "x" * 10**6, "\ud800", "\x00", "é"):
        assert len(bytes.fromhex(fingerprint("t", "r", "k", text))) == 6

"""Texts are measured in segments as networks do, and shortened without breaking a character."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.rules.sms import GSM, GSM_EXTENSION, Segments, is_same_text, measure, shorten

FAMILY = "👩‍👩‍👧‍👦"


@pytest.mark.parametrize(
    ("text", "segments"),
    [
        ("", Segments("gsm-7", 0, 0)),
        ("a", Segments("gsm-7", 1, 1)),
        ("a" * 160, Segments("gsm-7", 160, 1)),
        ("a" * 161, Segments("gsm-7", 161, 2)),
        ("a" * 306, Segments("gsm-7", 306, 2)),
        ("a" * 307, Segments("gsm-7", 307, 3)),
        ("é" * 160, Segments("gsm-7", 160, 1)),
        ("€" * 80, Segments("gsm-7", 160, 1)),
        ("€" * 81, Segments("gsm-7", 162, 2)),
        # 153 is odd: a pair does not begin in the last place of a segment.
        ("€" * 152, Segments("gsm-7", 304, 2)),
        ("€" * 153, Segments("gsm-7", 306, 3)),
        ("a" * 152 + "€" + "a" * 152, Segments("gsm-7", 306, 3)),
        ("ж" * 70, Segments("ucs-2", 70, 1)),
        ("ж" * 71, Segments("ucs-2", 71, 2)),
        ("ж" * 134, Segments("ucs-2", 134, 2)),
        ("ж" * 135, Segments("ucs-2", 135, 3)),
        ("a" * 70 + "ж", Segments("ucs-2", 71, 2)),
        # The backtick and the c with cedilla in lower case are not in the alphabet.
        ("`", Segments("ucs-2", 1, 1)),
        ("ç", Segments("ucs-2", 1, 1)),
        ("😀" * 35, Segments("ucs-2", 70, 1)),
        ("😀" * 36, Segments("ucs-2", 72, 2)),
        # 67 is odd, too: 33 of them in each.
        ("😀" * 66, Segments("ucs-2", 132, 2)),
        ("😀" * 67, Segments("ucs-2", 134, 3)),
    ],
)
def test_a_text_takes_segments(text: str, segments: Segments) -> None:
    assert measure(text) == segments


def test_the_alphabet_has_all_its_places() -> None:
    """The 128 places hold 127 characters and the escape, which is none."""
    assert len(GSM) == 127
    assert len(GSM_EXTENSION) == 10
    assert not GSM & GSM_EXTENSION


def test_what_fits_stays_as_it_is() -> None:
    assert shorten("a" * 160, 1) == "a" * 160
    assert shorten("ж" * 134, 2) == "ж" * 134


def test_what_does_not_fit_keeps_its_beginning_and_a_mark() -> None:
    assert shorten("a" * 161, 1) == "a" * 157 + "..."
    assert shorten("ж" * 71, 1) == "ж" * 69 + "…"
    assert shorten("hello " * 40, 1) == ("hello " * 27)[:157].rstrip() + "..."


def test_a_beginning_in_the_small_alphabet_keeps_more() -> None:
    assert shorten("a" * 200 + "ж", 1) == "a" * 157 + "..."


def test_what_is_one_character_for_the_reader_is_not_broken() -> None:
    text = "a" * 60 + FAMILY * 10

    assert shorten(text, 1) == "a" * 60 + "..."
    assert shorten("ж" * 68 + "e\u0301e\u0301e\u0301", 1) == "ж" * 68 + "…"
    assert shorten("ж" * 60 + "🇩🇪🇫🇷🇮🇹", 1) == "ж" * 60 + "🇩🇪🇫🇷…"


@given(
    st.text(st.sampled_from("ab €{é\n"), max_size=700) | st.text(max_size=300),
    st.integers(1, 4),
)
def test_a_shortened_text_fits_and_is_a_beginning(text: str, segments_max: int) -> None:
    short = shorten(text, segments_max)

    assert measure(short).count <= segments_max
    kept = short.removesuffix("...") if short.endswith("...") else short.removesuffix("…")
    assert short == text or text.startswith(kept)


@given(st.text(st.sampled_from("ab€é"), min_size=320, max_size=700), st.integers(1, 2))
def test_a_shortened_text_wastes_no_room(text: str, segments_max: int) -> None:
    short = shorten(text, segments_max)
    kept = len(short) - 3

    assert measure(text[: kept + 1] + "...").count > segments_max


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("hello", "hello", True),
        ("“hello” – you…", '"hello" - you...', True),
        ("hello \n", "hello", True),
        ("😀", "😀", True),
        ("😀", "🙁", False),
        ("😀", "", False),
        ("hello", "hullo", False),
        ("code 123456", "code 123457", False),
    ],
)
def test_a_text_is_known_again(one: str, other: str, same: bool) -> None:
    assert is_same_text(one, other) is same

"""Text cut to fit, never within what a reader sees as one character."""

from __future__ import annotations

import pytest
import regex
from hypothesis import example, given
from hypothesis import strategies as st

from processors.rules.fitting import ELLIPSIS, boundaries, clean, fitted

FAMILY = "👨‍👩‍👧‍👦"
FLAG = "🇩🇪"
SCOTLAND = "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f"
PIECES = st.sampled_from(
    [
        "a", " ", "é", "e\u0301", FAMILY, FLAG, "🇫", "👍🏽", SCOTLAND, "❤️", "\r\n", "\r", "\n",
        "한", "\u1112\u1161\u11ab", "क्षि", "ก็", "நி", "\u200d", "\u0600", "漢", "\u200b", "\u0301",
    ]
)  # fmt: skip
TEXTS = st.lists(PIECES, max_size=12).map("".join) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=20
)


def weight(text: str) -> int:
    return len(text.encode())


@given(TEXTS)
@example(FLAG * 3)
@example("\r\n\r\n")
def test_a_text_is_cut_between_grapheme_clusters_alone(text: str) -> None:
    """Method: another implementation of the rules of Unicode says where clusters end."""
    ends = {found.end() for found in regex.finditer(r"\X", text)}

    assert set(boundaries(text)) <= ends


@pytest.mark.parametrize("text", ["plain words", "漢字かな", "Grüße, Jürgen!", FLAG * 2 + FAMILY])
def test_no_cluster_of_everyday_text_is_kept_together_with_the_next(text: str) -> None:
    assert boundaries(text) == [found.end() for found in regex.finditer(r"\X", text)]


@given(TEXTS, st.integers(0, 60))
def test_what_is_returned_fits_and_is_a_beginning(text: str, weight_max: int) -> None:
    found = fitted(text, weigh=weight, weight_max=weight_max)

    assert found is not None
    assert weight(found) <= weight_max
    assert found == text or text.startswith(found.removesuffix(ELLIPSIS))
    assert (found == text) == (weight(text) <= weight_max) or text == found


def test_as_much_is_kept_as_fits() -> None:
    assert fitted("one two three", weigh=weight, weight_max=11) == "one two…"
    assert fitted(FAMILY * 2, weigh=weight, weight_max=weight(FAMILY) + 3) == FAMILY + ELLIPSIS
    assert fitted(FAMILY, weigh=weight, weight_max=weight(FAMILY) - 1) == ""


def test_what_cannot_fit_is_told() -> None:
    assert fitted("long", weigh=lambda text: 100 + weight(text), weight_max=99) is None


def test_half_a_surrogate_pair_is_replaced() -> None:
    assert clean("a\ud83d") == "a?"
    assert clean("a👍") == "a👍"

"""What of a text goes into the search index."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.rules.search import (
    BY_LOCALE,
    SCRIPT_OF,
    SIMPLE,
    TERM_CHARS_MAX,
    TERMS_MAX,
    clean,
    distinct_terms,
    language,
    linked,
    runs,
    script_of,
    spaced,
    terms,
    trigram_text,
    truncated,
)
from processors.settings.search import Language

IN_USE = ("english", "german", "russian")
TEXTS = st.text(st.characters(codec="utf-8"), max_size=200)


@pytest.mark.parametrize(
    ("text", "locale", "chosen"),
    [
        ("the horses", "en", "english"),
        ("die Pferde", "de-CH", "german"),
        ("die Pferde", "de_AT", "german"),
        ("hevoset", "fi", SIMPLE),  # known, of this script, and not in use
        ("hello", "tlh", "english"),  # an unknown locale: the first one of the script
        ("hello", "", "english"),
        ("лошади", "en", "russian"),
        ("hello", "ru", "english"),
        ("άλογα", "en", SIMPLE),
        ("馬", "ja", SIMPLE),
        ("12:30!", "en", SIMPLE),
        ("", "en", SIMPLE),
        ("ok, лошади", "ru", "russian"),
    ],
)
def test_the_language_fits_author_and_script(text: str, locale: str, chosen: str) -> None:
    assert language(text, locale, IN_USE) == chosen


def test_all_languages_have_a_script_and_may_be_set() -> None:
    assert set(get_args(Language)) == set(SCRIPT_OF) == set(BY_LOCALE.values())


@pytest.mark.parametrize(
    ("text", "script"),
    [("abc", "latin"), ("Ünï", "latin"), ("שלום", "hebrew"), ("नमस्ते", "devanagari"), ("1!", "")],
)
def test_the_script_is_that_of_most_letters(text: str, script: str) -> None:
    assert script_of(text) == script


@given(st.text(max_size=50))
def test_a_clean_text_can_be_stored(text: str) -> None:
    assert "\x00" not in clean(text)
    clean(text).encode()


@given(TEXTS, st.integers(min_value=4, max_value=300))
def test_a_truncated_text_is_a_beginning_that_fits(text: str, bytes_max: int) -> None:
    short = truncated(text, bytes_max)

    assert text.startswith(short)
    assert len(short.encode()) <= bytes_max
    assert short == text or len(text.encode()) > bytes_max
    assert short == text or len(short.encode()) > bytes_max - 4 - 4 * 200


def test_texts_are_cut_between_words_where_one_ends_near() -> None:
    assert truncated("alpha beta gamma", 13) == "alpha beta"
    assert truncated("x" * 500, 300) == "x" * 300


def test_runs_of_scripts_without_spaces_are_kept_apart() -> None:
    text = "Meet 田中さん at 東京 or สวัสดี, 안녕하세요"

    assert runs(text) == ["田中さん", "東京", "สวัสดี", "안녕하세요"]
    assert spaced(text).split() == ["Meet", "at", "or", ","]
    assert trigram_text("hi 東京", "no", "北") == "q東q京q q北q"
    assert trigram_text("plain words") == ""


@given(st.text("東京都q ", max_size=8), st.text("東京都", min_size=1, max_size=4))
def test_a_run_is_in_a_trigram_text_exactly_where_it_is_in_the_text(text: str, run: str) -> None:
    assert (linked(run) in trigram_text(text)) == (run in text)


def test_half_width_letters_are_the_same_as_whole_ones() -> None:
    assert trigram_text("ｶﾀｶﾅ") == trigram_text("カタカナ")
    assert [term.text for term in terms("ｶﾞｷﾞ", SIMPLE)] == ["ガギ"]


def test_terms_are_stems_without_case_and_accents() -> None:
    found = terms("Horses' CAFÉ, naïve_foo don't", "english")

    assert [term.text for term in found] == ["hors", "cafe", "naiv", "foo", "don", "t"]
    assert found[1].start == 8
    assert found[1].end == 12


def test_the_marks_of_other_scripts_belong_to_their_words() -> None:
    assert [term.text for term in terms("हिन्दी भाषा", SIMPLE)] == ["हिन्दी", "भाषा"]


def test_runs_become_pairs_of_characters() -> None:
    assert [tuple(term) for term in terms("a東京都 b北", SIMPLE)] == [
        ("a", 0, 1), ("東京", 1, 3), ("京都", 2, 4), ("b", 5, 6), ("北", 6, 7),
    ]  # fmt: skip


@given(TEXTS, st.sampled_from(["english", "russian", SIMPLE]))
def test_terms_lie_in_order_within_the_text(text: str, chosen: str) -> None:
    last = 0
    for term in terms(text, chosen):
        assert last <= term.start < term.end <= len(text)
        assert term.text
        last = term.start


def test_a_message_has_a_bounded_number_of_terms() -> None:
    many = distinct_terms(" ".join(f"w{number}" for number in range(TERMS_MAX + 10)), SIMPLE)

    assert len(many) == TERMS_MAX
    assert many == sorted(many)
    assert distinct_terms("b a b", SIMPLE) == ["a", "b"]
    assert len(distinct_terms("x" * 1_000, SIMPLE)[0]) == TERM_CHARS_MAX

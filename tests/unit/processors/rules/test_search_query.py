"""What a search asks for, and whether a text answers it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.rules.search_query import (
    CLAUSES_MAX,
    EXCERPT_CHARS,
    HIT_BEGIN,
    HIT_END,
    PARTS_MAX,
    QUERY_CHARS_MAX,
    Branch,
    Piece,
    branches,
    excerpt,
    headline,
    hits,
    parse,
    query_fault,
    sought,
)

WRITTEN = st.text('ab "-東 or\t', max_size=30)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("redis streams", "redis streams"),
        ('redis "in a row" -not', 'redis "in a row" -not'),
        ("a OR b c", "a or b c"),
        ('-"not these" yes', '-"not these" yes'),
        ('"open quote', '"open quote"'),
        ('"or" a', '"or" a'),
        ("a or -b", "a"),  # an alternative that only excludes would find all else
        ("--b a", "-b a"),
        ("C++ -", "C++"),
        ("mail@example.org", "mail@example.org"),
        ("nul\x00byte \ud800", "nul byte"),
    ],
)
def test_words_are_handed_on_as_they_mean(text: str, words: str) -> None:
    assert branches(parse(text)) == [Branch(words, [], [])]


@pytest.mark.parametrize("text", ["", " ", "-a", '"', "or", "or or", "!?", "-東", '-"a b" or -c'])
def test_what_asks_for_nothing_finds_nothing(text: str) -> None:
    assert parse(text).clauses == ()
    assert branches(parse(text)) == []


def test_runs_are_looked_for_by_themselves() -> None:
    assert branches(parse("東京 redis -京都")) == [Branch("redis", ["q東q京q"], ["q京q都q"])]
    assert branches(parse("a or b or 東 or c -京")) == [
        Branch("a or b", [], []),
        Branch("", ["q東q"], []),
        Branch("c", [], ["q京q"]),
    ]
    assert branches(parse("foo東bar")) == [Branch('"foo bar"', ["q東q"], [])]


@given(st.text(max_size=60) | WRITTEN)
def test_whatever_is_written_can_be_looked_for(text: str) -> None:
    query = parse(text)
    for branch in branches(query):
        assert branch.words or branch.runs
        assert "\x00" not in branch.words
        assert not any(set("%_\\") & set(run) for run in (*branch.runs, *branch.never))
    assert hits(query, text, "english") is None or query.clauses


def test_queries_are_bounded() -> None:
    assert query_fault("a b") == ""
    assert query_fault("x" * QUERY_CHARS_MAX) == ""
    assert f"at most {QUERY_CHARS_MAX}" in query_fault("x" * (QUERY_CHARS_MAX + 1))
    assert f"at most {PARTS_MAX}" in query_fault("x " * (PARTS_MAX + 1))
    assert f"at most {CLAUSES_MAX}" in query_fault("x or " * CLAUSES_MAX + "x")


@pytest.mark.parametrize(
    ("query", "text", "found"),
    [
        ("horse", "The HORSES!", ["HORSES"]),
        ("big horse", "a horse that is big", ["horse", "big"]),
        ('"big horse"', "big big horses", ["big", "horses"]),
        ('"big horse"', "a horse that is big", None),
        ("horse -big", "a big horse", None),
        ('horse -"big house"', "a big horse", ["horse"]),
        ("cow or horse", "a horse", ["horse"]),
        ("cow or -horse", "a horse", None),
        ("foo-bar", "foo bar, bar foo", ["foo", "bar"]),
        ("東京", "は東京都", ["東京"]),
        ("東京都", "は東京都", ["東京", "京都"]),
        ("東都", "は東京都", None),
        ("北", "北 x", ["北"]),
    ],
)
def test_a_text_answers_or_not(query: str, text: str, found: list[str] | None) -> None:
    places = hits(parse(query), text, "english")

    assert (None if places is None else [text[each.start : each.end] for each in places]) == found


def test_terms_to_look_for_leave_out_what_must_not_be_there() -> None:
    (clause,) = parse('horses "big horses" -cow 東京都').clauses

    assert sought(clause, "english") == ["hors", "big", "東京", "京都"]


def test_an_excerpt_marks_hits_and_stays_short() -> None:
    text = "word " * 100 + "the horse ran " + "word " * 100
    places = hits(parse("horse"), text, "english")
    assert places is not None

    pieces = excerpt(text, places)

    assert [piece.text for piece in pieces if piece.is_hit] == ["horse"]
    assert pieces[0] == Piece("… ", is_hit=False)
    assert pieces[-1].text.endswith(" …")
    assert len("".join(piece.text for piece in pieces)) <= EXCERPT_CHARS + 4


@given(st.text("ab 東京", max_size=400), st.sampled_from(["a", "b 東京", "東京東"]))
def test_an_excerpt_is_a_stretch_of_the_text(text: str, query: str) -> None:
    places = hits(parse(query), text, "simple") or []

    shown = "".join(piece.text for piece in excerpt(text, places))

    assert shown.removeprefix("… ").removesuffix(" …") in text


def test_headlines_come_apart_at_their_marks() -> None:
    marked = f"a {HIT_BEGIN}b{HIT_END} c {HIT_BEGIN}d{HIT_END}"

    assert headline(marked) == [
        Piece("a ", is_hit=False), Piece("b", is_hit=True),
        Piece(" c ", is_hit=False), Piece("d", is_hit=True),
    ]  # fmt: skip
    assert headline("a\x04b") == [Piece("a<b", is_hit=False)]
    assert headline("") == []

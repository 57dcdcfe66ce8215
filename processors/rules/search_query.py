"""
What a search asks for, and whether a text answers it. Pure.

The syntax is that of web search engines, as ``websearch_to_tsquery`` has it: words that must all be
there, ``"words in a row"``, ``-without`` and ``or``, which parts alternatives. Whatever is written
has a meaning. An alternative that only says what must not be there is left out: it would find all
else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from processors.rules.search import Term, clean, linked, runs, spaced, terms

QUERY_CHARS_MAX: Final = 500
PARTS_MAX: Final = 32
CLAUSES_MAX: Final = 8

EXCERPT_CHARS: Final = 240
EXCERPT_BEFORE: Final = 60
"""How much of an excerpt stands before the first hit."""

HIT_BEGIN: Final = "\x02"
HIT_END: Final = "\x03"
LESS: Final = "\x04"
"""What marks hits in a headline of PostgreSQL, and stands for ``<``, which it takes for a tag."""

_PARTS: Final = re.compile(r'(?P<minus>-*)(?:"(?P<quoted>[^"]*)"?|(?P<bare>[^\s"]+))')
_WORD: Final = re.compile(r"\w")


class Part(NamedTuple):
    """
    A word, or words in a row.

    Attributes:
        text: As it was written, without quotes.
        is_excluded: It must not be there.
        is_quoted: Its words follow each other.
    """

    text: str
    is_excluded: bool
    is_quoted: bool


@dataclass(frozen=True, slots=True)
class Clause:
    """
    One alternative of a query: all of its parts hold.

    Attributes:
        parts: What it asks for.
    """

    parts: tuple[Part, ...]

    @property
    def words(self) -> str:
        """Its words between spaces, for ``websearch_to_tsquery``; empty if there are none."""
        return " ".join(filter(None, map(_websearch, self.parts)))

    @property
    def runs(self) -> list[str]:
        """What a trigram text must hold: runs of scripts without spaces, the longest first."""
        return _linked_runs(part for part in self.parts if not part.is_excluded)

    @property
    def runs_excluded(self) -> list[str]:
        """What a trigram text must not hold."""
        return _linked_runs(part for part in self.parts if part.is_excluded)


@dataclass(frozen=True, slots=True)
class Query:
    """
    What a search asks for.

    Attributes:
        clauses: Alternatives; with none of them nothing is found.
    """

    clauses: tuple[Clause, ...]


class Branch(NamedTuple):
    """
    Alternatives that one statement looks for.

    Attributes:
        words: For ``websearch_to_tsquery``.
        runs: What the trigram text must hold, the longest first; words alone need none.
        never: What it must not hold.
    """

    words: str
    runs: list[str]
    never: list[str]


class Piece(NamedTuple):
    """
    A stretch of an excerpt.

    Attributes:
        text: The stretch.
        is_hit: Whether it is what was searched for.
    """

    text: str
    is_hit: bool


def query_fault(text: str) -> str:
    """Say why a query is not taken, or return an empty string."""
    if len(text) > QUERY_CHARS_MAX:
        return f"the query has {len(text)} characters, at most {QUERY_CHARS_MAX} are allowed"
    parts = len(_PARTS.findall(text))
    if parts > PARTS_MAX:
        return f"the query has {parts} parts, at most {PARTS_MAX} are allowed"
    clauses = len(_clauses(text))
    if clauses > CLAUSES_MAX:
        return f"the query has {clauses} alternatives, at most {CLAUSES_MAX} are allowed"
    return ""


def parse(text: str) -> Query:
    """Read a query; whatever is written has a meaning, if only that nothing is found."""
    clauses = (Clause(tuple(parts)) for parts in _clauses(clean(text)))
    return Query(
        tuple(
            clause
            for clause in clauses
            if any(not part.is_excluded and _is_visible(part) for part in clause.parts)
        )
    )


def branches(query: Query) -> list[Branch]:
    """Put alternatives of words alone together; each with runs is a branch of its own."""
    apart = [
        Branch(clause.words, clause.runs, clause.runs_excluded)
        for clause in query.clauses
        if clause.runs or clause.runs_excluded
    ]
    alone = [
        clause.words for clause in query.clauses if not clause.runs and not clause.runs_excluded
    ]
    return ([Branch(" or ".join(alone), [], [])] if alone else []) + apart


def sought(clause: Clause, language: str) -> list[str]:
    """Return the terms that a text in that language must have for a clause, without repeats."""
    wanted = (
        term.text
        for part in clause.parts
        if not part.is_excluded
        for term in terms(part.text, language)
    )
    return list(dict.fromkeys(wanted))


def hits(query: Query, text: str, language: str) -> list[Term] | None:
    """
    Look for what a query asks for.

    Args:
        query: The query.
        text: The text.
        language: The text's.

    Returns:
        The places of what was found, in their order; None where the text is no answer.
    """
    there = terms(text, language)
    found: dict[Term, None] = {}
    is_answer = False
    for clause in query.clauses:
        places = _answers(clause, there, language)
        if places is not None:
            is_answer = True
            found.update(dict.fromkeys(places))
    return sorted(found, key=lambda term: term.start) if is_answer else None


def excerpt(text: str, places: Sequence[Term]) -> list[Piece]:
    """Cut a text around its first hit and mark all hits in that stretch."""
    begin = max(0, places[0].start - EXCERPT_BEFORE) if places else 0
    if begin:
        space = text.find(" ", begin, places[0].start)
        begin = space + 1 if space >= 0 else begin
    end = min(len(text), begin + EXCERPT_CHARS)
    pieces = [Piece("… ", is_hit=False)] if begin else []
    at = begin
    for start, stop in _merged(places):
        if start >= end:
            break
        if stop <= at:
            continue
        pieces += [
            Piece(text[at : max(at, start)], is_hit=False),
            Piece(text[max(at, start) : min(stop, end)], is_hit=True),
        ]
        at = min(stop, end)
    pieces.append(Piece(text[at:end] + (" …" if end < len(text) else ""), is_hit=False))
    return [piece for piece in pieces if piece.text]


def headline(marked: str) -> list[Piece]:
    """Take a headline apart that carries the marks of hits."""
    pieces: list[Piece] = []
    for stretch in marked.replace(LESS, "<").split(HIT_BEGIN):
        inside, end, after = stretch.partition(HIT_END)
        pieces += [Piece(inside, is_hit=bool(end)), Piece(after, is_hit=False)]
    return [piece for piece in pieces if piece.text]


def _clauses(text: str) -> list[list[Part]]:
    found: list[list[Part]] = [[]]
    for match in _PARTS.finditer(text):
        quoted, bare = match["quoted"], match["bare"]
        if quoted is None and bare.lower() == "or" and not match["minus"]:
            found.append([])
        else:
            part = Part(quoted or bare or "", bool(match["minus"]), is_quoted=quoted is not None)
            found[-1].append(part)
    return [parts for parts in found if parts]


def _is_visible(part: Part) -> bool:
    return bool(_WORD.search(part.text))


def _websearch(part: Part) -> str:
    words = spaced(part.text).replace('"', " ").strip()
    if not _WORD.search(words):
        return ""
    whole = words if not part.is_quoted and len(words.split()) == 1 else f'"{words}"'
    return f"-{whole}" if part.is_excluded else whole


def _linked_runs(parts: Iterable[Part]) -> list[str]:
    found = {linked(run) for part in parts for run in runs(part.text)}
    return sorted(found, key=lambda run: (-len(run), run))


def _answers(clause: Clause, there: Sequence[Term], language: str) -> list[Term] | None:
    """Return where a clause's parts are, or None where one is missing or one too many there."""
    places: list[Term] = []
    for part in clause.parts:
        wanted = [term.text for term in terms(part.text, language)]
        if not wanted:
            continue
        found = _in_a_row(wanted, there)
        if bool(found) == part.is_excluded:
            return None
        places += found
    return places


def _in_a_row(wanted: Sequence[str], there: Sequence[Term]) -> list[Term]:
    first, size = wanted[0], len(wanted)
    return [
        term
        for place, begin in enumerate(there)
        if begin.text == first
        and [term.text for term in there[place : place + size]] == list(wanted)
        for term in there[place : place + size]
    ]


def _merged(places: Sequence[Term]) -> list[tuple[int, int]]:
    """Put places together that overlap, as pairs of characters do."""
    merged: list[tuple[int, int]] = []
    for place in places:
        if merged and place.start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], place.end))
        else:
            merged.append((place.start, place.end))
    return merged

"""
What of a text goes into the search index: languages, scripts without spaces, terms. Pure.

PostgreSQL finds words between spaces. Runs of scripts that are written without them, of Chinese,
Japanese, Korean, Thai and others, are taken out of a text and kept beside it in a form of which
trigrams are made; see :func:`trigram_text`. For encrypted conversations words are cut into terms
here, since PostgreSQL must not see them; see :func:`terms`.
"""

from __future__ import annotations

import functools
import re
import sys
import threading
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

TEXT_BYTES_MAX: Final = 200_000
"""
Most of a text that is indexed, in bytes of UTF-8.

A tsvector holds 1,048,575 bytes. One byte of text takes at most about four there, since hyphenated
words and addresses are kept whole and in parts.
"""
CONTEXT_CHARS_MAX: Final = 500
"""Most of a name or title that is indexed."""

TERM_CHARS_MAX: Final = 64
TERMS_MAX: Final = 5_000
"""Most different terms of one message in a blind index."""

SIMPLE: Final = "simple"
"""The configuration that knows no language: words as they are, in small letters."""

LATIN: Final = "latin"
_LATIN_LANGUAGES: Final = {
    "ca": "catalan", "da": "danish", "nl": "dutch", "en": "english", "eu": "basque",
    "fi": "finnish", "fr": "french", "de": "german", "hu": "hungarian", "id": "indonesian",
    "ga": "irish", "it": "italian", "lt": "lithuanian", "nb": "norwegian", "nn": "norwegian",
    "no": "norwegian", "pt": "portuguese", "ro": "romanian", "es": "spanish", "sv": "swedish",
    "tr": "turkish",
}  # fmt: skip
_OTHER_LANGUAGES: Final = {
    "ar": ("arabic", "arabic"),
    "hy": ("armenian", "armenian"),
    "el": ("greek", "greek"),
    "hi": ("hindi", "devanagari"),
    "ne": ("nepali", "devanagari"),
    "ru": ("russian", "cyrillic"),
    "sr": ("serbian", "cyrillic"),
    "ta": ("tamil", "tamil"),
    "yi": ("yiddish", "hebrew"),
}
BY_LOCALE: Final[dict[str, str]] = {
    **_LATIN_LANGUAGES,
    **{code: language for code, (language, _) in _OTHER_LANGUAGES.items()},
}
"""Text search configurations of PostgreSQL 15 by the language of a locale."""

SCRIPT_OF: Final[dict[str, str]] = {
    **dict.fromkeys(_LATIN_LANGUAGES.values(), LATIN),
    **dict(_OTHER_LANGUAGES.values()),
}
_SCRIPTS: Final = {
    LATIN: "A-Za-z\u00aa\u00ba\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u1e00-\u1eff",
    "cyrillic": "\u0400-\u052f\u1c80-\u1c8f\u2de0-\u2dff\ua640-\ua69f",
    "greek": "\u0370-\u03ff\u1f00-\u1fff",
    "arabic": "\u0600-\u06ff\u0750-\u077f\u08a0-\u08ff\ufb50-\ufdff\ufe70-\ufeff",
    "hebrew": "\u0590-\u05ff\ufb1d-\ufb4f",
    "armenian": "\u0530-\u058f",
    "devanagari": "\u0900-\u097f\ua8e0-\ua8ff",
    "tamil": "\u0b80-\u0bff",
}
_LETTERS: Final = {name: re.compile(f"[{letters}]+") for name, letters in _SCRIPTS.items()}

_UNSPACED: Final = (
    "\u0e00-\u0eff"  # Thai, Lao
    "\u0f00-\u0fff\u1000-\u109f\ua9e0-\ua9ff\uaa60-\uaa7f"  # Tibetan, Myanmar
    "\u1780-\u17ff\u1950-\u19ff\u1a20-\u1aaf\u1b00-\u1b7f\ua980-\ua9df"  # Khmer, Tai, Bali, Java
    "\u1100-\u11ff\u3130-\u318f\ua960-\ua97f\uac00-\ud7ff"  # Hangul: its particles follow unspaced
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3031-\u3035\u303b\u303c"
    "\u3041-\u3096\u3099-\u309f\u30a1-\u30fa\u30fc-\u30ff"  # Hiragana, Katakana
    "\u3105-\u312f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"  # Bopomofo, Han
    "\ua000-\ua4cf\uf900-\ufaff\uff66-\uffdc\U00020000-\U0003ffff"
)
_RUNS: Final = re.compile(f"[{_UNSPACED}]+")
_ACCENTS: Final = re.compile("[\u0300-\u036f]")
_SURROGATES: Final = re.compile("[\ud800-\udfff]")
_LINK: Final = "q"
"""Stands between the characters of a run, so that each pair, and each alone, makes a trigram."""


class Term(NamedTuple):
    """
    One term of a text.

    Attributes:
        text: The normalised stem, or a pair of characters of a script without spaces.
        start: Where it begins in the text.
        end: Where it ends.
    """

    text: str
    start: int
    end: int


def clean(text: str) -> str:
    """Replace what PostgreSQL cannot hold: NUL and halves of surrogate pairs."""
    return _SURROGATES.sub("\ufffd", text.replace("\x00", " "))


def truncated(text: str, bytes_max: int = TEXT_BYTES_MAX) -> str:
    """Cut a text to some bytes of UTF-8, at a space where one is near."""
    if len(text) * 4 <= bytes_max:
        return text
    data = text.encode()
    if len(data) <= bytes_max:
        return text
    short = data[:bytes_max].decode(errors="ignore")
    place = max(short.rfind(" "), short.rfind("\n"))
    return short[:place] if place > len(short) - 200 else short


def language(text: str, locale: str, languages: Sequence[str]) -> str:
    """
    Choose the configuration by which a text is indexed.

    Args:
        text: The text; its script must fit the language.
        locale: The author's, such as ``de-CH``.
        languages: Those that are in use. The first one of the text's script is taken where the
            author's language does not fit.
    """
    script = script_of(text)
    own = BY_LOCALE.get(locale.replace("_", "-").partition("-")[0].lower(), SIMPLE)
    if SCRIPT_OF.get(own) == script:
        return own if own in languages else SIMPLE
    return next((each for each in languages if SCRIPT_OF.get(each) == script), SIMPLE)


def script_of(text: str) -> str:
    """Name the script that most letters of a text belong to; empty where none is known."""
    if text.isascii():
        return LATIN if _LETTERS[LATIN].search(text) else ""
    counts = {
        name: sum(len(found) for found in pattern.findall(text))
        for name, pattern in _LETTERS.items()
    }
    most = max(counts, key=lambda name: counts[name])
    return most if counts[most] else ""


def runs(text: str) -> list[str]:
    """Return the runs of scripts without spaces, normalised."""
    return [] if text.isascii() else _RUNS.findall(_folded(text))


def spaced(text: str) -> str:
    """Return a text without the runs of scripts without spaces."""
    return text if text.isascii() else _RUNS.sub(" ", text)


def trigram_text(*texts: str) -> str:
    """
    Bring the runs of texts into the form that is kept for trigrams; empty where there are none.

    Each character stands between two links: ``東京`` becomes ``q東q京q``. So a trigram index finds
    words of one and two characters too, which are the most common ones.
    """
    return " ".join(linked(run) for text in texts for run in runs(text))


def linked(run: str) -> str:
    """Put links around the characters of a run."""
    return f"{_LINK}{_LINK.join(run)}{_LINK}"


def terms(text: str, language: str) -> list[Term]:
    """
    Cut a text into terms, in their order.

    Words are folded, stemmed and freed of accents. A run of a script without spaces becomes pairs
    of neighbouring characters; a run of one character is a term of its own.
    """
    found: list[Term] = []
    for token in _words().finditer(text):
        if _RUNS.match(token[0]):
            found.extend(_pairs(token[0], token.start()))
        else:
            word = _stemmed(language, token[0][:TERM_CHARS_MAX])
            if word:
                found.append(Term(word, token.start(), token.end()))
    return found


def distinct_terms(text: str, language: str) -> list[str]:
    """Return a text's different terms, as many as one message may have, sorted."""
    seen = dict.fromkeys(term.text for term in terms(text, language))
    return sorted(list(seen)[:TERMS_MAX])


def _pairs(run: str, start: int) -> Iterator[Term]:
    folded = _folded(run)
    end = start + len(run)
    if len(folded) == 1:
        yield Term(folded, start, end)
    for place in range(len(folded) - 1):
        if len(folded) == len(run):
            yield Term(folded[place : place + 2], start + place, start + place + 2)
        else:
            # Characters were put together, so places within the run are lost.
            yield Term(folded[place : place + 2], start, end)


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


@functools.lru_cache(maxsize=16_384)
def _stemmed(language: str, word: str) -> str:
    stemmer = _stemmer(language)
    folded = _folded(word)
    stem = folded if stemmer is None else stemmer.stemWord(folded)
    return _ACCENTS.sub("", unicodedata.normalize("NFD", stem)) or stem


class _Stemmers(threading.local):
    """A stemmer holds the word at work, so each thread has its own."""

    def __init__(self) -> None:
        self.known: dict[str, Any] = {}


_stemmers = _Stemmers()


def _stemmer(language: str) -> Any:
    if language == SIMPLE:
        return None
    if language not in _stemmers.known:
        import snowballstemmer

        _stemmers.known[language] = snowballstemmer.stemmer(language)
    return _stemmers.known[language]


@functools.cache
def _words() -> re.Pattern[str]:
    r"""A word, with the marks that ``\w`` leaves out, or a run of a script without spaces."""
    marks = "".join(
        chr(code)
        for code in range(0x300, min(0x20000, sys.maxunicode))
        if unicodedata.category(chr(code)) in {"Mn", "Mc"}
    )
    return re.compile(rf"[{_UNSPACED}]+|(?:(?![{_UNSPACED}_])[\w{marks}])+")

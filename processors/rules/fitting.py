"""Bring text into a provider's bounds without breaking what a reader sees as one character."""

from __future__ import annotations

import bisect
import unicodedata
from collections.abc import Callable
from typing import Final

ELLIPSIS: Final = "…"
HANGUL_PARTS: Final = ("\u1100", "\u11ff")
HANGUL_MORE: Final = (("\ua960", "\ua97c"), ("\ud7b0", "\ud7fb"))
SKIN_TONES: Final = ("\U0001f3fb", "\U0001f3ff")
FLAGS: Final = ("\U0001f1e6", "\U0001f1ff")
INDIC: Final = (("\u0900", "\u1fff"), ("\ua800", "\uabff"), ("\U00010a00", "\U00011fff"))
TRAILING: Final = frozenset("\u0e33\u0eb3")
LEADING: Final = frozenset(
    "\u0d4e\u1cf5\u1cf6\U000111c2\U000111c3\U000113d1\U0001193f\U00011941\U00011a3a\U00011a84\U00011a85"
    "\U00011a86\U00011a87\U00011a88\U00011a89\U00011d46\U00011f02"
)
VIRAMA: Final = 9
"""The combining class of signs that bind the next consonant to this one."""


def clean(text: str) -> str:
    """Replace what no encoding can carry: halves of surrogate pairs."""
    return text.encode("utf-8", "replace").decode()


def boundaries(text: str) -> list[int]:
    """
    List where a text may be cut, its end included, so that no reader sees half a character.

    Each is a boundary between grapheme clusters of Unicode (UAX 29). Not every one is listed: where
    a rule needs tables that Python has not got, the text is kept together.
    """
    places: list[int] = []
    flags = 0
    for place in range(1, len(text)):
        before, after = text[place - 1], text[place]
        # Flags are pairs of letters, counted from where their run begins.
        flags = flags + 1 if _within(before, FLAGS) else 0
        if not _bound(before, after, flags):
            places.append(place)
    return [*places, len(text)] if text else []


def fitted(text: str, *, weigh: Callable[[str], int], weight_max: int) -> str | None:
    """
    Shorten a text until it fits, with an ellipsis at its end.

    Args:
        text: The text.
        weigh: The weight of all with this text; never less for a longer one.
        weight_max: What it may weigh.

    Returns:
        The text itself where it fits, the longest beginning that does, or None where not even
        the empty text fits.
    """
    if weigh(text) <= weight_max:
        return text
    places = boundaries(text)[:-1]
    fitting = bisect.bisect_right(
        places, weight_max, key=lambda place: weigh(text[:place].rstrip() + ELLIPSIS)
    )
    if fitting:
        return text[: places[fitting - 1]].rstrip() + ELLIPSIS
    return "" if weigh("") <= weight_max else None


def _bound(before: str, after: str, flags: int) -> bool:
    """Say whether two neighbours belong together; ``flags`` counts flag letters up to here."""
    if before == "\r":
        return after == "\n"
    if _is_control(before) or _is_control(after):
        return False
    return (
        unicodedata.category(after).startswith("M")
        or _within(after, SKIN_TONES)
        or unicodedata.combining(before) == VIRAMA
        or (unicodedata.combining(before) > 0 and any(_within(after, span) for span in INDIC))
        or (flags % 2 == 1 and _within(after, FLAGS))
        or (_is_hangul(before) and _is_hangul_part(after))
        or (_is_hangul_part(before) and _is_hangul(after))
        or after in TRAILING
        or before in LEADING
        # Joiners, tags and the like; and what a newer Unicode may have made of a free place.
        or unicodedata.category(after) in {"Cf", "Cn", "Lm"}
        or unicodedata.category(before) in {"Cf", "Cn"}
    )


def _is_control(char: str) -> bool:
    return unicodedata.category(char) in {"Cc", "Zl", "Zp"}


def _is_hangul(char: str) -> bool:
    return "\uac00" <= char <= "\ud7a3" or _is_hangul_part(char)


def _is_hangul_part(char: str) -> bool:
    return _within(char, HANGUL_PARTS) or any(_within(char, span) for span in HANGUL_MORE)


def _within(char: str, span: tuple[str, str]) -> bool:
    return span[0] <= char <= span[1]

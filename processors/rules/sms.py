"""
Texts in segments: what a text costs, and how one that costs too much is shortened (3GPP TS 23.038).

A text whose characters are all in the GSM 7-bit alphabet has 160 of them in one segment, else 153
in each; those of its extension table cost two, and such a pair is not cut apart. One character
outside of it turns the whole text into UCS-2: 70 units in one segment, else 67 in each, where a
character beyond the basic plane costs two, which are not cut apart either.
"""

from __future__ import annotations

import bisect
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from processors.rules.fitting import boundaries

GSM: Final = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
GSM_EXTENSION: Final = frozenset("\f^{}\\[~]|€")

ALONE: Final = {"gsm-7": 160, "ucs-2": 70}
JOINED: Final = {"gsm-7": 153, "ucs-2": 67}
"""Units of one segment where the text has one, and where it has several."""

MARKS: Final = {"gsm-7": "...", "ucs-2": "…"}
"""What stands for the rest of a shortened text."""


@dataclass(frozen=True, slots=True)
class Segments:
    """
    What a text costs.

    Attributes:
        encoding: The alphabet of all its segments.
        units: Septets, or units of 16 bits.
        count: How many segments are sent and paid for; 0 for an empty text.
    """

    encoding: Literal["gsm-7", "ucs-2"]
    units: int
    count: int


def measure(text: str) -> Segments:
    """Say how many segments a text takes."""
    encoding = encoding_of(text)
    costs = [cost(char, encoding) for char in text]
    units = sum(costs)
    if units <= ALONE[encoding]:
        return Segments(encoding, units, min(1, units))
    return Segments(encoding, units, _filled(costs, JOINED[encoding]))


def encoding_of(text: str) -> Literal["gsm-7", "ucs-2"]:
    """Say in which alphabet a text is sent."""
    return "gsm-7" if all(char in GSM or char in GSM_EXTENSION for char in text) else "ucs-2"


def cost(char: str, encoding: str) -> int:
    """Say how many units one character takes."""
    if encoding == "gsm-7":
        return 2 if char in GSM_EXTENSION else 1
    return 2 if ord(char) > 0xFFFF else 1


def shorten(text: str, segments_max: int) -> str:
    """
    Return a text that takes at most so many segments: this one, or its beginning and a mark.

    What is seen as one character is kept or left out as a whole. The beginning may do with the
    GSM alphabet where the whole does not, and then keeps more.
    """
    assert segments_max >= 1
    if measure(text).count <= segments_max:
        return text
    places = [0, *boundaries(text)[:-1]]
    # A longer beginning never takes fewer segments, so halving finds the longest that fits.
    fitting = bisect.bisect_right(
        places, segments_max, key=lambda place: measure(_with_mark(text[:place])).count
    )
    return _with_mark(text[: places[fitting - 1]])


def _with_mark(beginning: str) -> str:
    kept = beginning.rstrip()
    return kept + MARKS[encoding_of(kept)]


def _filled(costs: Iterable[int], size: int) -> int:
    """Count the segments of one size that characters fill, none of them cut apart."""
    count, room = 0, 0
    for each in costs:
        if each > room:
            count, room = count + 1, size
        room -= each
    return count


def is_same_text(one: str, other: str) -> bool:
    """
    Say whether two texts are the same up to what providers change on the way.

    Some replace typographic quotes and dashes to save segments, or cut white space. So letters and
    digits are compared, and all characters where there are none.
    """
    return one == other or (bool(_letters(one)) and _letters(one) == _letters(other))


def _letters(text: str) -> str:
    return "".join(char for char in unicodedata.normalize("NFKD", text) if char.isalnum())

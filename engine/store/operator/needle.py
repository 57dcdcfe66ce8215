"""Text that is looked for within jobs, as their bytes may spell it. Pure."""

from __future__ import annotations

import re

_PLAIN = re.compile(r"[^\x00-\x1f\x7f-\U0010ffff\"\\/<>&'+]*")
"""Characters that every writer of JSON leaves as they are."""

_ESCAPED = re.compile(r'\\(?:u([0-9a-fA-F]{4})|(["\\/bfnrt]))')
_SHORT = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


class Needle:
    """
    A text that is looked for, whatever its case.

    Args:
        text: The text; the empty one is everywhere.

    Attributes:
        folded: Its bytes in lower case.
        is_plain: Whether JSON spells it as it is, so that it need not be looked for in other forms.
    """

    def __init__(self, text: str) -> None:
        self.folded = text.lower().encode("utf-8", "replace")
        self.is_plain = _PLAIN.fullmatch(text) is not None

    def within(self, hay: bytes) -> bool:
        """Tell whether it stands within text or JSON."""
        if self.folded in hay.lower():
            return True
        return not self.is_plain and self.folded in _spelled_out(hay)


def is_plain(text: str) -> bool:
    """Tell whether JSON spells a text as it is."""
    return _PLAIN.fullmatch(text) is not None


def _spelled_out(hay: bytes) -> bytes:
    """Undo the escapes of JSON, and turn all letters to lower case, not those of ASCII alone."""
    text = hay.decode("utf-8", "replace")
    if "\\" in text:
        # Characters beyond U+FFFF are escaped as two halves.
        halves = _ESCAPED.sub(_character, text).encode("utf-16-le", "surrogatepass")
        text = halves.decode("utf-16-le", "replace")
    return text.lower().encode()


def _character(found: re.Match[str]) -> str:
    code, short = found.groups()
    return chr(int(code, 16)) if code else _SHORT.get(short, short)

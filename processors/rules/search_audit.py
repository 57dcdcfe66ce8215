"""What is wrong with a message's entries in the search index. Pure."""

from __future__ import annotations

import enum
from collections.abc import Container
from typing import Protocol


class Entry(Protocol):
    """
    What an index has of a message.

    Attributes:
        version: The version that was indexed.
        language: The language by which it was.
    """

    @property
    def version(self) -> int: ...
    @property
    def language(self) -> str: ...


class Found(enum.Enum):
    """What an audit finds; see :class:`schemas.messages.AuditResult`."""

    MISSING = "missing"
    STALE = "stale"
    SUPERFLUOUS = "superfluous"
    MISPLACED = "misplaced"


def judge(
    mode: str,
    version: int,
    *,
    is_plain: bool,
    text: Entry | None,
    blind: Entry | None,
    languages: Container[str],
) -> Found | None:
    """
    Judge the entries of one message.

    Args:
        mode: How its conversation is searched now: text, blind, none; none for deleted messages.
        version: Its version.
        is_plain: Its text is not encrypted.
        text: Its entry of plain words.
        blind: Its entry of keyed hashes.
        languages: Languages in use.

    Returns:
        What is wrong, the worst first; None where all is well.
    """
    is_text = mode == "text" and is_plain
    right, wrong = (text, blind) if is_text else (blind, text)
    if not is_text and mode != "blind":
        return Found.SUPERFLUOUS if text is not None or blind is not None else None
    if wrong is not None:
        return Found.MISPLACED
    if right is None:
        return Found.MISSING
    is_present = right.version == version and right.language in languages
    return None if is_present else Found.STALE

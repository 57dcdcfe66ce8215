"""What an audit finds."""

from __future__ import annotations

import pytest

from processors.rules.search_audit import Found, judge
from processors.services.search_index import Entry

NOW = Entry(2, "english")
OLD = Entry(1, "english")
ODD = Entry(2, "klingon")


@pytest.mark.parametrize(
    ("mode", "is_plain", "text", "blind", "found"),
    [
        ("text", True, NOW, None, None),
        ("text", True, None, None, Found.MISSING),
        ("text", True, OLD, None, Found.STALE),
        ("text", True, ODD, None, Found.STALE),
        ("text", True, None, NOW, Found.MISPLACED),
        ("text", False, None, None, None),
        ("text", False, NOW, None, Found.SUPERFLUOUS),
        ("blind", False, None, NOW, None),
        ("blind", True, None, NOW, None),
        ("blind", False, None, None, Found.MISSING),
        ("blind", False, None, OLD, Found.STALE),
        ("blind", False, NOW, None, Found.MISPLACED),
        ("blind", False, NOW, NOW, Found.MISPLACED),
        ("none", True, None, None, None),
        ("none", True, NOW, None, Found.SUPERFLUOUS),
        ("none", False, None, NOW, Found.SUPERFLUOUS),
    ],
)
def test_entries_are_judged(
    mode: str, is_plain: bool, text: Entry | None, blind: Entry | None, found: Found | None
) -> None:
    languages = ("english", "simple")

    assert judge(mode, 2, is_plain=is_plain, text=text, blind=blind, languages=languages) is found

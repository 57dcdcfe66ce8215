"""What a message may hold."""

from __future__ import annotations

from uuid import UUID

import pytest

from processors.rules.content import (
    CONTENT_BYTES_MAX,
    body_hash,
    client_id_fault,
    content_fault,
    described,
)
from schemas import messages


def test_schema_and_rule_agree_on_the_bound() -> None:
    assert messages.CONTENT_BYTES_MAX == CONTENT_BYTES_MAX


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("hi", ""),
        ("a" * CONTENT_BYTES_MAX, ""),
        ("é" * (CONTENT_BYTES_MAX // 2), ""),
        ("é" * (CONTENT_BYTES_MAX // 2) + "x", "16385 bytes"),
        ("a\x00b", "NUL"),
        ("a\ud800b", "surrogate"),
        (" \n\t\u3000", "blank"),
        ("", "blank"),
    ],
)
def test_content(content: str, fault: str) -> None:
    said = content_fault(content)

    assert fault in said
    assert bool(fault) == bool(said)


@pytest.mark.parametrize("bad", ["", " ", "a\nb", "a\x00b"])
def test_unprintable_client_ids_are_refused(bad: str) -> None:
    assert client_id_fault(bad)


def test_client_ids_may_be_any_printable_text() -> None:
    assert client_id_fault("n° 7 / größe 🎈") == ""


def test_hash_tells_kind_content_and_attachments_apart() -> None:
    one, two = UUID(int=1), UUID(int=2)
    texts = [
        described("text", "a", ()),
        described("notice", "a", ()),
        described("text", "b", ()),
        described("text", "a", (one,)),
        described("text", "a", (two, one)),
    ]

    assert len({body_hash(text) for text in texts}) == 5
    assert {len(body_hash(text)) for text in texts} == {32}

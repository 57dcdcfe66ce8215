"""Settings of search."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec

Language: TypeAlias = Literal[
    "arabic", "armenian", "basque", "catalan", "danish", "dutch", "english", "finnish", "french",
    "german", "greek", "hindi", "hungarian", "indonesian", "irish", "italian", "lithuanian",
    "nepali", "norwegian", "portuguese", "romanian", "russian", "serbian", "spanish", "swedish",
    "tamil", "turkish", "yiddish",
]  # fmt: skip
"""Text search configurations of PostgreSQL 15."""

LANGUAGES: tuple[Language, ...] = (
    "english", "german", "french", "spanish", "portuguese", "italian", "dutch", "russian",
)  # fmt: skip


class SearchSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    Settings of search, ``PROCESSORS_SEARCH_*``.

    Attributes:
        languages: Languages whose words are stemmed, as PostgreSQL names them; others are found
            word by word. The first one that is written in a text's script is taken for authors
            whose language is written in another. After a change run ``audit`` with ``repair``.
            Default english, german, french, spanish, portuguese, italian, dutch and russian.
        window_max: How many of the newest matches are ranked against each other. Default 200.
        blind_conversations_max: Encrypted conversations that one search looks through, the most
            recently used ones. Default 200.
        blind_opened_max: Messages that one search decrypts to look whether they fit. Default 1,000.
        chunk_messages: Messages that one job of a reindex or audit looks at. Default 2,000.
        index: Another index for plain text than PostgreSQL: module:function, which takes these
            settings and returns an async context manager of a SearchIndex. Default none.
        batch_jobs_max: Jobs that are indexed by one statement. Default 50.
        batch_wait_ms: How long the first of them waits for others. Default 20 ms.
    """

    languages: tuple[Language, ...] = LANGUAGES
    window_max: Annotated[int, msgspec.Meta(ge=10, le=2_000)] = 200
    blind_conversations_max: Annotated[int, msgspec.Meta(ge=1, le=2_000)] = 200
    blind_opened_max: Annotated[int, msgspec.Meta(ge=10, le=20_000)] = 1_000
    chunk_messages: Annotated[int, msgspec.Meta(ge=1, le=20_000)] = 2_000
    index: Annotated[str, msgspec.Meta(pattern=r"^(|[\w.]+:\w+)$")] = ""
    batch_jobs_max: Annotated[int, msgspec.Meta(ge=1, le=500)] = 50
    batch_wait_ms: Annotated[int, msgspec.Meta(ge=1, le=5_000)] = 20

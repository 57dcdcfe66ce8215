"""The services of search, put together from their settings."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from engine import Clock
from processors.database.pool import Database
from processors.errors import ConfigurationError
from processors.services.blind_index import BlindIndex
from processors.services.index_runs import IndexRuns
from processors.services.indexer import SearchIndexer
from processors.services.postgres_fts import PostgresFts
from processors.services.protocols import Sealer
from processors.services.search import SearchService
from processors.services.search_index import SearchIndex
from processors.settings.search import SearchSettings


@dataclass(frozen=True, slots=True)
class Searching:
    """
    What belongs to search.

    Attributes:
        indexer: Keeps the index as the messages are.
        runs: Indexes all anew, and compares.
        service: Answers searches.
    """

    indexer: SearchIndexer
    runs: IndexRuns
    service: SearchService


@asynccontextmanager
async def open_search(
    database: Database,
    sealer: Sealer,
    settings: SearchSettings,
    *,
    committed: Callable[[], None],
    clock: Clock,
) -> AsyncIterator[Searching]:
    """
    Put the services together.

    Args:
        database: Where messages are.
        sealer: Hashes terms of encrypted conversations, and decrypts.
        settings: Languages, bounds, and the index for plain text.
        committed: Called after each commit that left a job in the outbox.
        clock: Time.

    Raises:
        ConfigurationError: The index that is set cannot be had.
    """
    languages = settings.languages
    async with _text_index(database, settings) as text:
        blind = BlindIndex(
            database,
            sealer,
            languages,
            conversations_max=settings.blind_conversations_max,
            opened_max=settings.blind_opened_max,
        )
        indexer = SearchIndexer(database, text, blind, sealer, languages=languages)
        yield Searching(
            indexer,
            IndexRuns(
                database,
                indexer,
                text,
                blind,
                languages=languages,
                chunk_messages=settings.chunk_messages,
                committed=committed,
            ),
            SearchService(
                database,
                text,
                blind,
                languages=languages,
                window_max=settings.window_max,
                clock=clock,
            ),
        )


def _text_index(
    database: Database, settings: SearchSettings
) -> AbstractAsyncContextManager[SearchIndex]:
    if not settings.index:
        return contextlib.nullcontext(PostgresFts(database, settings.languages))
    module, _, name = settings.index.partition(":")
    try:
        make: Any = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(f"PROCESSORS_SEARCH_INDEX={settings.index}: {error}") from error
    opened: AbstractAsyncContextManager[SearchIndex] = make(settings)
    return opened

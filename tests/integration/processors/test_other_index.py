"""Another search index in the place of PostgreSQL's own, named by a setting."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import pytest

from processors.errors import ConfigurationError
from processors.rules.search_pages import Candidates, Found, Place
from processors.rules.search_query import hits
from processors.services.search_index import Ask, Document, Entry
from schemas.messages import AuditIndex, AuditResult
from tests.integration.processors.searching import SearchWorld, searching
from tests.integration.processors.world import World

pytestmark = pytest.mark.servers

OPENED: list[MemoryIndex] = []


class MemoryIndex:
    """A search index in a dictionary."""

    is_apart = True

    def __init__(self) -> None:
        self.documents: dict[UUID, Document] = {}

    async def index(self, documents: Sequence[Document]) -> dict[UUID, bool]:
        written = {}
        for each in documents:
            known = self.documents.get(each.message_id)
            written[each.message_id] = known is None or (
                known.version <= each.version and known != each
            )
            if written[each.message_id]:
                self.documents[each.message_id] = each
        return written

    async def delete(self, message_ids: Sequence[UUID]) -> set[UUID]:
        return {id_ for id_ in message_ids if self.documents.pop(id_, None) is not None}

    async def entries(self, message_ids: Sequence[UUID]) -> dict[UUID, Entry]:
        there = ((id_, self.documents.get(id_)) for id_ in message_ids)
        return {id_: Entry(each.version, each.language) for id_, each in there if each is not None}

    async def search(self, ask: Ask) -> Candidates:
        after = {scope.conversation_id: scope.after_seq for scope in ask.scope}
        found = [
            Found(Place(each.sent_at, each.message_id), each.conversation_id, 1.0)
            for each in self.documents.values()
            if each.seq > after.get(each.conversation_id, each.seq)
            and hits(ask.query, each.text, each.language)
            and (ask.before is None or (each.sent_at, each.message_id) < ask.before)
        ]
        found.sort(reverse=True)
        cut = found[: ask.limit]
        return Candidates(cut, cut[-1].place if len(cut) == ask.limit else None)


@asynccontextmanager
async def open_index(settings: Any) -> AsyncIterator[MemoryIndex]:
    """What the setting names."""
    OPENED.append(MemoryIndex())
    yield OPENED[-1]
    OPENED.pop()


@pytest.fixture
async def search(world: World) -> AsyncIterator[SearchWorld]:
    async with searching(world, index=f"{__name__}:open_index") as found:
        yield found
    assert OPENED == []


async def rows(search: SearchWorld) -> Any:
    return await search.world.value("SELECT count(*) FROM message_search")


async def test_messages_are_kept_and_found_there_alone(search: SearchWorld) -> None:
    conversation, (ada, bob) = await search.world.conversation(2)
    horses, removed = await search.say(conversation, ada, "Deliveries of horses", "a horse")

    assert set(OPENED[0].documents) == {horses, removed}
    assert await rows(search) == 0
    pages = await search.pages(bob, "horse", limit=1, order="newest")
    assert pages == [[removed], [horses]]
    await search.search.indexer.delete([removed])
    assert await search.find(bob, "horse") == [horses]
    (hit,) = (await search.page(bob, "horses")).hits
    assert [piece.text for piece in hit.headline if piece.is_hit] == ["horses"]


async def test_what_it_finds_is_checked_before_anybody_sees_it(search: SearchWorld) -> None:
    conversation, (ada, bob) = await search.world.conversation(2)
    kept, removed = await search.say(conversation, ada, "a horse", "another horse")
    await search.remove(removed)

    assert await search.find(bob, "horse") == [kept]
    assert await search.find(await search.world.user(), "horse") == []


async def test_a_message_that_is_encrypted_leaves_it(search: SearchWorld) -> None:
    conversation, (ada, bob) = await search.world.conversation(2)
    (message,) = await search.say(conversation, ada, "a horse")
    await search.world.database.execute(
        "UPDATE conversations SET encrypted = true, search_mode = 'blind' WHERE id = $1",
        conversation,
    )
    await search.seal(message)

    await search.search.indexer.index([message])

    assert OPENED[0].documents == {}
    assert await search.find(bob, "horse") == [message]


async def test_an_audit_looks_into_both(search: SearchWorld) -> None:
    conversation, (ada, _) = await search.world.conversation(2)
    there, lost = await search.say(conversation, ada, "a horse", "a cow")
    del OPENED[0].documents[lost]

    async def progress(percent: float) -> None:
        assert percent <= 99

    result = await search.search.runs.audit(
        AuditIndex(repair=True), job_id="run", progress=progress
    )

    assert result == AuditResult(
        messages=2, missing=1, stale=0, superfluous=0, misplaced=0, repaired=1, next_job_id=None
    )
    assert set(OPENED[0].documents) == {there, lost}


@pytest.mark.parametrize("name", ["no.such.module:open", f"{__name__}:nothing"])
async def test_an_index_that_is_not_there_is_named(world: World, name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"PROCESSORS_SEARCH_INDEX={name}"):
        async with searching(world, index=name):
            pass

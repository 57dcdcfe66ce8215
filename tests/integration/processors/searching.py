"""Search over a world: what people write, and what they find again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import msgspec
import orjson

from engine import SystemClock
from processors.services.protocols import Place
from processors.services.search import Filters, SearchPage
from processors.services.searching import Searching, open_search
from processors.settings.search import SearchSettings
from tests.integration.processors.world import World


@dataclass
class SearchWorld:
    """
    A world with its search.

    Attributes:
        world: People and conversations.
        search: The services under test.
        commits: One entry per commit that left a job.
    """

    world: World
    search: Searching
    commits: list[None]

    async def say(self, conversation: UUID, sender: UUID, *texts: str) -> list[UUID]:
        """Send messages and index them."""
        ids = [
            (await self.world.send(conversation, sender, content=text)).message_id for text in texts
        ]
        await self.search.indexer.index(ids)
        return ids

    async def edit(self, message_id: UUID, text: str) -> None:
        """Change a message, without running the job that this leaves."""
        await self.world.messages.edit(message_id, await self.sender(message_id), text)

    async def remove(self, message_id: UUID) -> None:
        """Delete a message softly, without running the job that this leaves."""
        await self.world.messages.soft_delete(message_id, await self.sender(message_id))

    async def sender(self, message_id: UUID) -> Any:
        """Return who sent a message."""
        return await self.world.value("SELECT sender_id FROM messages WHERE id = $1", message_id)

    async def jobs(self, *actions: str) -> list[dict[str, Any]]:
        """Take the indexing jobs of these actions out of the outbox, in the order they came."""
        rows = await self.world.database.fetch(
            "WITH o AS (DELETE FROM outbox WHERE topic = 'job' AND key = 'indexing' "
            "AND payload->'data'->>'action' = ANY ($1) RETURNING id, payload::text) "
            "SELECT payload FROM o ORDER BY id",
            actions,
        )
        return [orjson.loads(row["payload"]) for row in rows]

    async def blind_conversation(self, members: int = 2) -> tuple[UUID, list[UUID]]:
        """Make an encrypted conversation that is searched by hashes."""
        conversation, users = await self.world.conversation(members)
        await self.world.database.execute(
            "UPDATE conversations SET encrypted = true, search_mode = 'blind' WHERE id = $1",
            conversation,
        )
        return conversation, users

    async def seal(self, message_id: UUID) -> None:
        """Encrypt a message where it is, as the row of an encrypted conversation has it."""
        row = await self.world.database.fetchrow(
            "SELECT conversation_id, version, body FROM messages WHERE id = $1", message_id
        )
        assert row is not None
        place = Place(row["conversation_id"], message_id, row["version"])
        envelope = await self.world.encryption.seal(place, row["body"].encode())
        await self.world.database.execute(
            "UPDATE messages SET body = NULL, ciphertext = $2, key_id = $3 WHERE id = $1",
            message_id,
            envelope.ciphertext,
            envelope.key_id,
        )

    async def find(self, user: UUID, query: str, **options: Any) -> list[UUID]:
        """Return the ids that one page shows."""
        return [hit.message_id for hit in (await self.page(user, query, **options)).hits]

    async def page(self, user: UUID, query: str, **options: Any) -> SearchPage:
        """Return one page; filters are given by their names."""
        names = set(Filters.__struct_fields__)
        filters = Filters(**{name: options.pop(name) for name in names & options.keys()})
        return await self.search.service.search(user, query, filters, **options)

    async def pages(self, user: UUID, query: str, **options: Any) -> list[list[UUID]]:
        """Return the ids of all pages."""
        found, cursor = [], None
        while True:
            page = await self.page(user, query, cursor=cursor, **options)
            found.append([hit.message_id for hit in page.hits])
            cursor = page.cursor
            if cursor is None:
                return found

    async def entries(self, ids: Sequence[UUID]) -> dict[UUID, dict[str, Any]]:
        """Return the index's rows of messages."""
        rows = await self.world.database.fetch(
            "SELECT message_id, version, lang, tsv::text, body_trgm, blind, xmin::text, indexed_at "
            "FROM message_search WHERE message_id = ANY ($1)",
            ids,
        )
        return {row["message_id"]: dict(row) for row in rows}

    async def insert(self, conversation: UUID, sender: UUID, text: str) -> UUID:
        """Put a message of any size into the table, past the checks of sending."""
        message_id = uuid4()
        await self.world.database.execute(
            "WITH c AS (UPDATE conversations SET last_seq = last_seq + 1 WHERE id = $2 "
            "RETURNING id, last_seq) "
            "INSERT INTO messages "
            "(id, conversation_id, seq, sender_id, client_msg_id, body_hash, kind, body) "
            "SELECT $1, id, last_seq, $3, last_seq::text, sha256($4::bytea), 'text', $5 FROM c",
            message_id,
            conversation,
            sender,
            message_id.bytes,
            text,
        )
        return message_id


@asynccontextmanager
async def searching(world: World, **settings: Any) -> AsyncIterator[SearchWorld]:
    """Open search over a world, with settings of the test's own."""
    own = msgspec.convert(settings, SearchSettings)
    commits: list[None] = []
    async with open_search(
        world.database,
        world.encryption,
        own,
        committed=lambda: commits.append(None),
        clock=SystemClock(),
    ) as search:
        yield SearchWorld(world, search, commits)

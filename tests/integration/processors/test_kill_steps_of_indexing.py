"""Indexing that is killed anywhere and run again leaves what one run leaves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import pytest

from engine.testing import FakeJob, run_handler
from processors.app import registry
from processors.database.migrations import migrate
from processors.settings import from_env
from tests.integration.processors.searching import SearchWorld, searching
from tests.integration.processors.world import open_world
from tests.support.steps import kill_at_each_step

pytestmark = pytest.mark.servers


@asynccontextmanager
async def opened() -> AsyncIterator[SearchWorld]:
    async with open_world() as world, searching(world, chunk_messages=2) as search:
        yield search


class Scenario:
    """One job over a plain and an encrypted conversation."""

    action = ""

    async def prepare(self) -> dict[str, Any]:
        async with opened() as search:
            # Each scene is the only one, since some jobs go over all messages.
            await search.world.database.execute(
                "TRUNCATE users, conversations, messages, outbox, job_inbox CASCADE"
            )
            plain, (ada, _) = await search.world.conversation(2)
            blind, (eve, _) = await search.blind_conversation()
            ids = [
                (await search.world.send(conversation, sender, content=text)).message_id
                for conversation, sender in ((plain, ada), (blind, eve))
                for text in ("a horse 東京", "another horse")
            ]
            await self.arrange(search, ids)
            await search.world.database.execute("DELETE FROM outbox")
            return {"ids": [str(id_) for id_ in ids]}

    async def arrange(self, search: SearchWorld, ids: list[UUID]) -> None:
        """Bring about what the job is for."""

    def payload(self, scene: dict[str, Any]) -> dict[str, Any]:
        return {"action": self.action, "messageIds": scene["ids"]}

    async def run(self, scene: dict[str, Any]) -> None:
        async with opened() as search:
            await run_handler(
                registry(from_env({})),
                "indexing",
                self.payload(scene),
                job=FakeJob(id="one"),
                services=search,
            )

    async def observe(self, scene: dict[str, Any]) -> Any:
        async with opened() as search:
            ids = [UUID(id_) for id_ in scene["ids"]]
            entries = await search.entries(ids)
            rows = [
                [place, row["version"], row["tsv"], row["body_trgm"], len(row["blind"] or [])]
                for place, row in ((ids.index(id_), row) for id_, row in entries.items())
            ]
            jobs = await search.world.values(
                "SELECT payload->>'id' FROM outbox WHERE topic = 'job' AND key = 'indexing'"
            )
            return [sorted(rows), jobs, await search.world.value("SELECT count(*) FROM job_inbox")]


class Indexes(Scenario):
    """New messages."""

    action = "index"


class Updates(Scenario):
    """Messages whose words changed, one that was deleted."""

    action = "update"

    async def arrange(self, search: SearchWorld, ids: list[UUID]) -> None:
        await search.search.indexer.index(ids)
        await search.edit(ids[0], "a cow")
        await search.edit(ids[2], "another cow")
        await search.remove(ids[1])


class Deletes(Scenario):
    """Messages that are in the index."""

    action = "delete"

    async def arrange(self, search: SearchWorld, ids: list[UUID]) -> None:
        await search.search.indexer.index(ids)


class Reindexes(Scenario):
    """The first chunk of a run over all messages."""

    def payload(self, scene: dict[str, Any]) -> dict[str, Any]:
        return {"action": "reindex"}


class Audits(Scenario):
    """The first chunk of an audit that repairs."""

    async def arrange(self, search: SearchWorld, ids: list[UUID]) -> None:
        await search.search.indexer.index(ids)
        await search.remove(ids[1])
        await search.world.database.execute(
            "DELETE FROM message_search WHERE message_id = $1", ids[0]
        )

    def payload(self, scene: dict[str, Any]) -> dict[str, Any]:
        return {"action": "audit", "repair": True}


@pytest.mark.parametrize(
    ("scenario", "places", "jobs"),
    [
        (Indexes, [0, 1, 2, 3], []),
        (Updates, [0, 2, 3], []),
        (Deletes, [], []),
        (Reindexes, [0, 1], ["one.1"]),
        (Audits, [0, 2, 3], ["one.1"]),
    ],
)
async def test_a_job_survives_a_kill_at_every_step(
    postgres_url: str, scenario: type[Scenario], places: list[int], jobs: list[str]
) -> None:
    await migrate(postgres_url)

    steps = kill_at_each_step(
        f"{__name__}:{scenario.__name__}", {"ENGINE_POSTGRES_URL": postgres_url}
    )

    rows, left, inbox = steps.unkilled
    assert [row[0] for row in rows] == places
    assert (left, inbox) == (jobs, len(jobs))
    assert steps.differing() == {}
    assert steps.total >= 2


@pytest.mark.parametrize("scenario", [Indexes, Updates, Deletes, Reindexes, Audits])
async def test_a_job_that_is_delivered_twice_has_its_effect_once(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, scenario: type[Scenario]
) -> None:
    await migrate(postgres_url)
    monkeypatch.setenv("ENGINE_POSTGRES_URL", postgres_url)
    job = scenario()
    scene = await job.prepare()
    ids = [UUID(id_) for id_ in scene["ids"]]

    async def written() -> Any:
        async with opened() as search:
            entries = await search.entries(ids)
            return {id_: (row["xmin"], row["indexed_at"]) for id_, row in entries.items()}

    await job.run(scene)
    once, rows = await job.observe(scene), await written()
    await job.run(scene)

    assert await job.observe(scene) == once
    assert await written() == rows, "no row was written again"

"""Cleanup as an engine and as people run it: by schedule, by job, by hand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from engine import App, Registry
from engine.testing import EngineHarness, FakeJob, ManualClock, run_handler
from processors.app import build
from processors.cleanup import cleanup, declare_schedules
from processors.cli.root import main
from processors.settings.retention import RetentionSettings
from schemas.messages import (
    CleanupDeletedConversations,
    CleanupExpiredAttachments,
    CleanupOldMessages,
    CleanupResult,
    Housekeeping,
    ReconcileObjects,
)
from tests.integration.processors.keeper import Keeper

ORDERS = {
    "purge_messages": CleanupOldMessages,
    "purge_conversations": CleanupDeletedConversations,
    "expire_attachments": CleanupExpiredAttachments,
    "reconcile_objects": ReconcileObjects,
    "keep_house": Housekeeping,
}


class Retention:
    """Takes note of what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def __getattr__(self, name: str) -> Any:
        kind = ORDERS[name]

        async def asked(order: object, *, job_id: str, sent_ms: int) -> CleanupResult:
            assert isinstance(order, kind)
            assert sent_ms > 0
            self.asked.append((name, job_id))
            return CleanupResult(action=name, complete=True)

        return asked


@dataclass
class Services:
    """What the handler is given of the services."""

    retention: Retention


async def test_each_tick_of_each_schedule_runs_its_action_once_over_two_engines() -> None:
    """Goal: two engines, a day and a bit, every tick once. Method: engines in memory."""
    registry = Registry()
    registry.job("cleanup", queue="cleanup")(cleanup)
    declare_schedules(
        registry,
        RetentionSettings(
            messages_cron="0 3 * * *",
            reconcile_cron="0 4 * * *",
            housekeeping_every_s=21_600,
            attachments_every_s=43_200,
            conversations_every_s=43_200,
        ),
    )
    retention = Retention()

    @asynccontextmanager
    async def lifespan() -> Any:
        yield Services(retention)

    clock = ManualClock()
    app = App(registry, lifespan=lifespan)
    async with (
        EngineHarness(app, clock=clock) as one,
        EngineHarness(app, clock=clock, model=one.model, name="engine-2") as other,
    ):
        await clock.advance(3)
        for _ in range(24):
            # Across the hour, as no tick lies elsewhere.
            clock.move(3_600 - 6)
            await clock.advance(6)
        await one.drain()
        await other.drain()

    count = {name: sum(asked == name for asked, _ in retention.asked) for name in ORDERS}
    assert count == {
        "purge_messages": 1,
        "purge_conversations": 2,
        "expire_attachments": 2,
        "reconcile_objects": 1,
        "keep_house": 4,
    }
    assert len(set(retention.asked)) == len(retention.asked)


@dataclass(frozen=True)
class Settings:
    """What an engine's settings say of servers."""

    postgres_url: str | None
    redis_url: str


@pytest.mark.servers
async def test_the_app_brings_cleanup_what_it_needs(
    keeper: Keeper,
    postgres_url: str,
    redis_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PROCESSORS_RETENTION_DAYS", "30")
    monkeypatch.setenv("PROCESSORS_OBJECTS_URL", f"file://{tmp_path}/files")
    conversation, users = await keeper.conversation(3)
    await keeper.age(conversation, days=31, up_to_seq=2)
    app = build(Settings(postgres_url, redis_url))

    async with app.lifespan() as services:
        upload = await services.attachments.begin_upload(users[0], "image/png", 2)
        await services.attachments.put(upload.attachment_id, users[0], b"hi")
        results = {
            action: await run_handler(
                app, "cleanup", {"action": action}, job=FakeJob(id=action), services=services
            )
            for action in (
                "cleanup_old_messages",
                "cleanup_deleted_conversations",
                "cleanup_expired_attachments",
                "housekeeping",
            )
        }
        await services.governance.soft_delete(conversation, actor="ann")

    assert {action: result.action for action, result in results.items()} == {
        action: action for action in results
    }
    assert results["cleanup_old_messages"].counts == {"messagesCleared": 2, "marksMoved": 1}
    assert await keeper.living(conversation) == [3]


@pytest.fixture
def runner(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("COLUMNS", "120")

    def run(*words: str, **environ: str) -> Any:
        env = {"ENGINE_POSTGRES_URL": postgres_url, **environ}
        return CliRunner().invoke(main, words, obj=env)

    return run


@pytest.mark.servers
class TestByHand:
    """Commands run their own loop, so what is around them may not be in one."""

    async def test_a_plan_is_a_table(self, keeper: Keeper, runner: Any) -> None:
        conversation, _ = await keeper.conversation(3)
        await keeper.age(conversation, days=31, up_to_seq=2)

        done = await in_thread(runner, "retention", "plan", PROCESSORS_RETENTION_DAYS="30")

        assert done.exit_code == 0, done.output
        lines = [line.split() for line in done.output.splitlines()]
        assert lines[0] == ["POLICY", "DAYS", "BEFORE", "CONVERSATIONS", "MESSAGES"]
        assert lines[1][:2] == ["default", "30"]
        assert lines[1][-2:] == ["1", "2"]
        assert "messagesCleared 2" in done.output
        assert await keeper.living(conversation) == [1, 2, 3]

    async def test_a_run_removes(self, keeper: Keeper, runner: Any) -> None:
        conversation, _ = await keeper.conversation(3)
        await keeper.age(conversation, days=31, up_to_seq=2)

        done = await in_thread(runner, "retention", "run", "--older-than-days", "30", "--json")
        files = await in_thread(runner, "attachments", "--dry-run")

        assert done.exit_code == 0, done.output
        results = [json.loads(line) for line in done.output.splitlines() if line[:1] == "{"]
        assert [each["action"] for each in results] == [
            "cleanup_old_messages",
            "cleanup_deleted_conversations",
        ]
        assert results[0]["counts"] == {"messagesCleared": 2, "marksMoved": 1}
        assert await keeper.living(conversation) == [3]
        assert "cleanup_expired_attachments (dry run): nothing" in files.output

    async def test_no_database_is_said_in_one_line(self, runner: Any) -> None:
        done = await in_thread(runner, "retention", "plan", ENGINE_POSTGRES_URL="")

        assert done.exit_code == 1
        assert done.output == "Error: set ENGINE_POSTGRES_URL\n"


async def in_thread(run: Any, *words: str, **environ: str) -> Any:
    """Run a command beside the test's loop."""
    return await asyncio.to_thread(run, *words, **environ)

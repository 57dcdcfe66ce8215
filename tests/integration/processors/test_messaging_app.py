"""The app as an engine uses it: migrate, seed, lifespan, handlers through the middleware."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from engine import App, Cancel, Hold
from engine.testing import run_handler
from processors import demo
from processors.app import build
from processors.errors import ConfigurationError
from schemas.messages import ConfirmationResult, SendResult

pytestmark = pytest.mark.servers


@pytest.fixture
def postgres_url(empty_postgres_url: str) -> str:
    """Give an empty database: what is here is about the first migration, too."""
    return empty_postgres_url


@dataclass(frozen=True)
class Settings:
    """What an engine's settings say of servers."""

    postgres_url: str | None
    redis_url: str


async def run(app: App, services: Any, job_type: str, data: str) -> Any:
    """Run one job as an engine does: decode, then middleware, then the handler."""
    return await run_handler(app, job_type, data.encode(), services=services)


@pytest.fixture
def app(postgres_url: str, redis_url: str) -> App:
    return build(Settings(postgres_url, redis_url))


async def test_seeded_lines_are_jobs_that_run(app: App) -> None:
    """Goal: what the seed tells people to type works as it stands, and seeding again too."""
    assert app.migrate is not None
    assert app.seed is not None
    assert (await app.migrate())[0] == "0001_messaging.sql"
    lines = await app.seed()
    assert await app.seed() == lines
    jobs = [re.search(r"XADD mq:\{message-delivery\}:normal \* type (\S+) data '(.+)'$", line)
            for line in lines]  # fmt: skip
    (sending, reading) = [job.groups() for job in jobs if job]

    async with app.lifespan() as services:
        sent = await run(app, services, *sending)
        read = await run(app, services, *reading)

    assert isinstance(sent, SendResult)
    assert (sent.seq, sent.recipients, sent.duplicate) == (1, 2, False)
    assert isinstance(read, ConfirmationResult)
    assert read.read_up_to_seq == 1


async def test_refusals_end_the_job_and_say_why(app: App) -> None:
    assert app.migrate is not None
    assert app.seed is not None
    await app.migrate()
    await app.seed()
    job = {
        "conversationId": str(demo.CONVERSATION),
        "senderId": str(demo.ADA),
        "content": "hi",
        "clientMessageId": "x",
    }
    async with app.lifespan() as services:
        for change, code in (
            ({"senderId": str(demo.CONVERSATION)}, "not-a-member"),
            ({"conversationId": str(demo.ADA)}, "unknown-conversation"),
            ({"content": " \n"}, "invalid-content"),
            ({"content": "nul \x00"}, "invalid-content"),
        ):
            data = msgspec.json.encode(job | change).decode()
            with pytest.raises(Cancel, match=code):
                await run(app, services, "send-message", data)


async def test_ready_names_what_is_missing(app: App, unused_port: int) -> None:
    assert app.migrate is not None
    assert app.ready is not None
    async with app.lifespan() as services:
        assert "0001_messaging.sql" in await app.ready(services)
        with pytest.raises(Hold, match="42P01"):
            await run(
                app, services, "delivery-confirmation",
                f'{{"userId":"{demo.BOB}","conversationId":"{demo.CONVERSATION}","readUpToSeq":1}}',
            )  # fmt: skip
        await app.migrate()
        assert await app.ready(services) == ""

    away = build(Settings(f"postgresql://x@127.0.0.1:{unused_port}/x", "redis://127.0.0.1:1"))
    assert away.ready is not None
    async with away.lifespan() as services:
        assert "DatabaseUnavailable" in await away.ready(services)


async def test_missing_postgresql_says_what_to_set_once_it_is_needed() -> None:
    for nothing in (None, ""):
        app = build(Settings(nothing, "redis://127.0.0.1:6379"))
        assert app.migrate is not None
        assert "send-message" in app.registry.types
        with pytest.raises(ConfigurationError, match="set ENGINE_POSTGRES_URL"):
            await app.migrate()
        with pytest.raises(ConfigurationError, match="set ENGINE_POSTGRES_URL"):
            async with app.lifespan():
                pass


def test_bad_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROCESSORS_POOL_WAIT_MS", "soon")
    with pytest.raises(ConfigurationError, match="PROCESSORS_POOL_WAIT_MS"):
        build(Settings("postgresql://x@127.0.0.1/x", "redis://127.0.0.1:6379"))

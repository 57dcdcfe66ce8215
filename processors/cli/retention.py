"""``retention`` and ``attachments``: cleanup by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import click
import msgspec
from rich.console import Console
from rich.table import Table

from engine import SystemClock
from processors import settings
from processors.database.pool import open_database
from processors.errors import ConfigurationError
from processors.services.objects import open_objects
from processors.services.retention import RetentionService
from schemas.messages import (
    DAYS_MAX,
    CleanupDeletedConversations,
    CleanupExpiredAttachments,
    CleanupOldMessages,
    CleanupResult,
)

POSTGRES = "ENGINE_POSTGRES_URL"
DAYS = click.IntRange(1, DAYS_MAX)
older_than = click.option(
    "--older-than-days", type=DAYS, help="In the place of the default policy."
)
one = click.option("--conversation", type=click.UUID, help="This conversation alone.")
as_json = click.option("--json", "as_json", is_flag=True, help="As JSON.")
dry_run = click.option("--dry-run", is_flag=True, help="Count, and change nothing.")


@click.group()
def retention() -> None:
    """Remove what is older than its policy keeps it."""


@retention.command()
@older_than
@one
@as_json
@click.pass_obj
def plan(
    environ: Mapping[str, str],
    /,
    *,
    older_than_days: int | None,
    conversation: UUID | None,
    as_json: bool,
) -> None:
    """Show what would be removed now, policy by policy; nothing is changed."""
    order = CleanupOldMessages(
        dry_run=True, older_than_days=older_than_days, conversation_id=conversation
    )
    show(asyncio.run(_messages(environ, order)), as_json=as_json)


@retention.command()
@older_than
@one
@dry_run
@as_json
@click.pass_obj
def run(
    environ: Mapping[str, str],
    /,
    *,
    older_than_days: int | None,
    conversation: UUID | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """
    Remove old messages, then deleted conversations, here and now.

    What there is more of than one job does is left to jobs, which need an
    engine.
    """
    order = CleanupOldMessages(
        dry_run=dry_run, older_than_days=older_than_days, conversation_id=conversation
    )
    show(asyncio.run(_messages(environ, order)), as_json=as_json)
    gone = CleanupDeletedConversations(dry_run=dry_run, conversation_id=conversation)
    show(asyncio.run(_conversations(environ, gone)), as_json=as_json)


@click.command()
@dry_run
@as_json
@click.pass_obj
def attachments(environ: Mapping[str, str], /, *, dry_run: bool, as_json: bool) -> None:
    """Remove uploads that no message claimed, and delete objects that nothing needs."""
    order = CleanupExpiredAttachments(dry_run=dry_run)
    show(asyncio.run(_attachments(environ, order)), as_json=as_json)


def show(result: CleanupResult, *, as_json: bool) -> None:
    """Print what a run did."""
    if as_json:
        click.echo(msgspec.json.encode(result))
        return
    console = Console()
    if result.policies:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in ("POLICY", "DAYS", "BEFORE", "CONVERSATIONS", "MESSAGES"):
            table.add_column(column, justify="left" if column in ("POLICY", "BEFORE") else "right")
        for each in result.policies:
            table.add_row(
                each.policy,
                "for ever" if each.days is None else str(each.days),
                "" if each.before is None else f"{each.before:%Y-%m-%d %H:%M} UTC",
                f"{each.conversations:,}",
                f"{each.messages:,}",
            )
        console.print(table)
    done = ", ".join(f"{name} {number:,}" for name, number in result.counts.items()) or "nothing"
    state = "" if result.complete else f"; more in job {result.follow_up}"
    if not result.complete and result.follow_up is None:
        state = "; not all was looked at"
    console.print(f"{result.action}{' (dry run)' if result.dry_run else ''}: {done}{state}")


async def _messages(environ: Mapping[str, str], order: CleanupOldMessages) -> CleanupResult:
    async with _service(environ) as service:
        return await service.purge_messages(order, job_id=_job_id())


async def _conversations(
    environ: Mapping[str, str], order: CleanupDeletedConversations
) -> CleanupResult:
    async with _service(environ) as service:
        return await service.purge_conversations(order, job_id=_job_id())


async def _attachments(
    environ: Mapping[str, str], order: CleanupExpiredAttachments
) -> CleanupResult:
    async with _service(environ) as service:
        return await service.expire_attachments(order, job_id=_job_id())


def _job_id() -> str:
    return f"by-hand-{uuid4()}"


@asynccontextmanager
async def _service(environ: Mapping[str, str]) -> AsyncIterator[RetentionService]:
    url = environ.get(POSTGRES, "")
    if not url:
        raise ConfigurationError(f"set {POSTGRES}")
    own = settings.from_env(environ)
    database = await open_database(url, own)
    try:
        yield RetentionService(
            database,
            open_objects(own.objects),
            own,
            clock=SystemClock(),
            # A relay finds what is in the outbox by its poll.
            committed=lambda: None,
        )
    finally:
        await database.close()

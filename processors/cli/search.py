"""``search``: what a user would find."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import click
import msgspec
from rich.console import Console
from rich.text import Text

from engine import SystemClock
from processors import settings
from processors.cli.retention import POSTGRES
from processors.database.pool import open_database
from processors.errors import ConfigurationError
from processors.rules.search_pages import Order
from processors.services.encryption import open_encryption
from processors.services.search import LIMIT_MAX, Filters, Hit, SearchPage
from processors.services.searching import open_search

TIME = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z"])


@click.command()
@click.argument("query")
@click.option("--user", type=click.UUID, required=True, help="Who searches.")
@click.option("--conversation", type=click.UUID, help="In this conversation.")
@click.option("--sender", type=click.UUID, help="From this author.")
@click.option("--recipient", type=click.UUID, help="To this user.")
@click.option(
    "--since", type=TIME, metavar="TIME", help="Sent at this time or later; UTC unless it says."
)
@click.option("--until", type=TIME, metavar="TIME", help="Sent before this time.")
@click.option("--kind", "kinds", multiple=True, help="Of this kind; may be repeated.")
@click.option("--newest", is_flag=True, help="Newest first, in place of the best.")
@click.option("--limit", type=click.IntRange(1, LIMIT_MAX), default=20, show_default=True)
@click.option("--cursor", help="Of the page before.")
@click.option("--all", "all_pages", is_flag=True, help="All pages, one after the other.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, one line per page.")
@click.pass_obj
def search(
    environ: Mapping[str, str],
    /,
    *,
    query: str,
    user: UUID,
    newest: bool,
    limit: int,
    cursor: str | None,
    all_pages: bool,
    as_json: bool,
    **filters: Any,
) -> None:
    """
    Find messages as a user would.

    Words must all be there; "in a row", -without and or mean what they do
    in web searches. Put -- before a QUERY that begins with -.
    """
    asked = _Asked(query, user, _filters(filters), "newest" if newest else "best", limit)
    asyncio.run(_pages(environ, asked, cursor, all_pages=all_pages, as_json=as_json))


class _Asked(msgspec.Struct, frozen=True):
    query: str
    user: UUID
    filters: Filters
    order: Order
    limit: int


def _filters(options: Mapping[str, Any]) -> Filters:
    return Filters(
        conversation_id=options["conversation"],
        sender_id=options["sender"],
        recipient_id=options["recipient"],
        since=_with_zone(options["since"]),
        until=_with_zone(options["until"]),
        kinds=options["kinds"] or None,
    )


def _with_zone(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=moment.tzinfo or UTC) if moment is not None else None


async def _pages(
    environ: Mapping[str, str],
    asked: _Asked,
    cursor: str | None,
    *,
    all_pages: bool,
    as_json: bool,
) -> None:
    url = environ.get(POSTGRES)
    if not url:
        raise ConfigurationError(f"set {POSTGRES} to the database of the messages")
    own = settings.from_env(environ)
    clock = SystemClock()
    async with contextlib.AsyncExitStack() as stack:
        database = await open_database(url, own)
        stack.push_async_callback(database.close)
        sealer = await stack.enter_async_context(
            open_encryption(database, own.encryption, clock=clock)
        )
        opened = await stack.enter_async_context(
            open_search(database, sealer, own.search, committed=lambda: None, clock=clock)
        )
        while True:
            page = await opened.service.search(
                asked.user,
                asked.query,
                asked.filters,
                cursor=cursor,
                limit=asked.limit,
                order=asked.order,
            )
            cursor = page.cursor
            _show(page, as_json=as_json, is_last=not (all_pages and cursor))
            if cursor is None or not all_pages:
                return


def _show(page: SearchPage, *, as_json: bool, is_last: bool) -> None:
    if as_json:
        click.echo(msgspec.json.encode(page))
        return
    console = Console(highlight=False, soft_wrap=True)
    for hit in page.hits:
        console.print(_line(hit))
    if not page.hits and page.cursor is None:
        console.print("nothing found")
    if page.is_incomplete:
        console.print("some encrypted conversations could not be looked through")
    if page.cursor is not None and is_last:
        console.print(f"more: --cursor {page.cursor}")


def _line(hit: Hit) -> Text:
    """One hit: when, where, who, and an excerpt with what was searched in bold."""
    where = hit.conversation_title or str(hit.conversation_id)
    who = hit.sender_name or str(hit.sender_id)
    line = Text(f"{hit.sent_at:%Y-%m-%d %H:%M} {_printable(where)} #{hit.seq} {_printable(who)}: ")
    for piece in hit.headline:
        line.append(_printable(piece.text), style="bold" if piece.is_hit else "")
    return line


def _printable(text: str) -> str:
    """Put what would move the cursor or change colours into words of its own."""
    return "".join(char if char.isprintable() else " " for char in text)

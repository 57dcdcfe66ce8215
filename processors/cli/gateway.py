"""``gateway`` and ``ticket``: WebSockets, and a way in to try them."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping
from uuid import UUID

import click

from engine import SystemClock, flush_logs, load_engine, set_up_logs
from processors.app import opened_database, postgres_url
from processors.realtime.backing import open_backing
from processors.realtime.gateway import Gateway
from processors.realtime.place import DEFAULT
from processors.services.encryption import open_encryption
from processors.services.redis_link import connect
from processors.services.tickets import TicketService
from processors.settings import from_env


@click.command()
@click.option("--listen", help=f"Where, as host:port; else PROCESSORS_GATEWAY_LISTEN or {DEFAULT}.")
@click.pass_obj
def gateway(environ: Mapping[str, str], /, *, listen: str | None) -> None:
    """
    Serve WebSockets until SIGTERM or Ctrl-C, which send clients elsewhere first.

    Any number of gateways may run side by side, with or without engines beside
    them.

    \b
    Example:
      python -m processors gateway --listen 127.0.0.1:8788
    """  # noqa: D301 - click reads \b
    import uvloop

    own = from_env({**environ, **({"PROCESSORS_GATEWAY_LISTEN": listen} if listen else {})})
    loaded = load_engine(environ).settings
    set_up_logs(log_format=loaded.log_format, log_level=loaded.log_level, clock=SystemClock())

    async def serve() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        async with (
            opened_database(postgres_url(loaded), own) as database,
            open_encryption(database, own.encryption, clock=SystemClock()) as encryption,
            open_backing(own, database, loaded.redis_url, encryption, SystemClock()) as backing,
        ):
            await Gateway(backing, own.gateway.listen or DEFAULT).run(stop)

    try:
        uvloop.run(serve())
    finally:
        flush_logs()


@click.command()
@click.argument("user_id", metavar="USER", type=click.UUID)
@click.option("--session", default="", help="The session's name, by which it can be revoked.")
@click.pass_obj
def ticket(environ: Mapping[str, str], /, *, user_id: UUID, session: str) -> None:
    """
    Print a ticket with which a client may connect as USER, once and for a short while.

    An application asks POST /tickets of the gateway, or the class
    TicketService, in place of this.
    """
    own = from_env(environ)

    async def issue() -> str:
        async with connect(load_engine(environ).settings.redis_url) as client:
            tickets = TicketService(client, ttl_ms=own.gateway.ticket_ms)
            return await tickets.issue_ticket(user_id, session)

    click.echo(asyncio.run(issue()))

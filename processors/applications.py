"""
The services of an application: opened outside an engine, over the same servers.

::

    async with open_queues("redis://localhost", who="shop") as queues:
        await queues.add_message_delivery_job(SendMessage(...), priority="high")
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from engine import Client, SystemClock
from engine.admin import Admin
from processors import settings
from processors.app import registry
from processors.database.pool import open_database
from processors.services.queue_integration import QueueIntegrationService
from processors.services.queues import MessageQueueService


@asynccontextmanager
async def open_queues(
    redis_url: str, *, who: str, environ: Mapping[str, str] | None = None
) -> AsyncIterator[MessageQueueService]:
    """
    Open the queues of messaging.

    Args:
        redis_url: Where they are.
        who: Who acts, for the audit stream.
        environ: Variables of the processors; left out, those of this process.

    Raises:
        SettingsError: The address or a variable is at fault.
    """
    types = registry(settings.from_env(os.environ if environ is None else environ))
    by_queue = {queue: list(types.in_queue(queue)) for queue in types.queues()}
    async with (
        Client(redis_url, registry=types) as client,
        Admin(redis_url, who=who, types=by_queue) as admin,
    ):
        yield MessageQueueService(client, admin)


@asynccontextmanager
async def open_integration(
    redis_url: str,
    *,
    who: str,
    postgres_url: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> AsyncIterator[QueueIntegrationService]:
    """
    Open all queues together; the arguments are those of :func:`open_queues`.

    Args:
        redis_url: Where they are.
        who: Who acts, for the audit stream.
        postgres_url: Where the outbox is; left out, health knows nothing of it.
        environ: Variables of the processors; left out, those of this process.

    Raises:
        SettingsError: An address or a variable is at fault.
    """
    own = settings.from_env(os.environ if environ is None else environ)
    types = registry(own)
    by_queue = {queue: list(types.in_queue(queue)) for queue in types.queues()}
    async with (
        Client(redis_url, registry=types) as client,
        Admin(redis_url, who=who, types=by_queue) as admin,
        AsyncExitStack() as stack,
    ):
        database = None
        if postgres_url:
            database = await open_database(postgres_url, own)
            stack.push_async_callback(database.close)
        yield QueueIntegrationService(client, admin, database, clock=SystemClock())

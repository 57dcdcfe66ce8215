"""The one place where settings, services and registry meet."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Protocol
from uuid import uuid4

import asyncpg

from engine import App, Client, Exponential, Registry, SystemClock
from processors import demo, settings
from processors.batch_message import batch_message
from processors.cleanup import cleanup, declare_schedules
from processors.database import migrations
from processors.database.middleware import database_errors
from processors.database.pool import Database, open_database
from processors.delivery_confirmation import delivery_confirmation
from processors.encryption import register as register_encryption
from processors.errors import ConfigurationError, ProcessorError
from processors.indexing import indexing
from processors.notification import register as register_notification
from processors.realtime.backing import open_backing, revocations_of
from processors.realtime.gateway import Gateway
from processors.realtime.listener import PATH
from processors.realtime.place import Place
from processors.send_message import send_message
from processors.services.attachments import AttachmentStore
from processors.services.batches import BatchService
from processors.services.bundle import Services
from processors.services.conversations import ConversationService
from processors.services.encryption import EncryptionService, open_encryption
from processors.services.governance import GovernanceService
from processors.services.job_relay import JobRelay
from processors.services.messages import EnhancedMessageService
from processors.services.notification_parts import open_notifications
from processors.services.notifications import NotificationService
from processors.services.objects import open_objects
from processors.services.presence import PresenceService
from processors.services.protocols import Sealer
from processors.services.pubsub import Publisher
from processors.services.redis_link import connect
from processors.services.relay import OutboxRelay
from processors.services.retention import RetentionService
from processors.services.searching import open_search
from processors.services.tickets import TicketService
from processors.services.websockets import WebSocketService
from processors.settings import ProcessorSettings

QUEUE = "message-delivery"
RELAY_GIVE_UP_S = 3.0
"""How long the relay of jobs waits for a silent server before it gives its queues back."""

_draw: Callable[[], float] = random.SystemRandom().random


class EngineSettings(Protocol):
    """
    What is asked of the engine's settings.

    Attributes:
        postgres_url: Where the data lives; ``ENGINE_POSTGRES_URL``.
        redis_url: Where events are published; ``ENGINE_REDIS_URL``.
        processes: Engine processes that serve side by side.
    """

    @property
    def postgres_url(self) -> str | None:
        """Address of PostgreSQL, if one is set."""

    @property
    def redis_url(self) -> str:
        """Address of Redis."""

    @property
    def processes(self) -> int:
        """Number of engine processes."""


def build(engine_settings: EngineSettings) -> App:
    """
    Build the messaging app for an engine.

    PostgreSQL is asked for when something needs it, so that job types and schemas can be listed
    without one.

    Raises:
        ConfigurationError: A ``PROCESSORS_*`` variable is at fault.
    """
    own = settings.from_env(os.environ)

    async def migrate() -> list[str]:
        return await migrations.migrate(postgres_url(engine_settings))

    async def seed() -> list[str]:
        async with opened_database(postgres_url(engine_settings), own) as database:
            return await demo.seed(ConversationService(database))

    place = Place(own.gateway.listen)

    async def dev() -> list[str]:
        return [f"gateway ws://{place.take()}{PATH}"]

    async def serve_gateway(services: Services) -> None:
        if place.listen:
            await _serve_gateway(engine_settings, own, place, services)

    return App(
        registry(own),
        lifespan=lambda: open_services(engine_settings, own),
        migrate=migrate,
        seed=seed,
        dev=dev,
        background=[publish_outbox, relay_jobs, serve_gateway],
        ready=ready,
    )


@asynccontextmanager
async def open_services(
    engine_settings: EngineSettings, own: ProcessorSettings
) -> AsyncIterator[Services]:
    """Put the services together, for as long as an engine runs."""
    redis_url, clock = engine_settings.redis_url, SystemClock()
    async with (
        opened_database(postgres_url(engine_settings), own) as database,
        connect(redis_url) as client,
        Client(redis_url, give_up_s=RELAY_GIVE_UP_S, when_full="fail") as producer,
        AsyncExitStack() as stack,
    ):
        relay = OutboxRelay(database, client, own, draw=_draw)
        job_relay = JobRelay(database, producer, own, relay=uuid4(), clock=clock)
        committed = _ringing(relay, job_relay)
        encryption = await stack.enter_async_context(_encryption(database, own, committed))
        objects = open_objects(own.objects)
        conversations = ConversationService(database, committed=committed)
        messages = _messages(database, conversations, encryption, own, committed)
        presence = PresenceService(client, clock, ttl_ms=own.gateway.presence_ms)
        revocations = revocations_of(own, client)
        websockets = WebSocketService(Publisher(client, own.pubsub), presence, revocations)
        search = await stack.enter_async_context(
            open_search(database, encryption, own.search, committed=committed, clock=clock)
        )
        notifications = await stack.enter_async_context(
            open_notifications(database, own, presence, encryption, committed)
        )
        yield Services(
            database=database,
            conversations=conversations,
            messages=messages,
            relay=relay,
            job_relay=job_relay,
            batches=BatchService(
                database, producer, client, own.batch, clock=clock, committed=committed
            ),
            encryption=encryption,
            search=search,
            attachments=AttachmentStore(
                database, objects, own.objects, clock=clock, random=os.urandom
            ),
            governance=GovernanceService(database, committed=committed),
            retention=RetentionService(database, objects, own, clock=clock, committed=committed),
            notifications=notifications,
            presence=presence,
            tickets=TicketService(client, ttl_ms=own.gateway.ticket_ms),
            websockets=websockets,
        )


def _encryption(
    database: Database, own: ProcessorSettings, committed: Callable[[], None]
) -> AbstractAsyncContextManager[EncryptionService]:
    return open_encryption(
        database,
        own.encryption,
        clock=SystemClock(),
        committed=committed,
        index=own.index_messages,
        index_elsewhere=bool(own.search.index),
    )


def _messages(
    database: Database,
    conversations: ConversationService,
    sealer: Sealer,
    own: ProcessorSettings,
    committed: Callable[[], None],
) -> EnhancedMessageService:
    return EnhancedMessageService(
        database,
        conversations,
        sealer=sealer,
        notices=NotificationService(
            database, own.notification, clock=SystemClock(), draw=_draw, committed=committed
        ),
        settings=own,
        clock=SystemClock(),
        committed=committed,
    )


def _ringing(*relays: OutboxRelay | JobRelay) -> Callable[[], None]:
    def committed() -> None:
        for relay in relays:
            relay.wake()

    return committed


def postgres_url(engine_settings: EngineSettings) -> str:
    """
    Return the address of PostgreSQL.

    Raises:
        ConfigurationError: None is set.
    """
    if not engine_settings.postgres_url:
        raise ConfigurationError(
            "the messaging processors need PostgreSQL: set ENGINE_POSTGRES_URL, "
            "for example to postgresql://user:password@localhost:5432/streamlane"
        )
    return engine_settings.postgres_url


def registry(own: ProcessorSettings) -> Registry:
    """Register every job type of messaging, with its queue and its patience."""
    types = Registry()
    types.around(database_errors(snooze_ms=own.outage_snooze_ms, draw=_draw))
    # The more jobs share a round trip, the faster; one that comes alone hardly waits.
    types.batch(
        "send-message",
        queue=QUEUE,
        size=own.send_batch_max,
        wait_ms=own.send_wait_ms,
        timeout_s=30,
        retry=Exponential(attempts=5, base_s=1, cap_s=300),
    )(send_message)
    types.batch(
        "delivery-confirmation",
        queue=QUEUE,
        size=own.send_batch_max,
        wait_ms=own.send_wait_ms,
        timeout_s=30,
        retry=Exponential(attempts=8, base_s=0.5, cap_s=120),
    )(delivery_confirmation)
    types.batch(
        "indexing",
        queue="indexing",
        size=own.search.batch_jobs_max,
        wait_ms=own.search.batch_wait_ms,
        timeout_s=60,
        retry=Exponential(attempts=8, base_s=2, cap_s=600),
    )(indexing)
    types.job(
        "cleanup",
        queue="cleanup",
        timeout_s=120,
        retry=Exponential(attempts=5, base_s=5, cap_s=600),
    )(cleanup)
    register_notification(types, own.notification)
    register_encryption(types)
    declare_schedules(types, own.retention)
    types.job(
        "batch-message",
        queue="batch-message",
        timeout_s=60,
        retry=Exponential(attempts=10, base_s=1, cap_s=300),
    )(batch_message)
    return types


async def publish_outbox(services: Services) -> None:
    """Run the outbox relay until cancelled."""
    await services.relay.run()


async def relay_jobs(services: Services) -> None:
    """Run the relay of jobs until cancelled."""
    await services.job_relay.run()


async def ready(services: Services) -> str:
    """Say what keeps the processors from working, or return an empty string."""
    try:
        lacking = await migrations.missing(services.database)
    except (ProcessorError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        return f"PostgreSQL: {type(error).__name__}: {error}"
    if lacking:
        return f"migrations outstanding: {', '.join(lacking)}; run `python -m engine migrate`"
    return ""


async def _serve_gateway(
    engine_settings: EngineSettings, own: ProcessorSettings, place: Place, services: Services
) -> None:
    """Serve WebSockets beside the engine until cancelled."""
    async with open_backing(
        own, services.database, engine_settings.redis_url, services.encryption, SystemClock()
    ) as backing:
        # Several processes of one engine share the port; the kernel spreads clients over them.
        shares_port = engine_settings.processes > 1
        gateway = Gateway(backing, place.listen, sock=place.hand_over(), shares_port=shares_port)
        await gateway.run()


@asynccontextmanager
async def opened_database(url: str, own: ProcessorSettings) -> AsyncIterator[Database]:
    """Open the pool for a block."""
    database = await open_database(url, own)
    try:
        yield database
    finally:
        await database.close()

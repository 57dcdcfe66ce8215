"""The services that a gateway stands on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import redis.asyncio

from engine import Client, Clock
from processors.database.pool import Database
from processors.services.conversations import ConversationService
from processors.services.presence import PresenceService
from processors.services.protocols import Sealer
from processors.services.pubsub import Publisher
from processors.services.redis_link import connect
from processors.services.sessions import RevocationService
from processors.services.sync import SyncService
from processors.services.tickets import TicketService
from processors.services.websockets import WebSocketService
from processors.settings import ProcessorSettings

HOUR_MS: Final = 3_600_000
GIVE_UP_S: Final = 5.0
"""How long a client's message is tried for before its sender is told to send it again."""

QUEUES: Final = {"send-message": "message-delivery", "delivery-confirmation": "message-delivery"}
"""Where the jobs go that a gateway makes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backing:
    """
    Services over one PostgreSQL and one Redis.

    Attributes:
        settings: The processors' settings.
        database: Where messages and members are.
        client: Redis; it must not repeat commands by itself.
        producer: Takes jobs.
        clock: Gives time and chance.
        conversations: Who may follow what.
        sync: What was missed.
        presence: Where it is said who is here.
        tickets: Who may come in.
        revocations: Which sessions ended.
        websockets: Tells other gateways.
    """

    settings: ProcessorSettings
    database: Database
    client: redis.asyncio.Redis
    producer: Client
    clock: Clock
    conversations: ConversationService
    sync: SyncService
    presence: PresenceService
    tickets: TicketService
    revocations: RevocationService
    websockets: WebSocketService


@asynccontextmanager
async def open_backing(
    settings: ProcessorSettings,
    database: Database,
    redis_url: str,
    sealer: Sealer | None,
    clock: Clock,
) -> AsyncIterator[Backing]:
    """Put the services together, with connections to Redis of their own."""
    async with (
        connect(redis_url) as client,
        Client(redis_url, queues=QUEUES, give_up_s=GIVE_UP_S, clock=clock) as producer,
    ):
        conversations = ConversationService(database)
        presence = PresenceService(client, clock, ttl_ms=settings.gateway.presence_ms)
        revocations = revocations_of(settings, client)
        publisher = Publisher(client, settings.pubsub)
        yield Backing(
            settings=settings,
            database=database,
            client=client,
            producer=producer,
            clock=clock,
            conversations=conversations,
            sync=SyncService(database, conversations, sealer=sealer),
            presence=presence,
            tickets=TicketService(client, ttl_ms=settings.gateway.ticket_ms),
            revocations=revocations,
            websockets=WebSocketService(publisher, presence, revocations),
        )


def revocations_of(settings: ProcessorSettings, client: redis.asyncio.Redis) -> RevocationService:
    """Make what keeps revocations longer than any socket or ticket lives."""
    return RevocationService(client, keep_ms=settings.gateway.socket_ms_max + HOUR_MS)

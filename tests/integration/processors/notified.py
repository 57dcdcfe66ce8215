"""Notifications over a real database, with providers that answer as a test says."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import msgspec

from engine.errors import Limited
from engine.testing import ManualClock
from processors.database.pool import Database, open_database
from processors.rules.answers import Answer, Kind
from processors.senders.base import Mail, Push, PushTarget, Sms
from processors.senders.bundle import Senders
from processors.services.deliveries import moment
from processors.services.notification_parts import Notifications, put_together
from processors.services.protocols import Present, Sealer
from processors.settings import ProcessorSettings, from_env
from processors.settings.notification import NotificationSettings
from schemas.messages import DeliveryResult, NotifyEvent, NotifyMessages, NotifyResult
from tests.integration.processors.world import World
from tests.support.steps import step

NOON_MS = 1_780_315_200_000
"""2026-06-01, 12:00 UTC, a Monday."""

SENT = Answer(Kind.SENT, provider_id="p-1")


@dataclass
class Provider:
    """
    A provider of any channel.

    Attributes:
        answers: What it says next; after them, that it has sent.
        asked: What it was asked for.
        on_ask: Called while it is asked.
    """

    answers: deque[Answer] = field(default_factory=deque)
    asked: list[Any] = field(default_factory=list)
    on_ask: Any = None

    async def _answer(self, request: Any) -> Answer:
        step()
        self.asked.append(request)
        if self.on_ask is not None:
            await self.on_ask(request)
        step()
        return self.answers.popleft() if self.answers else SENT


class Pushes(Provider):
    """A push provider; what it was asked for is pairs of token and push."""

    async def send(self, target: PushTarget, push: Push) -> Answer:
        return await self._answer((target.token, push))


class Mails(Provider):
    """A mail server."""

    async def send(self, mail: Mail) -> Answer:
        return await self._answer(mail)


class Texts(Provider):
    """An SMS API."""

    async def send(self, sms: Sms) -> Answer:
        return await self._answer(sms)


class Onlookers:
    """Who looks at a conversation right now."""

    def __init__(self) -> None:
        self.active: set[UUID] = set()

    async def look(
        self, user_ids: Sequence[UUID], conversation_id: UUID | None = None
    ) -> dict[UUID, Present]:
        return {user: Present(is_online=True, is_active=True) for user in user_ids
                if user in self.active}  # fmt: skip


class Limits:
    """A job's ``limit``: lets everything through but what was shut."""

    def __init__(self) -> None:
        self.shut: dict[str, int] = {}
        self.asked: list[str] = []

    async def __call__(self, name: str, *, retry_after_ms: int = 0) -> None:
        self.asked.append(name)
        if retry_after_ms:
            self.shut[name] = retry_after_ms
        if name in self.shut:
            raise Limited(name)


@dataclass
class Notified:
    """Notifications, and short ways to set a scene and to look at what came of it."""

    world: World
    settings: NotificationSettings = field(default_factory=NotificationSettings)
    sealer: Sealer | None = None
    clock: ManualClock = field(default_factory=lambda: ManualClock(NOON_MS))
    fcm: Pushes = field(default_factory=Pushes)
    apns: Pushes = field(default_factory=Pushes)
    mail: Mails = field(default_factory=Mails)
    sms: Texts = field(default_factory=Texts)
    presence: Onlookers = field(default_factory=Onlookers)
    limits: Limits = field(default_factory=Limits)
    senders: Senders | None = None
    parts: Notifications = field(init=False)

    def __post_init__(self) -> None:
        self.build()

    def build(self) -> None:
        """Put the services together, anew where settings have changed."""
        ways = Senders({"fcm": self.fcm, "apns": self.apns}, self.mail, self.sms)
        self.parts = put_together(
            self.world.database,
            self.settings,
            self.senders or ways,
            presence=self.presence,
            sealer=self.sealer,
            unsubscribe=lambda user_id, kind: f"https://chat.example/stop/{kind}",
            clock=self.clock,
            draw=lambda: 0.5,
            committed=self.world.committed,
        )

    def set(self, **changes: Any) -> None:
        """Change settings."""
        self.settings = msgspec.structs.replace(self.settings, **changes)
        self.build()

    @property
    def now(self) -> datetime:
        """The time."""
        return moment(self.clock.now_ms())

    async def people(self, count: int, **columns: Any) -> tuple[UUID, list[UUID]]:
        """Make a conversation with so many members, all of them with these columns."""
        conversation_id, users = await self.world.conversation(count)
        for name, value in columns.items():
            await self.world.database.execute(
                f"UPDATE users SET {name} = $1 WHERE id = ANY ($2::uuid[])", value, users
            )
        return conversation_id, users

    async def device(self, user_id: UUID, **options: Any) -> str:
        """Register a device; returns its token."""
        token = uuid4().hex
        provider = options.pop("provider", "fcm")
        await self.parts.targets.register(user_id, provider, token, **options)
        return token

    async def message(self, conversation_id: UUID, sender: UUID, **options: Any) -> UUID:
        """Send a message and tell nobody; returns its id."""
        sent = await self.world.send(conversation_id, sender, **options)
        found: UUID = sent.message_id
        return found

    async def tell(self, *message_ids: UUID) -> NotifyResult:
        """Tell of messages."""
        return await self.parts.notify.notify_messages(NotifyMessages(message_ids=message_ids))

    async def event(self, *users: UUID, key: str = "e1", **fields: Any) -> NotifyResult:
        """Tell of an event."""
        told = {"type": "billing.invoice", "title": "Your invoice", "body": "It is here."} | fields
        return await self.parts.notify.notify_event(
            NotifyEvent(user_ids=users, dedup_key=key, **told)
        )

    async def deliveries(self, channel: str | None = None) -> list[UUID]:
        """List deliveries, oldest first."""
        return await self.world.values(
            "SELECT id FROM notification_deliveries WHERE $1::text IS NULL OR channel = $1"
            " ORDER BY id",
            channel,
        )

    async def delivery(self, channel: str | None = None) -> UUID:
        """Find the only delivery."""
        (found,) = await self.deliveries(channel)
        return found

    async def dispatch(self, delivery_id: UUID) -> DeliveryResult:
        """Make a delivery."""
        return await self.parts.dispatcher.dispatch(delivery_id, limit=self.limits)

    async def row(self, delivery_id: UUID) -> Any:
        """Read a delivery."""
        return await self.world.database.fetchrow(
            "SELECT * FROM notification_deliveries WHERE id = $1", delivery_id
        )

    async def jobs(self, action: str) -> list[dict[str, Any]]:
        """List the jobs of one action that wait in the outbox."""
        return await self.world.values(
            "SELECT payload FROM outbox WHERE topic = 'job' AND key = 'notification'"
            " AND payload->'data'->>'action' = $1 ORDER BY id",
            action,
        )

    async def events(self, user_id: UUID) -> list[dict[str, Any]]:
        """List the live events for a user."""
        return await self.world.values(
            "SELECT payload FROM outbox WHERE topic = 'user' AND key = $1 ORDER BY id",
            str(user_id),
        )


@asynccontextmanager
async def open_notified(url: str, **settings: str) -> AsyncIterator[Notified]:
    """Open notifications over a migrated database."""
    own: ProcessorSettings = from_env(settings)
    database: Database = await open_database(url, own)
    try:
        yield Notified(World(database, own), own.notification)
    finally:
        await database.close()

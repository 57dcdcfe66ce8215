"""Services over one database, and people to write to each other."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

from engine import Clock, SystemClock
from processors.database.pool import Database, open_database
from processors.services.conversations import ConversationService
from processors.services.encryption import EncryptionService
from processors.services.keys import LocalKeyring
from processors.services.messages import EnhancedMessageService
from processors.services.notifications import NotificationService
from processors.settings import ProcessorSettings, from_env
from schemas.messages import SendMessage


@dataclass
class World:
    """
    Services over one database, and short ways to set a scene.

    Attributes:
        database: The pool.
        conversations: The service under test.
        messages: The service under test.
        commits: One entry per commit that left an event.
        listeners: Called at each of them.
    """

    database: Database
    settings: ProcessorSettings
    clock: Clock = field(default_factory=SystemClock)
    encryption: EncryptionService = field(init=False)
    conversations: ConversationService = field(init=False)
    messages: EnhancedMessageService = field(init=False)
    commits: list[None] = field(default_factory=list)
    listeners: list[Callable[[], None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.encryption = EncryptionService(
            self.database,
            LocalKeyring({"a": bytes(32)}),
            self.settings.encryption,
            clock=self.clock,
        )
        self.conversations = ConversationService(self.database, committed=self.committed)
        self.messages = self.messages_with(self.encryption)

    def messages_with(self, encryption: EncryptionService) -> EnhancedMessageService:
        """Make the service over another encryption."""
        return EnhancedMessageService(
            self.database,
            self.conversations,
            sealer=encryption,
            notices=NotificationService(
                self.database,
                self.settings.notification,
                clock=self.clock,
                draw=lambda: 0.0,
                committed=self.committed,
            ),
            settings=self.settings,
            clock=self.clock,
            committed=self.committed,
        )

    def committed(self) -> None:
        """Take note of a commit, and tell whoever wants to know."""
        self.commits.append(None)
        for listener in self.listeners:
            listener()

    async def conversation(self, members: int) -> tuple[UUID, list[UUID]]:
        """Make a conversation with that many members."""
        conversation_id = uuid4()
        users = [uuid4() for _ in range(members)]
        await self.conversations.ensure(
            conversation_id, "test", [(user, f"user {n}") for n, user in enumerate(users)]
        )
        return conversation_id, users

    async def user(self) -> UUID:
        """Make a user who is in no conversation."""
        user_id = uuid4()
        await self.database.execute(
            "INSERT INTO users (id, display_name) VALUES ($1, 'somebody')", user_id
        )
        return user_id

    async def send(
        self, conversation_id: UUID, sender: UUID, *, client_id: str = "", content: str = "hello"
    ) -> Any:
        """Send a message."""
        return await self.messages.send(
            SendMessage(
                conversation_id=conversation_id,
                sender_id=sender,
                content=content,
                client_message_id=client_id or str(uuid4()),
            )
        )

    async def value(self, statement: str, *arguments: Any) -> Any:
        """Return the first column of the first row."""
        row = await self.database.fetchrow(statement, *arguments)
        return None if row is None else row[0]

    async def values(self, statement: str, *arguments: Any) -> list[Any]:
        """Return the first column of all rows."""
        return [row[0] for row in await self.database.fetch(statement, *arguments)]


@asynccontextmanager
async def open_world() -> AsyncIterator[World]:
    """Open services in a process of their own, on the database that the environment names."""
    settings = from_env({})
    database = await open_database(os.environ["ENGINE_POSTGRES_URL"], settings)
    try:
        yield World(database, settings)
    finally:
        await database.close()

"""
Who may not stay.

Removals and revocations are events, which may be lost; so all of it is looked up again every few
seconds. Of thousands of users and members a part is looked at each time, in turn; all at once
after Redis was lost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar
from uuid import UUID

import structlog
from redis.exceptions import RedisError

from engine import Clock
from processors.realtime.channels import DatabaseTrouble
from processors.realtime.counters import Counters
from processors.realtime.hub import Hub
from processors.realtime.socket import Code, End
from processors.services.sessions import RevocationService
from processors.services.sync import SyncService
from processors.settings.gateway import GatewaySettings

log = structlog.get_logger("processors.gateway")

OVERLAP_MS: Final = 10_000
"""How far behind the newest revocation is looked again: they need not be recorded in order."""

PART: Final = 5_000
"""Users, and members, looked at in one go: those of most gateways, and no more than a moment."""

Item = TypeVar("Item")

Trouble = (*DatabaseTrouble, RedisError, OSError, TimeoutError)


class Watch:
    """
    Looks up users, sessions and memberships of all sockets.

    Args:
        hub: Where sockets are.
        sync: Knows who is gone.
        revocations: Know which sessions ended.
        settings: The gateway's.
        clock: Gives time and chance.
        counters: What is counted.
    """

    def __init__(
        self,
        hub: Hub,
        sync: SyncService,
        revocations: RevocationService,
        settings: GatewaySettings,
        clock: Clock,
        *,
        counters: Counters,
    ) -> None:
        self._hub = hub
        self._sync = sync
        self._revocations = revocations
        self._settings = settings
        self._clock = clock
        self._counters = counters
        self._seen_ms = 0
        self._users: list[UUID] = []
        self._members: list[tuple[UUID, UUID]] = []
        self._is_all = False

    async def run(self) -> None:
        """Look every few seconds, until cancelled."""
        while True:
            await self._clock.sleep(self._settings.recheck_ms / 1_000)
            await self.look()

    async def look(self) -> None:
        """Look once; what cannot be looked up is left to the next time."""
        self._look_at_ages()
        failed = False
        for check in (self._look_at_sessions, self._look_at_users, self._look_at_members):
            try:
                await check()
            except Trouble as error:
                failed = True
                log.debug("gateway_check_failed", check=check.__name__, error=type(error).__name__)
        self._is_all = self._is_all and failed

    def forget(self) -> None:
        """Look at everything the next time, as after Redis was lost."""
        self._seen_ms = 0
        self._is_all = True

    def _look_at_ages(self) -> None:
        oldest_s = self._clock.monotonic() - self._settings.socket_ms_max / 1_000
        for socket in self._hub.sockets():
            if socket.opened_s <= oldest_s:
                socket.end(End(Code.UNAUTHENTICATED, "expired"))

    async def _look_at_sessions(self) -> None:
        if not self._hub.users:
            return
        issued_ms = min(socket.grant.issued_ms for socket in self._hub.sockets())
        since_ms = max(issued_ms, self._seen_ms - OVERLAP_MS)
        for revoked in await self._revocations.since(since_ms):
            self._seen_ms = max(self._seen_ms, revoked.at_ms)
            self._hub.revoke(revoked)

    async def _look_at_users(self) -> None:
        part, self._users = _next_part(self._users, lambda: sorted(self._hub.users), self._is_all)
        for user_id in await self._sync.gone_users(part):
            for socket in list(self._hub.users.get(user_id, ())):
                self._counters.revoked += 1
                socket.end(End(Code.FORBIDDEN, "user-disabled"))

    async def _look_at_members(self) -> None:
        part, self._members = _next_part(self._members, self._pairs, self._is_all)
        for conversation_id, user_id in await self._sync.gone_members(part):
            if conversation_id in self._hub.channels:
                self._hub.channels[conversation_id].remove(user_id)

    def _pairs(self) -> list[tuple[UUID, UUID]]:
        pairs = {
            (channel.conversation_id, socket.user_id)
            for channel in self._hub.channels.values()
            for socket in channel.subscriptions
        }
        return sorted(pairs)


def _next_part(
    rest: list[Item], everything: Callable[[], list[Item]], is_all: bool
) -> tuple[list[Item], list[Item]]:
    """Return what to look at now, and what is left of this round; a new one follows its end."""
    todo = everything() if is_all or not rest else rest
    return (todo, []) if is_all else (todo[:PART], todo[PART:])

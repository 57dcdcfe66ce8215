"""
Who may not stay.

Removals and revocations are events, which may be lost; so all of it is looked up again every few
seconds, in statements that do not grow with the number of sockets.
"""

from __future__ import annotations

from typing import Final

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

    async def run(self) -> None:
        """Look every few seconds, until cancelled."""
        while True:
            await self._clock.sleep(self._settings.recheck_ms / 1_000)
            await self.look()

    async def look(self) -> None:
        """Look once; what cannot be looked up is left to the next time."""
        self._look_at_ages()
        for check in (self._look_at_sessions, self._look_at_users, self._look_at_members):
            try:
                await check()
            except Trouble as error:
                log.debug("gateway_check_failed", check=check.__name__, error=type(error).__name__)

    def forget(self) -> None:
        """Look at all revocations the next time, as after Redis was lost."""
        self._seen_ms = 0

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
        for user_id in await self._sync.gone_users(list(self._hub.users)):
            for socket in list(self._hub.users.get(user_id, ())):
                self._counters.revoked += 1
                socket.end(End(Code.FORBIDDEN, "user-disabled"))

    async def _look_at_members(self) -> None:
        pairs = {
            (channel.conversation_id, socket.user_id)
            for channel in self._hub.channels.values()
            for socket in channel.subscriptions
        }
        for conversation_id, user_id in await self._sync.gone_members(sorted(pairs)):
            if conversation_id in self._hub.channels:
                self._hub.channels[conversation_id].remove(user_id)

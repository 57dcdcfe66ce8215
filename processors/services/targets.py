"""The devices and browsers that users are reached on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal
from uuid import UUID

from engine import Clock
from processors.database.pool import Database
from processors.database.statements import preferences as statements
from processors.errors import Refused
from processors.senders.base import Provider
from processors.services.deliveries import moment

TOKEN_CHARS_MAX = 4_096


class TargetService:
    """
    Keeps push targets over their life: registered by an app, disabled by a provider's answer.

    Args:
        database: Where they are.
        clock: Tells when one was registered.
    """

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def register(
        self,
        user_id: UUID,
        provider: Provider,
        token: str,
        *,
        app_id: str = "",
        device_id: str = "",
        kind: Literal["token", "fid", "subscription"] = "token",
        keys: Mapping[str, str] | None = None,
        environment: Literal["production", "sandbox"] = "production",
    ) -> UUID:
        """
        Register a device, at each start of the app; the same token again is the same device.

        A token that was another user's is theirs no more. A device's older token is disabled.

        Args:
            user_id: Whose it is now.
            provider: Through whom it is reached.
            token: Its address: for web push the endpoint.
            app_id: The APNs topic, or the Firebase project.
            device_id: The app's own name for the device, if it has one.
            kind: What the token is.
            keys: For web push: ``p256dh`` and ``auth``.
            environment: For APNs.

        Raises:
            Refused: ``invalid-target`` or ``unknown-user``.
        """
        if not 1 <= len(token) <= TOKEN_CHARS_MAX or not token.isprintable():
            raise Refused("invalid-target", "a token is 1 to 4,096 printable characters")
        if (kind == "subscription") != (provider == "webpush"):
            raise Refused("invalid-target", "subscriptions are those of web push")
        row = await self._database.fetchrow(
            statements.REGISTER, user_id, provider, app_id, token, device_id, kind,
            dict(keys or {}), environment, moment(self._clock.now_ms()),
        )  # fmt: skip
        if row is None:
            raise Refused("unknown-user", f"there is no user {user_id}")
        found: UUID = row["id"]
        return found

    async def unregister(self, user_id: UUID, *, device_id: str = "", token: str = "") -> int:
        """Disable a user's device, as signing out does; returns how many targets it had."""
        rows = await self._database.fetch(
            statements.UNREGISTER, user_id, device_id, token, moment(self._clock.now_ms())
        )
        return len(rows)

"""Settings of notifications."""

from __future__ import annotations

import msgspec


class NotificationSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of notifications, ``PROCESSORS_NOTIFICATION_*``."""

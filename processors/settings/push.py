"""Settings of push notifications."""

from __future__ import annotations

import msgspec


class PushSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of push notifications, ``PROCESSORS_PUSH_*``."""

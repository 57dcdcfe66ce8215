"""Settings of the WebSocket gateway."""

from __future__ import annotations

import msgspec


class GatewaySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of the WebSocket gateway, ``PROCESSORS_GATEWAY_*``."""

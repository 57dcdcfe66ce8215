"""Settings of retention."""

from __future__ import annotations

import msgspec


class RetentionSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of retention, ``PROCESSORS_RETENTION_*``."""

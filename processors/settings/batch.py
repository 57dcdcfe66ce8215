"""Settings of messages to many recipients."""

from __future__ import annotations

import msgspec


class BatchSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of messages to many recipients, ``PROCESSORS_BATCH_*``."""

"""Settings of encryption."""

from __future__ import annotations

import msgspec


class EncryptionSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of encryption, ``PROCESSORS_ENCRYPTION_*``."""

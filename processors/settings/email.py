"""Settings of email."""

from __future__ import annotations

import msgspec


class EmailSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of email, ``PROCESSORS_EMAIL_*``."""

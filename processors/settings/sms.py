"""Settings of SMS."""

from __future__ import annotations

import msgspec


class SmsSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of SMS, ``PROCESSORS_SMS_*``."""

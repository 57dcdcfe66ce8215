"""Settings of the object store."""

from __future__ import annotations

import msgspec


class ObjectSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of the object store, ``PROCESSORS_OBJECTS_*``."""

"""Settings of search."""

from __future__ import annotations

import msgspec


class SearchSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of search, ``PROCESSORS_SEARCH_*``."""

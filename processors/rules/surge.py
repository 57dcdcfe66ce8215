"""Tells one bad address from a set-up under which every address is bad."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final
from uuid import UUID

GROUPS_MAX: Final = 1_000


class Surge:
    """
    Counts the different targets that were refused in a row, per group such as an app.

    A wrong environment, app or key makes a provider refuse every target in words that would mean,
    of a single one, that it is no longer valid.

    Args:
        targets: So many in a row, and none accepted between, are a surge.
    """

    def __init__(self, targets: int) -> None:
        self._targets = targets
        self._refused: OrderedDict[str, set[UUID]] = OrderedDict()

    def accepted(self, group: str) -> None:
        """Note that a target was accepted, so the set-up is well."""
        self._refused.pop(group, None)

    def refused(self, group: str, target_id: UUID) -> bool:
        """Note that a target was refused; say whether it is one of a surge."""
        seen = self._refused.setdefault(group, set())
        self._refused.move_to_end(group)
        if len(self._refused) > GROUPS_MAX:
            self._refused.popitem(last=False)
        if len(seen) < self._targets:
            seen.add(target_id)
        return len(seen) >= self._targets

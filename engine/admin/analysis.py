"""What dead letters have in common: from the counts that settlements keep, or entry by entry."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

import msgspec

from engine.store.operator import Found, OperatorStore
from schemas.stats import DeadAnalysis, DeadFilter, DeadGroup

GROUPS_MAX = 10_000
"""Fingerprints told apart, so that an analysis needs no more memory however many died."""

OTHER = "other"
"""The group of what is beyond; settlements call theirs so, too."""

Progress = Callable[[int, int], None]
"""Told how many dead letters were looked at, of how many at most."""


class Tally(msgspec.Struct):
    """One group while it is counted; the attributes are those of :class:`DeadGroup`."""

    type: str
    reason: str
    kind: str
    message: str
    sample: str
    first_ms: int
    last_ms: int
    jobs: int = 0

    def add(self, at_ms: int) -> None:
        """Count one more death."""
        self.jobs += 1
        self.first_ms = min(self.first_ms, at_ms)
        self.last_ms = max(self.last_ms, at_ms)


class Survey:
    """
    Counts dead letters by fingerprint; what it keeps does not grow with their number.

    Attributes:
        matched: How many were counted.
    """

    def __init__(self) -> None:
        self.matched = 0
        self._tallies: dict[str, Tally] = {}

    def add(self, jobs: Iterable[Found]) -> None:
        """Count some more; what no engine wrote belongs to no group."""
        for found in jobs:
            self.matched += 1
            if found.record is not None:
                self._tally(found).add(found.at_ms)

    def _tally(self, found: Found) -> Tally:
        record = found.record
        assert record is not None
        known = self._tallies.get(record.fingerprint)
        if known is None and len(self._tallies) >= GROUPS_MAX:
            known = self._tallies.get(OTHER)
            if known is None:
                known = self._tallies[OTHER] = Tally("", "", "", "", "", found.at_ms, 0)
        if known is None:
            error = record.error
            known = self._tallies[record.fingerprint] = Tally(
                *(record.type, record.reason, error.kind, error.message, record.id),
                first_ms=found.at_ms,
                last_ms=0,
            )
        return known

    def groups(self) -> list[DeadGroup]:
        """List the groups, the largest first."""
        found = [
            DeadGroup(fingerprint=name, **msgspec.structs.asdict(tally))
            for name, tally in self._tallies.items()
        ]
        return sorted(found, key=lambda group: (-group.jobs, -group.last_ms))


async def survey(
    store: OperatorStore, queue: str, wanted: DeadFilter, progress: Progress | None = None
) -> DeadAnalysis:
    """Read the dead letters that fit a filter in bounded chunks, and group them."""
    dead = await store.dead.count(queue)
    # What dies from now on is left out, so that this ends however fast jobs die.
    until = await store.dead.last(queue)
    counted, searched = Survey(), 0
    if until:
        async for part in store.dead.matching(queue, wanted, until=until):
            searched += part.searched
            counted.add(part.jobs)
            if progress is not None:
                progress(searched, dead)
    return analyse(queue, counted.groups(), dead, matched=counted.matched, searched=searched)


def analyse(
    queue: str, groups: list[DeadGroup], dead: int, *, matched: int, searched: int = 0
) -> DeadAnalysis:
    """Sum groups up."""
    by_type: Counter[str] = Counter()
    by_reason: Counter[str] = Counter()
    for group in groups:
        by_type[group.type or OTHER] += group.jobs
        by_reason[group.reason or OTHER] += group.jobs
    return DeadAnalysis(
        queue=queue,
        dead=dead,
        matched=matched,
        searched=searched,
        groups=groups,
        by_type=dict(by_type.most_common()),
        by_reason=dict(by_reason.most_common()),
        uncounted=matched - sum(group.jobs for group in groups),
    )

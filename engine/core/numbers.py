"""
Minute counters ⇄ what charts are made of: reading, merging, percentiles. Pure.

Percentiles come from merged buckets and are never averaged: a bucket of a day is the sum of the
buckets of its minutes, so what they say of the day is as true as what they say of a minute.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest

import msgspec

from schemas.numbers import (
    BOUNDS_S,
    HOUR_MS,
    MINUTE_MS,
    QUARTER_MS,
    Levels,
    Numbers,
    Spread,
)

RUN, WAIT, LEVELS, DEATHS = "run", "wait", "levels", "deaths"
"""What follows the minute in the name of a field; anything else is an outcome."""

MINUTES_PER_HOUR = HOUR_MS // MINUTE_MS
MINUTES_PER_QUARTER = QUARTER_MS // MINUTE_MS
QUARTERS_PER_HOUR = HOUR_MS // QUARTER_MS
DEATHS_MAX = 100
"""Fingerprints that are told apart in what is kept of a quarter."""

OTHER = "other"

# Both are lists of numbers with commas, which is JSON but for the brackets.
_counts = msgspec.json.Decoder(list[int])
_levels = msgspec.json.Decoder(Levels)
_quarter = msgspec.json.Decoder(Numbers)
_encode = msgspec.json.Encoder().encode


def counts_text(counts: Sequence[int]) -> str:
    """Write counts per bucket as fields hold them; empty buckets at the end are left out."""
    last = max((at for at, count in enumerate(counts) if count), default=-1)
    return ",".join(map(str, counts[: last + 1]))


def read_counts(text: bytes) -> list[int]:
    """Read counts per bucket; what is none counts as empty."""
    try:
        return _counts.decode(b"[%b]" % text)[: len(BOUNDS_S) + 1]
    except msgspec.MsgspecError:
        return []


def levels_text(levels: Levels) -> str:
    """Write levels as a field holds them."""
    return ",".join(map(str, msgspec.structs.astuple(levels)))


def read_levels(text: bytes) -> Levels | None:
    """Read levels; None where they make no sense."""
    try:
        return _levels.decode(b"[%b]" % text)
    except msgspec.MsgspecError:
        return None


def read_minutes(fields: Mapping[bytes, bytes]) -> dict[int, Numbers]:
    """Read the hash of an hour: Unix minute → what was counted in it."""
    found: dict[int, Numbers] = {}
    for name, value in fields.items():
        parts = name.decode("utf-8", "replace").split(":", 2)
        if len(parts) == 3 and parts[0].isdigit():
            add_field(found.setdefault(int(parts[0]), Numbers()), parts[1], parts[2], value)
        elif len(parts) == 2 and parts[0].isdigit() and parts[1] == LEVELS:
            numbers = found.setdefault(int(parts[0]), Numbers())
            numbers.last = numbers.most = read_levels(value)
    return found


def add_field(numbers: Numbers, kind: str, of: str, value: bytes) -> None:
    """Add what one field of a minute says."""
    match kind:
        case "run":
            numbers.run[of] = read_counts(value)
        case "wait":
            numbers.wait[of] = read_counts(value)
        case "deaths" if value.isdigit():
            numbers.deaths[of] = int(value)
        case _ if value.isdigit():
            numbers.ends.setdefault(kind, {})[of] = int(value)


def merged(parts: Iterable[Numbers | None]) -> Numbers | None:
    """Sum up parts in the order of time; None if nothing is known of any."""
    total: Numbers | None = None
    for part in parts:
        if part is None:
            continue
        total = total or Numbers()
        for outcome, types in part.ends.items():
            _add(total.ends.setdefault(outcome, {}), types)
        _add(total.deaths, part.deaths)
        for mine, theirs in ((total.run, part.run), (total.wait, part.wait)):
            for name, counts in theirs.items():
                mine[name] = summed([mine.get(name, []), counts])
        total.last = part.last or total.last
        total.most = _most(total.most, part.most)
    return total


def summed(counts: Iterable[Sequence[int]]) -> list[int]:
    """Add up counts per bucket."""
    return [sum(column) for column in zip_longest(*counts, fillvalue=0)]


def _add(mine: dict[str, int], theirs: Mapping[str, int]) -> None:
    for name, count in theirs.items():
        mine[name] = mine.get(name, 0) + count


def _most(one: Levels | None, other: Levels | None) -> Levels | None:
    if one is None or other is None:
        return one or other
    pairs = zip(msgspec.structs.astuple(one), msgspec.structs.astuple(other), strict=True)
    return Levels(*[max(pair) for pair in pairs])


def quarter_of(minutes: Mapping[int, Numbers], quarter: int) -> bytes:
    """Sum up the minutes of one quarter of an hour, as it is kept: ``{}`` if nothing is known."""
    first = quarter * MINUTES_PER_QUARTER
    total = merged(minutes.get(first + at) for at in range(MINUTES_PER_QUARTER))
    if total is None:
        return b"{}"
    total.deaths = _largest(total.deaths)
    return _encode(total)


def read_quarter(raw: bytes) -> Numbers | None:
    """Read what is kept of a quarter; None if nothing is known of it."""
    try:
        found = _quarter.decode(raw)
    except msgspec.MsgspecError:
        return None
    return None if found == Numbers() else found


def _largest(deaths: dict[str, int]) -> dict[str, int]:
    if len(deaths) <= DEATHS_MAX:
        return deaths
    ranked = sorted(deaths, key=lambda name: (-deaths[name], name))
    kept = {name: deaths[name] for name in ranked[: DEATHS_MAX - 1] if name != OTHER}
    kept[OTHER] = sum(deaths.values()) - sum(kept.values())
    return kept


def quantile_ms(counts: Sequence[int], share: float) -> float | None:
    """
    Estimate a quantile from counts per bucket.

    It lies within its bucket, by how far the bucket's own jobs reach. What is longer than the last
    bound counts as that bound.

    Args:
        counts: Per bucket, the shortest first.
        share: 0.95 for the 95th percentile.
    """
    total = sum(counts)
    if not total:
        return None
    rank, before, low = share * total, 0, 0.0
    for count, high in zip(counts, BOUNDS_S, strict=False):
        if count and before + count >= rank:
            return round(1e3 * (low + (high - low) * max(0.0, rank - before) / count), 3)
        before, low = before + count, high
    return 1e3 * BOUNDS_S[-1]


def spread_of(counts: Sequence[int]) -> Spread:
    """Say how durations are spread."""
    return Spread(
        count=sum(counts),
        p50_ms=quantile_ms(counts, 0.5),
        p95_ms=quantile_ms(counts, 0.95),
        p99_ms=quantile_ms(counts, 0.99),
    )


def failing_share(done: int, retried: int, dead: int) -> float | None:
    """The share of attempts that were retried or ended dead; None without any."""
    ended = done + retried + dead
    return (retried + dead) / ended if ended else None

"""Durations and moments for people. Pure."""

from __future__ import annotations

from datetime import UTC, datetime

_FAR_MS = 12 * 3_600_000


def span(ms: float) -> str:
    """Write a duration for people: its two largest units."""
    if ms < 1000:
        return f"{max(0, round(ms))} ms"
    seconds = int(ms // 1000)
    if seconds < 60:
        return f"{ms / 1000:.1f} s" if seconds < 10 else f"{seconds} s"
    for unit, size, lower, part in (("d", 86_400, "h", 3_600), ("h", 3_600, "m", 60)):
        if seconds >= size:
            rest = seconds % size // part
            told = f"{rest:02d}" if lower == "m" else rest
            return (
                f"{seconds // size} {unit} {told} {lower}" if rest else f"{seconds // size} {unit}"
            )
    rest = seconds % 60
    return f"{seconds // 60} m {rest:02d} s" if rest else f"{seconds // 60} m"


def until(at_ms: int, now_ms: int) -> str:
    """Write a moment in UTC, to the second; with its day where it is not near."""
    if not 0 < at_ms < 253_402_300_800_000:
        return "for ever"
    moment = datetime.fromtimestamp(at_ms / 1000, UTC)
    near = abs(at_ms - now_ms) < _FAR_MS
    return moment.strftime("until %H:%M:%S UTC" if near else "until %Y-%m-%d %H:%M:%S UTC")


def many(count: int, name: str) -> str:
    """Write a number of things."""
    return f"{count} {name}{'s' * (count != 1)}"


def a_list(parts: list[str]) -> str:
    """Join parts with commas and an `and`."""
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} and {parts[-1]}"

"""Counts one stream that has the engines' group. Pure but for the commands it names."""

from __future__ import annotations

from typing import Any

from engine.store.link import Command
from engine.store.operator.link import entry_ms, pairs
from engine.wire.keys import GROUP, RELEASED
from schemas.stats import LaneStats

COMMANDS = 4


def counting(key: str) -> list[Command]:
    """Name the commands whose answers tell how many jobs of a stream wait, and how many run."""
    return [
        (b"XLEN", key),
        (b"XPENDING", key, GROUP),
        (b"XINFO", b"GROUPS", key),
        (b"XPENDING", key, GROUP, "-", "+", 1, RELEASED),
    ]


def first_fresh(key: str, replies: list[Any]) -> Command:
    """Name the command that finds the oldest entry that no engine was given."""
    return (b"XRANGE", key, f"({delivered_of(replies[2])}", "+", b"COUNT", 1)


def counted(replies: list[Any], first: list[Any] | None, now_ms: int) -> LaneStats:
    """Read the answers."""
    length, summary, _, back = replies
    consumers = dict((summary and summary[3]) or [])
    handed_back = int(consumers.get(RELEASED.encode(), 0))
    # Two reads may straddle a settlement, so neither difference may go below zero.
    active = max(0, (summary[0] if summary else 0) - handed_back)
    oldest = [entry_ms(entries[0][0]) for entries in (first, back) if entries]
    return LaneStats(
        waiting=max(0, (length or 0) - active),
        active=active,
        oldest_ms=max([0, *(now_ms - at_ms for at_ms in oldest)]),
    )


def delivered_of(groups: list[list[bytes]] | None) -> str:
    """Read the last delivered id off the answer of XINFO GROUPS."""
    for group in map(pairs, groups or []):
        if group[b"name"] == GROUP.encode():
            return group[b"last-delivered-id"].decode()
    return "0-0"

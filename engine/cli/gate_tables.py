"""Limits and gates of a queue, as tables."""

from __future__ import annotations

from collections.abc import Sequence

from engine.cli.output import Cell, age, print_table
from schemas.gates import GateStats, LimitStats


def gate_pairs(gates: GateStats | None) -> list[tuple[str, Cell]]:
    """Say how many jobs wait behind the gates of a queue."""
    if gates is None:
        return []
    parked = f"{gates.parked}: {gates.by_key} behind their keys, {gates.by_limit} behind limits"
    more = "more than " if gates.blocked_keys_more else ""
    blocked = f"{more}{gates.blocked_keys} by dead jobs: retry or discard these"
    return [
        ("parked", parked if gates.parked else ""),
        ("on dead", "the job's key is blocked" if gates.on_dead == "block" else ""),
        ("blocked keys", (blocked, "red") if gates.blocked_keys else ""),
    ]


def print_limits(limits: Sequence[LimitStats]) -> None:
    """Print limits and how they stand."""
    print_table(
        ["LIMIT", ">RUNNING", ">TOKENS", ">PARKED", "SHUT", "FROM", "RULE"],
        [_row(each) for each in limits],
    )


def _row(each: LimitStats) -> list[Cell]:
    full = bool(each.places) and each.used >= each.places
    running = f"{each.used} of {each.places}" if each.places else str(each.used)
    return [
        each.name,
        (running, "yellow" if full else ""),
        "-" if each.tokens is None else f"{each.tokens:.0f}",
        str(each.parked),
        (f"opens {age(each.shut_until_ms)}" if each.shut_until_ms else "", "yellow"),
        "code" if each.declared else "operator" if each.rule else "",
        each.rule or "none",
    ]

"""
The tombstones of cancelled jobs: what ``mq:{queue}:cancelled`` holds.

A person with ``redis-cli`` may write one too, so anything that stands there counts: ``{}`` is
enough, and what cannot be read is taken for the reason.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from schemas.job import Tombstone

TOMBSTONES_MAX = 10_000
"""Cancelled jobs of one queue that may wait for their ends."""

CANCELLED = "Cancelled"
"""The kind of error in the record of a job that was cancelled by order."""

_TEXT_MAX = 500
_RAW_MAX = 2_000
_decode = msgspec.json.Decoder(Tombstone).decode


def read_tombstone(raw: bytes) -> Tombstone:
    """Read one tombstone; never raises."""
    try:
        return _decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError, RecursionError):
        return Tombstone(reason=raw.decode("utf-8", "replace")[:_TEXT_MAX])


def mark(raw: bytes) -> str:
    """Write a tombstone as :class:`schemas.job.Meta` carries it."""
    return raw[:_RAW_MAX].hex()


def read_mark(text: str) -> Tombstone:
    """Undo :func:`mark`; never raises."""
    try:
        return read_tombstone(bytes.fromhex(text))
    except ValueError:
        return Tombstone()


def read_tombstones(flat: Sequence[bytes]) -> dict[str, Tombstone]:
    """Read names and values in turn; at most :data:`TOMBSTONES_MAX`."""
    pairs = zip(flat[::2], flat[1::2], strict=True)
    return {
        name.decode("utf-8", "replace"): read_tombstone(raw)
        for _, (name, raw) in zip(range(TOMBSTONES_MAX), pairs, strict=False)
    }


def describe(tombstone: Tombstone) -> str:
    """Say who cancelled and why, in the words of a job's record."""
    who = f"cancelled by {tombstone.who}" if tombstone.who else "cancelled"
    text = f"{who}: {tombstone.reason}" if tombstone.reason else who
    return text[:_TEXT_MAX].encode("utf-8", "replace").decode()

"""What the model knows of one flow."""

from __future__ import annotations

import msgspec


class FlowModel(msgspec.Struct):
    """
    One flow.

    Attributes:
        job: The parent: lane, then its fields, packed.
        states: What is known of each child, one letter each.
        redrives: How often the parent had been brought back when it opened.
        wants: Whether results are kept.
        kept: Bytes of results.
        results: JSON by child.
        failures: JSON of those that ended dead, the one that closed it first.
        closed: How it was closed, or an empty string.
    """

    job: bytes
    states: str
    redrives: int
    wants: bool
    kept: int = 0
    results: dict[int, bytes] = {}
    failures: list[bytes] = []
    cause: bytes = b""
    closed: str = ""

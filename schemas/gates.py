"""What waits behind gates, as the page and ``--json`` print it: order by key, and limits."""

from __future__ import annotations

from typing import Literal

import msgspec

OnDead = Literal["continue", "block"]


class LimitStats(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """
    One limit of a queue, over all engines.

    Attributes:
        name: ``queue``, ``type:<type>``, a name of one's own, or a group such as ``tenant=acme``.
        rule: What it allows, in words; empty where no rule bounds it.
        rate: Starts per ``per_ms``; 0 for any number.
        per_ms: The span that ``rate`` counts by.
        burst: Starts at once after a silence.
        tokens: Starts that it would let through now; None without a rate.
        places: Jobs at a time; 0 for any number.
        used: Places that are taken now.
        shut_until_ms: Nobody is let through before that, Unix ms; 0 where it is not shut.
        parked: Jobs that wait for it.
        declared: The rule comes from the code, and not from an operator.
        by: Where jobs tell their group, for the rule of a group.
        share: Where jobs tell their share.
    """

    name: str
    rule: str = ""
    rate: float = 0
    per_ms: int = 1_000
    burst: int = 0
    tokens: float | None = None
    places: int = 0
    used: int = 0
    shut_until_ms: int = 0
    parked: int = 0
    declared: bool = False
    by: str = ""
    share: str = ""


class GateStats(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """
    What waits behind the gates of a queue; these jobs count as waiting.

    Attributes:
        parked: Jobs that wait behind another of their key, or for a limit.
        by_key: Those that wait for their key.
        by_limit: Those that wait for a limit.
        on_dead: What a dead job does to its key.
        blocked_keys: Keys that dead jobs keep.
        blocked_keys_more: There may be more of them: not all keys were looked at.
        limits: The limits that have a rule, that somebody waits for, or that are shut.
    """

    parked: int = 0
    by_key: int = 0
    by_limit: int = 0
    on_dead: OnDead = "continue"
    blocked_keys: int = 0
    blocked_keys_more: bool = False
    limits: list[LimitStats] = []

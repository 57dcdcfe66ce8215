"""
Rules of limits, as operators write them and as the scripts read them.

A rule is kept as text in the queue's control hash, so that a person with ``redis-cli`` can read
and set it: ``RATE PER_MS BURST PLACES`` and then words such as ``by=header:tenant``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import msgspec
import orjson

from engine.errors import EngineError
from schemas.rules import DELAY_MS_MAX

QUEUE = "queue"
"""The name of the limit that all jobs of a queue go by."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}(=\*)?")
SOURCE = re.compile(r"(header|data):[A-Za-z0-9_.-]{1,128}")
VALUE_CHARS_MAX = 128
COUNT_MAX = 1_000_000_000
"""More starts, or jobs at a time, than any queue has; numbers of any length end in no answer."""
SHARE = "\x02"
"""Stands between a limit's name and the share of it that a job goes by."""


class LimitRule(msgspec.Struct, frozen=True, kw_only=True):
    """
    What a limit allows, over all engines.

    Attributes:
        rate: Starts per ``per_ms``; 0 for any number.
        per_ms: The span that ``rate`` counts by.
        burst: Starts at once after a silence.
        places: Jobs at a time; 0 for any number.
        by: For a group's limit, named ``tenant=*``: where a job tells its group, as
            ``header:tenant`` or ``data:account.id``.
        share: Where a job tells whose share of the limit it goes by; empty for no shares.
        weights: Shares that are not 1.
        declared: Comes from the code, and not from an operator.
    """

    rate: float = 0
    per_ms: int = 1_000
    burst: int = 0
    places: int = 0
    by: str = ""
    share: str = ""
    weights: dict[str, int] = {}
    declared: bool = False

    def text(self) -> str:
        """Write the rule as the control hash keeps it."""
        words = [f"{self.rate:g}", str(self.per_ms), str(self.burst), str(self.places)]
        words += [f"by={self.by}"] if self.by else []
        words += [f"share={self.share}"] if self.share else []
        words += ["from=code"] if self.declared else []
        words += [f"{quote(name, safe='')}={weight}" for name, weight in self.weights.items()]
        return " ".join(words)

    def words(self) -> str:
        """Say it for people."""
        parts = []
        if self.rate:
            span = f"{self.per_ms / 1000:g} s" if self.per_ms != 1_000 else "s"
            parts.append(f"{self.rate:g} per {span} (burst {self.burst})")
        if self.places:
            parts.append(f"{self.places} at a time")
        if self.by:
            parts.append(f"for each {self.by}")
        if self.share:
            parts.append(f"shared by {self.share}")
        return ", ".join(parts) or "no bound of its own"


def make_rule(
    name: str,
    *,
    rate: float = 0,
    per_s: float = 1,
    burst: int | None = None,
    concurrency: int = 0,
    by: str = "",
    share: str = "",
    weights: Mapping[str, int] | None = None,
    declared: bool = False,
) -> LimitRule:
    """
    Build a rule and check it.

    Args:
        name: The limit: ``queue``, ``type:<type>``, a name of one's own, or ``<group>=*``.
        rate: Starts per ``per_s``; 0 for any number.
        per_s: Seconds that the rate counts by.
        burst: Starts at once after a silence; one second's worth if left out.
        concurrency: Jobs at a time over all engines; 0 for any number.
        by: Where a job tells its group.
        share: Where a job tells its share.
        weights: Shares that are not 1.
        declared: Comes from the code.

    Raises:
        EngineError: Something does not fit.
    """
    is_group = name.endswith("=*")
    problem = ""
    if not NAME.fullmatch(name):
        problem = f"must match {NAME.pattern}"
    elif rate < 0 or concurrency < 0 or per_s <= 0 or (burst is not None and burst < 1):
        problem = "rate and concurrency must be 0 or more, the span above 0, the burst 1 or more"
    elif is_group != bool(by):
        problem = "a group's limit is named <group>=* and says by what, as header:… or data:…"
    elif rate >= COUNT_MAX or max(concurrency, burst or 0) > COUNT_MAX:
        problem = f"rate, concurrency and burst must be below {COUNT_MAX}"
    elif per_s * 1000 > DELAY_MS_MAX * min(1, rate or 1):
        problem = f"the rate must let one start within {DELAY_MS_MAX // 86_400_000} days"
    elif any(where and not SOURCE.fullmatch(where) for where in (by, share)):
        problem = "groups and shares are told by header:<name> or data:<path>"
    elif any(not 1 <= weight <= 1_000 for weight in (weights or {}).values()):
        problem = "weights must be 1 to 1000"
    if problem:
        raise EngineError(f"limit {name!r}: {problem}")
    per_ms = max(1, round(per_s * 1000))
    if rate and burst is None:
        burst = max(1, round(rate * 1000 / per_ms))
    return LimitRule(
        rate=rate,
        per_ms=per_ms,
        burst=burst or 0,
        places=concurrency,
        by=by,
        share=share,
        weights=dict(weights or {}),
        declared=declared,
    )


def checked_name(name: str) -> str:
    """
    Write a limit's name as the scripts take it; the value of a group may be any text.

    Raises:
        ValueError: It is none.
    """
    group, is_group, value = name.partition("=")
    if not NAME.fullmatch(group) or (is_group and not value):
        raise ValueError(f"limit {name[:80]!r} must match {NAME.pattern}, or be <group>=<value>")
    return f"{group}={quote(value[:VALUE_CHARS_MAX], safe='')}" if is_group else name


def read_rule(text: str) -> LimitRule | None:
    """Read a rule; None where a stranger wrote something else."""
    words = text.split()
    try:
        rate, per_ms, burst, places = words[:4]
        told = dict(word.split("=", 1) for word in words[4:])
        rule = LimitRule(
            rate=float(rate),
            per_ms=int(per_ms),
            burst=int(burst),
            places=int(places),
            by=told.pop("by", ""),
            share=told.pop("share", ""),
            declared=told.pop("from", "") == "code",
            weights={name: int(weight) for name, weight in told.items()},
        )
    except ValueError:
        return None
    if rule.rate and not rule.burst:
        # A rate lets one through at least.
        rule = msgspec.structs.replace(rule, burst=1)
    return rule if 0 <= rule.rate < COUNT_MAX and _counts_fit(rule) else None


def _counts_fit(rule: LimitRule) -> bool:
    return (
        1 <= rule.per_ms <= DELAY_MS_MAX
        and 0 <= rule.burst <= COUNT_MAX
        and 0 <= rule.places <= COUNT_MAX
        and all(1 <= weight <= 1_000 for weight in rule.weights.values())
    )


def limits_of(
    names: tuple[str, ...],
    rules: Mapping[str, LimitRule],
    headers: Mapping[str, str],
    data: bytes,
) -> tuple[str, ...]:
    """
    Name the limits that a job goes by, as the scripts take them.

    Args:
        names: The limits of its type: the queue's, the type's, those its handler declares.
        rules: All rules of the queue.
        headers: The job's headers.
        data: Its payload, which is read where a rule asks for it.
    """
    found = []
    payload: list[Any] = []
    for name in names:
        rule = rules.get(name)
        share = _told(rule.share, headers, data, payload) if rule and rule.share else ""
        found.append(f"{name}{SHARE}{share}" if rule and rule.share else name)
    for name, rule in rules.items():
        if rule.by and (value := _told(rule.by, headers, data, payload)):
            found.append(f"{name[:-1]}{value}")
    return tuple(found)


def _told(where: str, headers: Mapping[str, str], data: bytes, payload: list[Any]) -> str:
    """What a job tells in a header or in its payload; empty where it tells nothing."""
    kind, _, name = where.partition(":")
    if kind == "header":
        value: Any = headers.get(name, "")
    else:
        if not payload:
            payload.append(_decoded(data))
        value = payload[0]
        for part in name.split("."):
            value = value.get(part) if isinstance(value, dict) else None
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    # What stands between parts of a line must not come from a payload.
    return quote(str(value)[:VALUE_CHARS_MAX], safe="")


def _decoded(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return None

"""Limits in the model: places, tokens, shares, and the lines of those who wait."""

from __future__ import annotations

import math
from bisect import bisect_left
from typing import NamedTuple

from engine.core.limits import LimitRule, read_rule
from engine.store.base import Settlement
from engine.store.gates import Behind
from engine.testing.events import Admitted
from engine.testing.gates_state import FAR, GatesState, Head, Noted, contents
from schemas.rules import LANES

WEIGHTED = ("low", *(("high",) * 4 + ("normal",)) * 4)
SHARES_MAX = 200
"""Lines of one limit that are compared."""


class Line(NamedTuple):
    """The first job of a line that waits for a limit."""

    lane: str
    line: bytes
    member: bytes
    ticket: bytes


class LimitsModel(GatesState):
    """What limits let through."""

    def _rule_of(self, name: bytes) -> LimitRule | None:
        # A group's limit is told by the group's name: tenant=acme goes by the rule of tenant=*.
        own = name.decode()
        group, is_one, _ = own.partition("=")
        text = self.control_hash.get(f"limit:{own}")
        if text is None and is_one:
            text = self.control_hash.get(f"limit:{group}=*")
        return read_rule(text or "")

    def _tokens_of(self, name: bytes, rule: LimitRule) -> float:
        if name not in self.tokens:
            return rule.burst
        tokens, at_ms = self.tokens[name]
        if at_ms > self.gates_ms():
            # The clock was set back: count from now on.
            self.tokens[name] = (tokens, self.gates_ms())
        gained = max(0, self.gates_ms() - at_ms) * rule.rate / rule.per_ms
        return min(rule.burst, tokens + gained)

    def _shut_until(self, name: bytes) -> int | None:
        """Until when a limit lets nobody through, if it is so."""
        if self.shut.get(name, 0) > self.gates_ms():
            return self.shut[name]
        self.shut.pop(name, None)
        return None

    def _limit_is_open(self, name: bytes) -> tuple[bool, float | None]:
        """Whether a limit lets a job through; if not, when it may, where time alone can tell."""
        now_ms = self.gates_ms()
        shut_ms = self._shut_until(name)
        if shut_ms is not None:
            return False, shut_ms
        rule = self._rule_of(name)
        if rule is not None and rule.rate > 0:
            tokens = self._tokens_of(name, rule)
            if tokens < 1:
                return False, now_ms + max(1, math.ceil((1 - tokens) * rule.per_ms / rule.rate))
        is_full = rule is not None and 0 < rule.places <= self.places[name]
        return not is_full, None

    def _take_token(self, name: bytes) -> None:
        rule = self._rule_of(name)
        if rule is not None and rule.rate > 0:
            left = round(self._tokens_of(name, rule) - 1, 3)
            self.tokens[name] = (left, self.gates_ms())

    def _give_back(self, limits: bytes) -> None:
        for limit in limits.split(b" ") if limits else []:
            name = name_of(limit)
            self._give_place(name)
            self.freed[name] += 1

    def _give_place(self, name: bytes) -> None:
        self.places[name] -= 1
        if self.places[name] <= 0:
            del self.places[name]

    def _wake(self, name: bytes, at_ms: float) -> None:
        self.due[name] = min(at_ms, self.due.get(name, math.inf))

    def _waits_before(self, lane: str, limit: bytes, ticket: bytes) -> bool:
        """Whether somebody comes first; a job of one share comes after whoever waits in any."""
        name = name_of(limit)
        if name != limit:
            return bool(self._next_share(lane, name, b"l" + name + b"\2"))
        _, first = self._first_of(lane, b"l" + limit)
        return bool(first) and first < ticket

    def _shut_limit(self, lane: str, ticket: bytes, limits: bytes, skip: bytes = b"") -> bytes:
        """The first limit that keeps a job back; nobody overtakes in a line."""
        for limit in limits.split(b" ") if limits else []:
            if limit == skip:
                continue
            name = name_of(limit)
            is_open, at_ms = self._limit_is_open(name)
            if not is_open:
                self._wake(name, FAR if at_ms is None else at_ms)
                return limit
            if self._waits_before(lane, limit, ticket):
                self._wake(name, self.gates_ms())
                return limit
        return b""

    def record_behind(self, settlement: Settlement) -> None:
        """Keep the jobs whose handlers met a limit."""
        for each in settlement.behind:
            self._use_gates()
            self._put_behind(each)

    def _put_behind(self, each: Behind) -> None:
        """A job whose handler met a limit waits for it."""
        self._keep(each.lane, each.member)
        is_open, at_ms = self._limit_is_open(each.limit.encode())
        far = FAR if at_ms is None else at_ms
        self._wake(each.limit.encode(), self.gates_ms() if is_open else far)

    def _let_start(self, stream: str, entry: bytes, head: Head, ticket: bytes) -> None:
        for limit in head.limits.split(b" ") if head.limits else []:
            self._take_token(name_of(limit))
            self.places[name_of(limit)] += 1
        paid = frozenset(map(name_of, head.limits.split()))
        self.admitted[stream, entry] = Noted("a", head, ticket, paid)
        self.emit(Admitted(self.name, stream, entry, head.job_id.decode()))

    # Letting through.

    def _next_share(self, lane: str, name: bytes, start: bytes) -> bytes:
        """The first member of the limit's shares at or after a place in the set."""
        members = self.parked[lane]
        at = bisect_left(members, start)
        found = members[at] if at < len(members) else b""
        return found if found and found < b"l" + name + b"\3" else b""

    def _next_of_lane(self, lane: str, name: bytes) -> Line | None:
        line = b"l" + name
        member, ticket = self._first_of(lane, line)
        if member:
            return Line(lane, line, member, ticket)
        # The line whose share has had the least comes first.
        found: dict[bytes, float] = {}
        start = line + b"\2"
        while len(found) < SHARES_MAX and (member := self._next_share(lane, name, start)):
            share = member.partition(b"\0")[0]
            found[share] = self.shares.get(share[1:], 0)
            start = share + b"\1"
        if not found:
            return None
        best = min(found, key=lambda share: found[share])
        return Line(lane, best, *self._first_of(lane, best))

    def _next_waiting(self, name: bytes) -> Line | None:
        self.turns += 1
        lanes = ("critical", WEIGHTED[self.turns % len(WEIGHTED)], *LANES[1:])
        lines = (self._next_of_lane(lane, name) for lane in lanes)
        return next((line for line in lines if line), None)

    def _count_share(self, line: bytes) -> None:
        name, _, share = line[1:].partition(b"\2")
        if not share:
            return
        rule = read_rule(self.control_hash.get(f"limit:{name.decode()}", ""))
        weight = rule.weights.get(share.decode(), 1) if rule else 1
        had = max(self.shares.get(name, 0), self.shares.get(line[1:], 0))
        self.shares[name] = had
        self.shares[line[1:]] = had + 1 / max(1, weight)

    def _release(self, name: bytes, most: int) -> int:
        """Let jobs of one limit through while it is open."""
        moved = 0
        for _ in range(most):
            found = self._next_waiting(name)
            if found is None:
                self.due.pop(name, None)
                break
            is_open, at_ms = self._limit_is_open(name)
            if not is_open:
                self.due[name] = FAR if at_ms is None else at_ms
                break
            self._move(found)
            moved += 1
        if moved == most:
            self._wake(name, self.gates_ms())
        return moved

    def _move(self, found: Line) -> None:
        """Let one job through, or to the line of another limit that keeps it back."""
        lane, line, member, ticket = found
        head, fields = contents(member, line)
        shut = self._shut_limit(lane, ticket, head.limits, line[1:])
        self.parked[lane].remove(member)
        if shut:
            self._park(lane, b"l" + shut, ticket, head, fields)
        else:
            self._let_start(*self._let_through(lane, fields), head, ticket)
            self._count_share(line)


def name_of(limit: bytes) -> bytes:
    """A limit's name, without the share of it that a job goes by."""
    return limit.partition(b"\2")[0]

"""What a job waits for in its lane, behind its key or for a limit, in words. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from engine.admin.words import a_list, many, span, until
from engine.core.lanes import STRICT
from engine.core.limits import SHARE
from engine.store.operator.gates import Facts
from schemas.gates import LimitStats
from schemas.rules import LANES
from schemas.stats import EngineStats, LaneStats


def in_lane(
    lane: str,
    lanes: Mapping[str, LaneStats],
    engines: Sequence[EngineStats],
    queue: str,
    facts: Facts,
) -> str:
    """
    Say what a job waits for that any engine may take.

    Args:
        lane: Its lane.
        lanes: All lanes of the queue.
        engines: Live engines that take its type.
        queue: The queue.
        facts: How many jobs wait before it.
    """
    place = f"waits in lane {lane}, {_before(facts, lanes, lane)}"
    loads = [engine.beat.queues[queue] for engine in engines]
    slots = sum(load.concurrency for load in loads)
    running = sum(load.running for load in loads)
    causes = []
    if slots and running >= slots:
        causes.append(f"all {slots} places of {many(len(engines), 'engine')} are taken")
    above = _above(lane, lanes, engines)
    if above:
        causes.append(above)
    if causes:
        return f"{place}; {a_list(causes)}"
    return f"{place}; {many(len(engines), 'engine')} will take it within a moment"


def _before(facts: Facts, lanes: Mapping[str, LaneStats], lane: str) -> str:
    if facts.ahead is None:
        return f"in which {many(lanes[lane].waiting if lane in lanes else 0, 'job')} wait"
    if facts.ahead_more:
        return f"behind more than {many(facts.ahead, 'job')}"
    return f"behind {many(facts.ahead, 'job')}" if facts.ahead else "first in line"


def _above(lane: str, lanes: Mapping[str, LaneStats], engines: Sequence[EngineStats]) -> str:
    """Say how lanes above a job's own keep it waiting: the strict one, and those of more weight."""
    if lane not in LANES:
        return ""
    busy = {name: lanes[name].waiting - lanes[name].parked for name in LANES if name in lanes}
    above = [name for name in LANES[: LANES.index(lane)] if busy.get(name)]
    if not above:
        return ""
    told = []
    if STRICT in above:
        told.append(f"the {many(busy[STRICT], 'job')} of lane {STRICT} go before all others")
    weights = next((each.beat.weights for each in engines if each.beat.weights), {})
    weighted = [name for name in LANES[1:] if busy.get(name) or name == lane]
    total = sum(weights.get(name, 1) for name in weighted)
    rest = [f"{name} ({busy[name]} waiting)" for name in above if name != STRICT]
    if rest:
        share = f"{weights.get(lane, 1)} of {total} turns" if weights else "the smaller share"
        told.append(f"by weight lane {lane} has {share} beside {a_list(rest)}")
    return a_list(told)


def behind_limit(limit: LimitStats, line: bytes, facts: Facts, now_ms: int) -> str:
    """Say what a job waits for that is parked for a limit."""
    share = line.decode("utf-8", "replace").partition(SHARE)[2]
    of = f" (share {share})" if share else ""
    ahead = facts.ahead or 0
    before = f"; {many(ahead, 'job')} of its line come before it" if ahead else ""
    return f"is parked behind limit {limit.name}{of}, {how_limited(limit, ahead, now_ms)}{before}"


def how_limited(limit: LimitStats, ahead: int, now_ms: int) -> str:
    """Say why a limit lets a job not through, and until when."""
    if limit.shut_until_ms > now_ms:
        left = span(limit.shut_until_ms - now_ms)
        return f"which is shut {until(limit.shut_until_ms, now_ms)}, for {left}"
    if limit.places and limit.used >= limit.places:
        return f"of which {limit.used} of {limit.places} places are taken"
    if limit.tokens is not None and limit.tokens < ahead + 1:
        left_ms = (ahead + 1 - limit.tokens) * limit.per_ms / limit.rate
        due_ms = now_ms + round(left_ms)
        return f"which allows {limit.rule}: {until(due_ms, now_ms)}, about {span(left_ms)}"
    return "which lets it through within a moment"

"""Why a job is where it is, in one sentence that an operator can act on. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from engine.admin.waits import behind_limit, how_limited, in_lane
from engine.admin.words import many, span, until
from engine.errors import Malformed
from engine.store.operator import Found
from engine.store.operator.gates import Facts, Turn
from engine.store.operator.in_flight import is_of
from engine.wire.flows import CHILDREN, child_id, read_children, unfinished
from engine.wire.tombstones import CANCELLED, describe
from schemas.flow import PENDING, SENT
from schemas.job import Tombstone
from schemas.stats import EngineStats, QueueStats

__all__ = ["Explainer", "span"]

CHILDREN_NAMED = 3


class Explainer:
    """
    Explains single jobs.

    Args:
        engines: The engines as they are now.
        now_ms: The server's clock, Unix ms.
    """

    def __init__(self, engines: Sequence[EngineStats], now_ms: int) -> None:
        self._engines = [engine for engine in engines if engine.live]
        self._now_ms = now_ms

    def why(
        self,
        found: Found,
        stats: QueueStats,
        tombstone: Tombstone | None = None,
        facts: Facts | None = None,
    ) -> str:
        """
        Say why a job is where it is.

        Args:
            found: The job.
            stats: Its queue.
            tombstone: The order to cancel it, if there is one.
            facts: What is known of the jobs and the limit that it waits for.
        """
        facts = facts or Facts()
        if tombstone is not None:
            return self._cancelled(found, stats, tombstone)
        match found.state:
            case "done":
                assert found.done is not None
                run_ms = found.done.run_us / 1000
                took = "less than 1 ms" if run_ms < 1 else span(run_ms)
                return f"done {self._ago(found.at_ms)}, after {took} on {found.done.engine}"
            case "dead":
                return self._dead(found, facts)
            case "active":
                return self._active(found)
            case "held":
                return self._held(found, stats)
            case "waiting-children":
                return self._waits_for_children(found, stats)
            case "delayed":
                return self._delayed(found, stats)
            case "waiting":
                return self._waiting(found, stats, facts)
            case "parked":
                return self._parked(found, stats, facts)

    def _cancelled(self, found: Found, stats: QueueStats, tombstone: Tombstone) -> str:
        when = f" {self._ago(tombstone.at_ms)}" if tombstone.at_ms else ""
        order = f"{describe(tombstone)}{when}"
        if found.state == "active":
            return f"{order}; its handler is being ended"
        if stats.paused:
            return f"{order}; it ends once queue {stats.queue} is resumed"
        served = self._unserved(found, stats)
        return f"{order}; {served or 'it ends when its turn comes'}"

    def _dead(self, found: Found, facts: Facts) -> str:
        if found.record is None:
            return "dead; no engine wrote this entry"
        record = found.record
        what = f"dead {self._ago(record.died_ms)}, {record.reason}"
        if record.error.kind == CANCELLED:
            # Its message begins with the word.
            what = f"dead {self._ago(record.died_ms)}, {record.error.message}"
        elif record.rule == "type-unknown":
            what += ": no handler of the engine takes its type; register one, then bring it back"
        elif record.rule:
            what += f": broke the rule {record.rule}" + (
                f" at {record.path}" if record.path else ""
            )
        elif record.attempts:
            what += f" after {record.attempts} attempt{'s' * (record.attempts != 1)}"
        unable = found.unable()
        if unable:
            what += f"; cannot be brought back: {unable}"
        if facts.turn is not None:
            what += f"; it blocks its key{_named(found.key)}: {_how_to_unblock(found, unable)}"
        return what

    def _active(self, found: Found) -> str:
        silent = span(self._now_ms - found.at_ms)
        # Beats tell whether the holder lives; how long a lease lasts is known to engines alone.
        if any(_holds(engine, found.consumer) for engine in self._engines):
            return f"with {found.consumer}, last sign of life {silent} ago"
        after = "once its lease is over"
        if not any(found.queue in engine.beat.queues for engine in self._engines):
            after = "as soon as one serves the queue"
        return (
            f"with {found.consumer}, silent for {silent}: its engine is gone, and another takes "
            f"the job over {after}"
        )

    def _held(self, found: Found, stats: QueueStats) -> str:
        for held in stats.held:
            if held.type == found.type and held.held:
                return (
                    f"type {held.type} was held {self._ago(held.since_ms)}: {held.reason}; "
                    f"release with `resume {stats.queue} --type {held.type}`"
                )
        served = self._unserved(found, stats)
        return served or f"the hold on {found.type} is released; engines are moving its jobs back"

    def _waits_for_children(self, found: Found, stats: QueueStats) -> str:
        left, total = unfinished(found.states), len(found.states)
        named = _children_left(found)
        what = f"waits for {left} of {total} child{'ren' * (total != 1)}"
        if named:
            what += f": {', '.join(named)}" + " and others" * (left > len(named))
        if PENDING in found.states and not stats.engines:
            count = found.states.count(PENDING)
            what += f"; {count} not sent yet: no engine serves queue {stats.queue}"
        return what

    def _delayed(self, found: Found, stats: QueueStats) -> str:
        left = found.at_ms - self._now_ms
        if left <= 0:
            return self._unserved(found, stats) or "due now; it moves to its lane within a moment"
        waits = f"waits {span(left)} {_purpose(found)}, {until(found.at_ms, self._now_ms)}"
        if found.key and found.ticket:
            waits += f"; meanwhile it keeps the turn of its key {found.key}"
        return f"{waits}; {self._pause(stats)}" if stats.paused else waits

    def _waiting(self, found: Found, stats: QueueStats, facts: Facts) -> str:
        if stats.paused:
            return self._pause(stats)
        for held in stats.held:
            if held.held and held.type == found.type:
                return f"type {held.type} is held: {held.reason}; it will be set aside"
        expires_ms = found.expires_ms
        if 0 < expires_ms <= self._now_ms:
            served = self._unserved(found, stats) or "its turn comes"
            return f"expired {self._ago(expires_ms)}; it ends dead when {served}"
        taking = [e for e in self._serving(stats) if found.type in _types(e, stats)]
        return self._unserved(found, stats) or in_lane(
            found.lane, stats.lanes, taking or self._serving(stats), stats.queue, facts
        )

    def _pause(self, stats: QueueStats) -> str:
        by = stats.paused_by
        who = f" by {by.who} {self._ago(by.at_ms)}" if by and by.who else ""
        reason = f" ({by.reason})" if by and by.reason else ""
        return f"queue {stats.queue} is paused{who}{reason}"

    def _parked(self, found: Found, stats: QueueStats, facts: Facts) -> str:
        causes = [self._pause(stats)] if stats.paused else []
        # Engines let jobs through, so without one nothing moves.
        unserved = self._unserved(found, stats)
        causes += [unserved] if unserved else []
        if facts.limit is not None:
            behind = behind_limit(facts.limit, found.line, facts, self._now_ms)
        else:
            behind = self._behind_key(found, stats, facts)
        return "; besides, it ".join([*causes, behind]) if causes else behind

    def _behind_key(self, found: Found, stats: QueueStats, facts: Facts) -> str:
        key, turn = found.line[1:].decode("utf-8", "replace"), facts.turn or Turn()
        ahead = (
            f"; {many(facts.ahead, 'more job')} of the key come before it" if facts.ahead else ""
        )
        if not turn.ticket:
            return f"is parked behind key {key}, which was free just now: look again{ahead}"
        holder = turn.job
        if holder is None:
            which = "a dead job" if turn.blocks else "a job"
            return (
                f"is parked behind {which} of key {key} with ticket {turn.ticket}, "
                f"which was not found among those looked at{ahead}"
            )
        return f"is parked behind job {holder.id} of key {key}, {self._does(turn, stats)}{ahead}"

    def _does(self, turn: Turn, stats: QueueStats) -> str:
        """Say what the job does that has the turn of a key."""
        job = turn.job
        assert job is not None
        match job.state:
            case "active":
                if any(_holds(engine, job.consumer) for engine in self._engines):
                    return f"which runs on {job.consumer}"
                return f"which is {self._active(job)}"
            case "dead":
                return f"which is dead and blocks it: {_how_to_unblock(job, job.unable())}"
            case "delayed":
                return f"which {self._delayed(job, stats).partition(';')[0]}"
            case "waiting-children":
                return f"which {self._waits_for_children(job, stats).partition(';')[0]}"
            case "held":
                return f"which was set aside, since its type {job.type} is held"
            case "parked" if turn.limit is not None:
                limit = how_limited(turn.limit, 0, self._now_ms)
                return f"which waits for limit {turn.limit.name}, {limit}"
        return "which waits in its lane for an engine"

    def _unserved(self, found: Found, stats: QueueStats) -> str:
        serving = self._serving(stats)
        if not serving:
            return f"no engine serves queue {stats.queue}"
        taking = [engine for engine in serving if found.type in _types(engine, stats)]
        if not taking and found.type != "other":
            return (
                f"no engine that serves queue {stats.queue} takes type {found.type}: "
                "it ends dead, as malformed, when one of them gets it"
            )
        if all(engine.beat.state == "draining" for engine in taking or serving):
            return "every engine that could take it is stopping"
        return ""

    def _serving(self, stats: QueueStats) -> list[EngineStats]:
        return [engine for engine in self._engines if stats.queue in engine.beat.queues]

    def _ago(self, at_ms: int) -> str:
        return f"{span(max(0, self._now_ms - at_ms))} ago" if at_ms else "some time ago"


def _children_left(found: Found) -> list[str]:
    """Name the first children that have not ended."""
    try:
        specs = read_children(found.field(CHILDREN) or b"[]")
    except Malformed:
        return []
    left = [
        f"{spec.id or child_id(found.id, number)} in {spec.queue or found.queue}"
        for number, (spec, state) in enumerate(zip(specs, found.states, strict=False))
        if state in PENDING + SENT
    ]
    return left[:CHILDREN_NAMED]


def _holds(engine: EngineStats, consumer: str) -> bool:
    return is_of(consumer, engine.beat.name)


def _types(engine: EngineStats, stats: QueueStats) -> list[str]:
    return engine.beat.queues[stats.queue].types


def _named(key: str) -> str:
    return f" {key}" if key else ""


def _how_to_unblock(job: Found, unable: str) -> str:
    """Say what lets the others of a dead job's key go on."""
    discard = f"`dead discard {job.queue} {job.id}` lets the next one go"
    if unable:
        return discard
    return f"`dead retry {job.queue} {job.id}` brings it back, {discard}"


def _purpose(found: Found) -> str:
    meta = found.meta()
    match meta.why if meta else "":
        case "backoff":
            assert meta is not None
            return f"for its retry, after {many(meta.attempts, 'attempt')}"
        case "snooze":
            return "because its handler put it off"
        case "version":
            version = (found.field(b"v") or b"1").decode("utf-8", "replace")
            return (
                "for an engine that knows its payload version, "
                f"{version}: none that took it knows that of type {found.type}"
            )
        case "hold":
            return "after a hold"
        case "redrive" if meta is not None and meta.operation:
            return f"for its turn in operation {meta.operation.partition('/')[0]}"
        case "reschedule":
            return "until the time that an operator set"
        case "debounce":
            value = (found.field(b"unique") or b"").decode("utf-8", "replace")
            return f"for the end of the burst of jobs with the unique value {value}"
        case _:
            return "as its producer asked"

"""Why a job is where it is, in one sentence that an operator can act on. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from engine.errors import Malformed
from engine.store.operator import Found
from engine.wire.flows import CHILDREN, child_id, read_children, unfinished
from engine.wire.tombstones import CANCELLED, describe
from schemas.flow import PENDING, SENT
from schemas.job import Meta, Tombstone
from schemas.stats import EngineStats, QueueStats

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

    def why(self, found: Found, stats: QueueStats, tombstone: Tombstone | None = None) -> str:
        """Say why a job is where it is."""
        if tombstone is not None:
            return self._cancelled(found, stats, tombstone)
        match found.state:
            case "done":
                assert found.done is not None
                run = found.done.run_us / 1000
                return f"done {self._ago(found.at_ms)}, after {run:.1f} ms on {found.done.engine}"
            case "dead":
                return self._dead(found)
            case "active":
                return self._active(found)
            case "held":
                return self._held(found, stats)
            case "waiting-children":
                return self._waits_for_children(found, stats)
            case "delayed":
                return self._delayed(found, stats)
            case "waiting":
                return self._waiting(found, stats)

    def _cancelled(self, found: Found, stats: QueueStats, tombstone: Tombstone) -> str:
        when = f" {self._ago(tombstone.at_ms)}" if tombstone.at_ms else ""
        order = f"{describe(tombstone)}{when}"
        if found.state == "active":
            return f"{order}; its handler is being ended"
        if stats.paused:
            return f"{order}; it ends once queue {stats.queue} is resumed"
        served = self._unserved(found, stats)
        return f"{order}; {served or 'it ends when its turn comes'}"

    def _dead(self, found: Found) -> str:
        if found.record is None:
            return "dead; no engine wrote this entry"
        record = found.record
        what = f"dead {self._ago(record.died_ms)}, {record.reason}"
        if record.error.kind == CANCELLED:
            # Its message begins with the word.
            what = f"dead {self._ago(record.died_ms)}, {record.error.message}"
        elif record.rule:
            what += f": broke the rule {record.rule}" + (
                f" at {record.path}" if record.path else ""
            )
        elif record.attempts:
            what += f" after {record.attempts} attempt{'s' * (record.attempts != 1)}"
        unable = found.unable()
        return f"{what}; cannot be brought back: {unable}" if unable else what

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
        return f"waits {span(left)} {_purpose(found.meta())}"

    def _waiting(self, found: Found, stats: QueueStats) -> str:
        if stats.paused:
            by = stats.paused_by
            who = f" by {by.who} {self._ago(by.at_ms)}" if by and by.who else ""
            reason = f" ({by.reason})" if by and by.reason else ""
            return f"queue {stats.queue} is paused{who}{reason}"
        for held in stats.held:
            if held.held and held.type == found.type:
                return f"type {held.type} is held: {held.reason}; it will be set aside"
        lane = stats.lanes.get(found.lane)
        return self._unserved(found, stats) or (
            f"waits in lane {found.lane}, in which {lane.waiting if lane else 0} jobs wait; "
            f"{len(stats.engines)} engine{'s' * (len(stats.engines) != 1)} serve the queue"
        )

    def _unserved(self, found: Found, stats: QueueStats) -> str:
        serving = [e for e in self._engines if stats.queue in e.beat.queues]
        if not serving:
            return f"no engine serves queue {stats.queue}"
        taking = [e for e in serving if found.type in e.beat.queues[stats.queue].types]
        if not taking and found.type != "other":
            return f"no engine that serves queue {stats.queue} takes type {found.type}"
        if all(engine.beat.state == "draining" for engine in taking or serving):
            return "every engine that could take it is stopping"
        return ""

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
    """Tell whether a consumer is this engine's: its name, and a word that each start draws."""
    return consumer == engine.beat.name or consumer.rpartition("-")[0] == engine.beat.name


def _purpose(meta: Meta | None) -> str:
    match meta.why if meta else "":
        case "backoff":
            assert meta is not None
            return f"for its retry, after {meta.attempts} attempt{'s' * (meta.attempts != 1)}"
        case "snooze":
            return "because its handler put it off"
        case "version":
            return "for an engine that knows its payload version"
        case "hold":
            return "after a hold"
        case "reschedule":
            return "until the time that an operator set"
        case _:
            return "as its producer asked"


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
            return (
                f"{seconds // size} {unit} {rest} {lower}" if rest else f"{seconds // size} {unit}"
            )
    rest = seconds % 60
    return f"{seconds // 60} m {rest} s" if rest else f"{seconds // 60} m"

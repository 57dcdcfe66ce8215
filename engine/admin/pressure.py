"""Bounds of queues: how operators set them, and what ``health`` says of a queue that fills up."""

from __future__ import annotations

from engine.admin.base import AdminBase, checked_queue
from engine.admin.explain import span
from engine.core.pressure import ALARM_AT, Bounds, Level, seconds_until_full
from engine.core.steps import ENDED
from engine.errors import EngineError
from schemas.pressure import Fullness
from schemas.rules import BYTES_MAX_LEAST
from schemas.stats import Change, Finding, QueueStats

RECENT_S = 300
NUMBER_MAX = 1_000_000_000_000


class BoundsVerbs(AdminBase):
    """The verb that sets what a queue may hold."""

    async def bounds(
        self,
        queue: str,
        *,
        jobs: int | None = None,
        size: int | None = None,
        clear: bool = False,
        reason: str = "",
    ) -> Change:
        """
        Bound what a queue may hold; clients of producers follow within a second or two.

        Args:
            queue: The queue.
            jobs: Jobs that wait, run, are delayed or set aside; 0 for no bound, None for no change.
            size: Bytes of memory that they take on the server, likewise.
            clear: Give both back to the settings of the engines first.
            reason: Why, for the audit stream.
        """
        checked_queue(queue)
        if jobs is not None and not 0 <= jobs <= NUMBER_MAX:
            raise EngineError(f"a bound of jobs must be 0 to {NUMBER_MAX}, not {jobs}")
        if size is not None and size and not BYTES_MAX_LEAST <= size <= NUMBER_MAX:
            raise EngineError(
                f"a bound of bytes must be 0, or {BYTES_MAX_LEAST} to {NUMBER_MAX}, not {size}"
            )
        wanted = {"jobs_max": jobs, "bytes_max": size}
        fields = {
            name: "" if most is None else str(most)
            for name, most in wanted.items()
            if clear or most is not None
        }
        if not fields:
            raise EngineError("a bound of jobs or bytes is missing")
        before = {
            name: await self._store.control.set(queue, {name: value})
            for name, value in fields.items()
        }
        change = Change(
            queue=queue,
            what="bounds",
            changed=before != fields,
            before=_told(before),
            after=_told(fields),
        )
        if change.changed:
            await self._record(queue, "bounds", {"before": before, "after": fields}, reason)
        return change


def _told(fields: dict[str, str]) -> str:
    return ",".join(f"{name}={value}" for name, value in fields.items() if value)


def fullness_findings(stats: QueueStats) -> list[Finding]:
    """Judge how full a queue is: a warning from 80 % on, an error once it is full."""
    found = stats.fullness
    if found is None or found.ratio < ALARM_AT:
        return []
    is_full = found.ratio >= 1
    return [
        Finding(
            check="full" if is_full else "filling",
            severity="error" if is_full else "warning",
            queue=stats.queue,
            message=f"queue {stats.queue} is {_how_full(found)}; {_course(stats, found)}",
            action=_action(stats, found),
        )
    ]


def _how_full(found: Fullness) -> str:
    parts = []
    if found.jobs_max:
        parts.append(f"{found.jobs:,} of {found.jobs_max:,} jobs")
    if found.bytes_max:
        parts.append(f"{found.bytes / 1_048_576:,.1f} of {found.bytes_max / 1_048_576:,.1f} MiB")
    state = "full" if found.ratio >= 1 else f"{found.ratio:.0%} full"
    return f"{state}: {' and '.join(parts)}"


def _course(stats: QueueStats, found: Fullness) -> str:
    """Say what fills it: what comes in beside what goes out, and when it will be full."""
    largest = _largest(stats)
    if found.growth_jobs_s is None:
        return f"most of it are {largest}, and no engine says how fast it grows"
    ended = sum(stats.recent.get(each, 0) for each in ENDED) / RECENT_S
    came = max(0.0, found.growth_jobs_s + ended)
    course = f"about {came:.3g} jobs/s come and {ended:.3g} end; most of it are {largest}"
    left_s = seconds_until_full(
        Level(found.jobs, found.bytes),
        Bounds(found.jobs_max, found.bytes_max),
        (found.growth_jobs_s, found.growth_bytes_s or 0.0),
    )
    if left_s:
        course += f"; full in about {span(left_s * 1_000)}"
    elif found.growth_jobs_s < 0:
        course += "; it shrinks"
    return course


def _largest(stats: QueueStats) -> str:
    """Name what the queue holds most of."""
    parts = {f"waiting in lane {name}": lane.waiting for name, lane in stats.lanes.items()}
    parts |= {"running": stats.active, "delayed": stats.delayed}
    parts |= {f"held of type {held.type}": held.jobs for held in stats.held}
    what, jobs = max(parts.items(), key=lambda part: part[1])
    return f"{jobs:,} {what}"


def _action(stats: QueueStats, found: Fullness) -> str:
    queue = stats.queue
    raised = ""
    if found.jobs_max and found.jobs >= ALARM_AT * found.jobs_max:
        raised += f" --jobs {2 * found.jobs_max}"
    if found.bytes_max and found.bytes >= ALARM_AT * found.bytes_max:
        raised += f" --bytes {2 * found.bytes_max}"
    raise_it = f"raise the bound: python -m engine bounds {queue}{raised}"
    held = [each.type for each in stats.held if each.held]
    if stats.paused:
        return f"python -m engine resume {queue}; or {raise_it}"
    if not stats.engines:
        return f"start an engine: python -m engine run; or {raise_it}"
    if held and max(each.jobs for each in stats.held) * 2 > found.jobs:
        return f"python -m engine resume {queue} --type {held[0]}; or {raise_it}"
    return (
        f"start more engines, run more at a time (python -m engine concurrency {queue} N), "
        f"slow producers down (bare XADDs are not stopped), or {raise_it}"
    )

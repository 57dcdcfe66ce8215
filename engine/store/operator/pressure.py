"""How full a queue is, as operators see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from engine.core.pressure import Level, ratio
from engine.store.pressure import BYTES_MAX, JOBS_MAX, read_bounds
from schemas.pressure import Fullness
from schemas.stats import EngineStats


def fullness(
    queue: str, level: Level, control: Mapping[bytes, bytes], engines: Sequence[EngineStats]
) -> Fullness:
    """
    Sum up what a queue holds, may hold, and gains.

    Args:
        queue: The queue.
        level: What it holds.
        control: Its control hash.
        engines: Whose beats tell how it grows: each saw the whole queue, over its own minute.
    """
    bounds = read_bounds(control)
    loads = [each.beat.queues.get(queue) for each in engines if each.live]
    jobs = [load.growth_jobs_s for load in loads if load and load.growth_jobs_s is not None]
    size = [load.growth_bytes_s for load in loads if load and load.growth_bytes_s is not None]
    return Fullness(
        jobs=level.jobs,
        jobs_max=bounds.jobs,
        bytes=level.bytes,
        bytes_max=bounds.bytes,
        ratio=ratio(level, bounds),
        set_live=JOBS_MAX.encode() in control or BYTES_MAX.encode() in control,
        growth_jobs_s=sum(jobs) / len(jobs) if jobs else None,
        growth_bytes_s=sum(size) / len(size) if size else None,
    )

"""
Counters of the hot path, read when somebody asks.

A call into prometheus_client for each job costs more than the job itself, so the engine adds to
plain numbers, and :class:`EngineCollector` turns them into metric families at scrape time. Labels
come from registered names and fixed lists only; whatever else producers write counts as ``other``.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from itertools import accumulate

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from schemas.numbers import BOUNDS_S

OUTCOMES = ("done", "retried", "snoozed", "duplicate", "dead", "cancelled", "lost")
FLOWS_CLOSED = ("complete", "failed", "continued", "cancelled")
OTHER = "other"
"""The label of job types that nobody registered."""

_BOUNDS_US = [round(bound * 1e6) for bound in BOUNDS_S]


class Histogram:
    """Observations of seconds, kept as counts per bucket and a sum."""

    __slots__ = ("counts", "sum_s")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_S) + 1)
        self.sum_s = 0.0

    def observe(self, seconds: float) -> None:
        """Add one observation."""
        self.counts[bisect_left(BOUNDS_S, seconds)] += 1
        self.sum_s += seconds

    def observe_us(self, us: array[int]) -> None:
        """Add many observations in µs; short runs of one bucket cost next to nothing."""
        self.sum_s += sum(us) / 1e6
        first = bisect_left(_BOUNDS_US, min(us))
        if first == bisect_left(_BOUNDS_US, max(us)):
            self.counts[first] += len(us)
            return
        for each in us:
            self.counts[bisect_left(_BOUNDS_US, each)] += 1

    def observe_same(self, seconds: float, times: int) -> None:
        """Add the same observation several times."""
        self.counts[bisect_left(BOUNDS_S, seconds)] += times
        self.sum_s += seconds * times

    @staticmethod
    def same_bucket(one: float, other: float) -> bool:
        """Tell whether two observations fall into one bucket."""
        return bisect_left(BOUNDS_S, one) == bisect_left(BOUNDS_S, other)

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative counts, as Prometheus wants them."""
        total = 0
        rows: list[tuple[str, float]] = []
        for bound, count in zip([*map(str, BOUNDS_S), "+Inf"], self.counts, strict=True):
            total += count
            rows.append((bound, total))
        return rows


BATCH_BOUNDS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000)


class Sizes:
    """How many jobs the calls of a batch handler took, as counts per bucket and a sum."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BATCH_BOUNDS) + 1)
        self.total = 0

    def observe(self, size: int) -> None:
        """Add one call."""
        self.counts[bisect_left(BATCH_BOUNDS, size)] += 1
        self.total += size

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative counts, as Prometheus wants them."""
        bounds = [*map(str, map(float, BATCH_BOUNDS)), "+Inf"]
        return list(zip(bounds, map(float, accumulate(self.counts)), strict=True))


class TypeMeter:
    """
    What became of the jobs of one type.

    Attributes:
        batches: Sizes of the handler's calls, where it takes batches.
        held: Whether the type is held, as this engine follows it.
    """

    __slots__ = (
        "batches",
        "cancelled",
        "dead",
        "done",
        "duplicate",
        "held",
        "lost",
        "retried",
        "run",
        "snoozed",
    )

    def __init__(self) -> None:
        self.done = 0
        self.retried = 0
        self.snoozed = 0
        self.duplicate = 0
        self.dead = 0
        self.cancelled = 0
        self.lost = 0
        self.run = Histogram()
        self.batches: Sizes | None = None
        self.held = False


class QueueMeter:
    """
    What one engine knows of one queue.

    Attributes:
        types: Meters per registered type, and one for ``other``.
        wait: Time from a job's stream entry to its start, per lane.
        inflight: Jobs that this engine holds.
        concurrency: Jobs that may run at a time in this engine.
        reclaimed: Jobs taken over from engines that were gone.
        leases_lost: Leases that other engines took over from this one.
        promoted: Due jobs that this engine moved to their lanes.
        cancelled: Jobs that this engine ended because somebody cancelled them.
        parked: Jobs that this engine put behind a gate.
        limited: Handlers that met a limit.
        behind: Jobs that wait behind a gate, as last seen on the server.
        schedule_ticks: Ticks of schedules that this engine fired.
        schedules, schedules_broken: Schedules of the queue, and those that cannot be read.
        bytes: Memory that the queue's jobs take on the server.
        full_ratio: How full it is, of its bounds in jobs and bytes the larger; 0 without bounds.
        flows_closed: Flows whose parents wait no more, as this engine saw it, by why.
        waiting, active, delayed, held, flows, dead, oldest_s, paused: As last seen on the server.
    """

    def __init__(self, types: Iterable[str], lanes: Iterable[str]) -> None:
        self.types = {name: TypeMeter() for name in (*types, OTHER)}
        self.wait = {lane: Histogram() for lane in lanes}
        self.inflight = 0
        self.concurrency = 0
        self.reclaimed = 0
        self.leases_lost = 0
        self.promoted = 0
        self.cancelled = 0
        self.parked = 0
        self.limited = 0
        self.behind = 0
        self.schedule_ticks = 0
        self.schedules = 0
        self.schedules_broken = 0
        self.flows_closed = dict.fromkeys(FLOWS_CLOSED, 0)
        self.flows = 0
        self.waiting = dict.fromkeys(self.wait, 0)
        self.active = 0
        self.delayed = 0
        self.held = 0
        self.dead = 0
        self.oldest_s = 0.0
        self.paused = False
        self.bytes = 0
        self.full_ratio = 0.0

    def of(self, job_type: str) -> TypeMeter:
        """The meter of a type, or that of ``other``."""
        return self.types.get(job_type) or self.types[OTHER]


class Meters:
    """
    All counters of one engine.

    Attributes:
        queues: Meters per queue.
        redis_errors: Errors of the server and the way to it, per kind.
        loop_lag_s: How late the event loop was at worst in the last few seconds.
        stuck: Handlers that ignored their cancellation and still run.
        beat_s: Unix time of the last sign of life that the server took; 0 before the first.
        memory_bytes: Memory that the server uses, as last seen.
        memory_bytes_max: Its limit, as last seen; 0 for none.
    """

    def __init__(self, kinds: Iterable[str]) -> None:
        self.queues: dict[str, QueueMeter] = {}
        self.redis_errors = dict.fromkeys(kinds, 0)
        self.loop_lag_s = 0.0
        self.stuck = 0
        self.beat_s = 0.0
        self.memory_bytes = 0
        self.memory_bytes_max = 0


class EngineCollector(Collector):
    """Turns the counters into metric families, at scrape time."""

    def __init__(self, meters: Meters, version: str) -> None:
        self._meters = meters
        self._version = version

    def collect(self) -> Iterable[Metric]:
        queues = self._meters.queues
        yield InfoMetricFamily("engine", "The engine.", value={"version": self._version})
        yield from _jobs(queues)
        yield _batches(queues)
        yield _held(queues)
        yield from _gauges(queues)
        yield from _counters(queues)
        yield _flows(queues)
        errors = CounterMetricFamily(
            "engine_redis_errors", "Errors of the server and the way to it.", labels=["kind"]
        )
        for kind, count in self._meters.redis_errors.items():
            errors.add_metric([kind], count)
        yield errors
        for name, text, attribute in _OWN_GAUGES:
            yield GaugeMetricFamily(name, text, getattr(self._meters, attribute))


_OWN_GAUGES = (
    (
        "engine_loop_lag_seconds",
        "How late the event loop was at worst in the last few seconds.",
        "loop_lag_s",
    ),
    (
        "engine_stuck_handlers",
        "Handlers that ignored their cancellation and still run.",
        "stuck",
    ),
    (
        "engine_beat_timestamp_seconds",
        "Unix time of the last sign of life that the server took.",
        "beat_s",
    ),
    ("engine_redis_memory_bytes", "Memory that the server uses.", "memory_bytes"),
    ("engine_redis_memory_max_bytes", "Its limit; 0 for none.", "memory_bytes_max"),
)


def _jobs(queues: Mapping[str, QueueMeter]) -> Iterable[Metric]:
    ended = CounterMetricFamily(
        "engine_jobs", "Attempts by how they ended.", labels=["queue", "type", "outcome"]
    )
    run = HistogramMetricFamily(
        "engine_job_run_seconds", "Run time of attempts.", labels=["queue", "type"]
    )
    wait = HistogramMetricFamily(
        "engine_job_wait_seconds",
        "Time from a job's stream entry to its start.",
        labels=["queue", "lane"],
    )
    for queue, meter in queues.items():
        for name, each in meter.types.items():
            for outcome in OUTCOMES:
                ended.add_metric([queue, name, outcome], getattr(each, outcome))
            run.add_metric([queue, name], each.run.buckets(), each.run.sum_s)
        for lane, histogram in meter.wait.items():
            wait.add_metric([queue, lane], histogram.buckets(), histogram.sum_s)
    yield from (ended, run, wait)


def _batches(queues: Mapping[str, QueueMeter]) -> Metric:
    sizes = HistogramMetricFamily(
        "engine_batch_jobs", "Jobs per call of a batch handler.", labels=["queue", "type"]
    )
    for queue, meter in queues.items():
        for name, each in meter.types.items():
            if each.batches is not None:
                sizes.add_metric([queue, name], each.batches.buckets(), each.batches.total)
    return sizes


def _held(queues: Mapping[str, QueueMeter]) -> Metric:
    held = GaugeMetricFamily(
        "engine_type_held", "1 while the type is held.", labels=["queue", "type"]
    )
    for queue, meter in queues.items():
        for name, each in meter.types.items():
            if name != OTHER:
                held.add_metric([queue, name], float(each.held))
    return held


_GAUGES = (
    ("engine_queue_active", "Jobs that run now, over all engines.", "active"),
    ("engine_queue_delayed", "Jobs that wait for their time.", "delayed"),
    ("engine_queue_held", "Jobs of held types.", "held"),
    ("engine_queue_parked", "Waiting jobs behind another of their key, or a limit.", "behind"),
    ("engine_queue_flows", "Jobs that wait for others, their children.", "flows"),
    ("engine_queue_dead", "Dead letters.", "dead"),
    ("engine_queue_oldest_seconds", "Age of the oldest waiting job.", "oldest_s"),
    ("engine_queue_paused", "1 while the queue is paused.", "paused"),
    ("engine_schedules", "Schedules, paused ones included.", "schedules"),
    ("engine_schedules_broken", "Schedules that cannot be read.", "schedules_broken"),
    ("engine_queue_bytes", "Memory that its jobs take on the server.", "bytes"),
    ("engine_queue_full_ratio", "How full it is of its bounds, 1 when full.", "full_ratio"),
    ("engine_inflight", "Jobs that this engine holds.", "inflight"),
    ("engine_concurrency", "Jobs that may run at a time in this engine.", "concurrency"),
)
_COUNTERS = (
    ("engine_reclaimed", "Jobs taken over from engines that were gone.", "reclaimed"),
    ("engine_leases_lost", "Leases that went to other engines.", "leases_lost"),
    ("engine_promoted", "Due jobs moved to their lanes.", "promoted"),
    ("engine_cancelled", "Jobs ended by order of an operator or a producer.", "cancelled"),
    ("engine_parked", "Jobs put behind another of their key, or a limit.", "parked"),
    ("engine_limited", "Handlers that met a limit.", "limited"),
    ("engine_schedule_ticks", "Ticks of schedules that this engine fired.", "schedule_ticks"),
)


def _gauges(queues: Mapping[str, QueueMeter]) -> Iterable[Metric]:
    waiting = GaugeMetricFamily(
        "engine_queue_waiting", "Jobs that no engine was given yet.", labels=["queue", "lane"]
    )
    for queue, meter in queues.items():
        for lane, count in meter.waiting.items():
            waiting.add_metric([queue, lane], count)
    yield waiting
    for name, text, attribute in _GAUGES:
        family = GaugeMetricFamily(name, text, labels=["queue"])
        for queue, meter in queues.items():
            family.add_metric([queue], float(getattr(meter, attribute)))
        yield family


def _flows(queues: Mapping[str, QueueMeter]) -> Metric:
    family = CounterMetricFamily(
        "engine_flows",
        "Jobs that wait for their children no more, by why.",
        labels=["queue", "outcome"],
    )
    for queue, meter in queues.items():
        for outcome, count in meter.flows_closed.items():
            family.add_metric([queue, outcome], count)
    return family


def _counters(queues: Mapping[str, QueueMeter]) -> Iterable[Metric]:
    for name, text, attribute in _COUNTERS:
        family = CounterMetricFamily(name, text, labels=["queue"])
        for queue, meter in queues.items():
            family.add_metric([queue], getattr(meter, attribute))
        yield family

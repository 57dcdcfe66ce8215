"""One queue in one engine: its parts put together."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any

import msgspec

from engine.clock import Clock
from engine.core import outcome as was
from engine.core.leases import LeaseTimes, ReclaimGate
from engine.failpoint import failpoint
from engine.logs import get_logger
from engine.registry import BatchMiddleware, JobType, Registry
from engine.runtime.attempt import Admission
from engine.runtime.batching import Batcher, Batches, handle_of
from engine.runtime.calls import Pools, call_of
from engine.runtime.fetcher import Fetcher
from engine.runtime.flows import FlowKeeper
from engine.runtime.gatekeeper import Gatekeeper
from engine.runtime.hooks import Hooks
from engine.runtime.jobs import BoundType, LiveJob, unknown_type
from engine.runtime.operations import OperationDriver
from engine.runtime.outage import Outage
from engine.runtime.pressure import Watch, defaults_of
from engine.runtime.renewer import Held
from engine.runtime.reporter import QueueReporter
from engine.runtime.scheduling import Scheduling
from engine.runtime.settler import Settled, Settler
from engine.runtime.upkeep import Upkeep
from engine.runtime.workers import Workers
from engine.settings import EngineSettings
from engine.store.base import Lease, Store
from engine.store.operator import OperatorStore
from engine.telemetry import QueueMeter
from engine.wire.codec import Limits
from engine.wire.keys import STREAMS
from schemas.stats import QueueLoad

log = get_logger("engine")

ENVELOPE_BYTES_MAX = 65_536
"""What an entry may hold beside its payload, to be kept whole."""


class Shared(msgspec.Struct, kw_only=True):
    """
    What all queues of one engine share.

    Attributes:
        name: The engine's name.
        settings: Its settings.
        store: Its store.
        clock: Time and chance.
        outage: The state of the way to the store.
        gate: Says which idle times to believe.
        look_at_server: Tells the gate of the server's run id and clock, if it has not been lately.
        pools: For CPU-heavy handlers.
        meters: Counters of all queues.
        hooks: Called when jobs have ended.
        spawn: Runs a coroutine as a task that the engine owns.
        stopping: Tells that nothing more is to be taken on.
        on_held: Called with queue, type and reason when a handler holds its type.
        on_stuck: Called with +1 and -1 as handlers are given up and end after all.
        on_settled: Called with the queue's name and what was settled.
        operations: The operator's side of the server, to drive bulk operations; None for a store
            that has none.
    """

    name: str
    settings: EngineSettings
    store: Store
    clock: Clock
    outage: Outage
    gate: ReclaimGate
    look_at_server: Callable[[], Awaitable[None]]
    pools: Pools
    meters: Mapping[str, QueueMeter]
    hooks: Hooks
    spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
    stopping: Callable[[], bool]
    on_held: Callable[[str, str, str], None]
    on_stuck: Callable[[int], None]
    on_settled: Callable[[str, Settled], None]
    operations: OperatorStore | None = None


class QueueRunner:
    """
    Serves one queue.

    Args:
        queue: Its name.
        registry: The job types.
        services: What handlers ask for.
        meter: The queue's counters.
        shared: What all queues of the engine share.
    """

    def __init__(
        self, queue: str, registry: Registry, services: Any, meter: QueueMeter, shared: Shared
    ) -> None:
        self.queue = queue
        self._shared = shared
        self._meter = meter
        settings = shared.settings
        self._concurrency = settings.queue_concurrency.get(queue, settings.concurrency)
        self.reporter = QueueReporter(shared.store, queue, shared.clock)
        self.batches = Batches(
            shared.clock,
            times=LeaseTimes(lease_ms=settings.lease_ms, renew_ms=settings.renew_ms),
            cancel_grace_s=settings.cancel_grace_ms / 1e3,
            spawn=shared.spawn,
            stopping=shared.stopping,
            on_stuck=shared.on_stuck,
        )
        self.flows = FlowKeeper(
            shared.store,
            queue,
            shared.clock,
            outage=shared.outage,
            meters=shared.meters,
            lease_ms=settings.lease_ms,
        )
        self._admission = self._build_admission(registry, services)
        self.settler = self._build_settler()
        self.gatekeeper = self._build_gatekeeper()
        self.workers = self._build_workers()
        self.gatekeeper.workers = self.workers
        self.workers.limit = self._concurrency
        self.batches.crew = self.workers
        self.fetcher = self._build_fetcher()
        self.driver = self._build_driver()
        self.upkeep = self._build_upkeep()
        self.upkeep.driver = self.driver
        self.limits = registry.limits.get(queue, {})
        self.scheduling = Scheduling(
            shared.store,
            queue,
            registry.schedules_of(queue),
            app=settings.app,
            clock=shared.clock,
            meter=meter,
            outage=shared.outage,
        )

    def _build_admission(self, registry: Registry, services: Any) -> Admission:
        shared, settings = self._shared, self._shared.settings
        types = {}
        for name, found in registry.in_queue(self.queue).items():
            batcher = self._batcher(found, services, registry.batch_middleware)
            join = batcher.join if batcher is not None else None
            call = call_of(found, services, registry.middleware, shared.pools, join=join)
            types[name] = bound = BoundType(found, call, self._meter.of(name))
            if batcher is not None:
                bound.timeout_s += batcher.extra_s
                bound.meter.batches = batcher.sizes
        return Admission(
            types,
            unknown_type(self.queue, self._meter),
            limits=Limits(
                data_bytes_max=settings.data_bytes_max, reply_patterns=settings.reply_patterns
            ),
            reporter=self.reporter,
            now_ms=shared.clock.now_ms,
            id_window_ms=settings.id_window_ms,
        )

    def _batcher(
        self, job_type: JobType, services: Any, middleware: Sequence[BatchMiddleware]
    ) -> Batcher | None:
        rule = job_type.batch
        if rule is None:
            return None
        if rule.size > self._concurrency:
            log.warning(
                "batch_cut_by_concurrency",
                queue=self.queue,
                type=job_type.name,
                size=rule.size,
                concurrency=self._concurrency,
            )
        handle = handle_of(job_type, services, self._shared.pools, middleware)
        return self.batches.batcher(rule, handle, limit_s=job_type.timeout_s)

    def _build_gatekeeper(self) -> Gatekeeper:
        shared = self._shared
        gatekeeper = Gatekeeper(
            shared.store,
            self.queue,
            self.settler,
            meter=self._meter,
            outage=shared.outage,
            spawn=shared.spawn,
            line_max=shared.settings.line_jobs_max,
            id_window_ms=shared.settings.id_window_ms,
            on_room=self._room,
            on_use=self._gates_used,
        )
        for bound in self._admission.types.values():
            bound.limiter = gatekeeper.limit
        return gatekeeper

    def _build_settler(self) -> Settler:
        shared = self._shared
        return Settler(
            shared.store,
            self.queue,
            STREAMS,
            engine=shared.name,
            clock=shared.clock,
            meter=self._meter,
            outage=shared.outage,
            kept_bytes_max=shared.settings.data_bytes_max + ENVELOPE_BYTES_MAX,
            cancels=self._admission.cancels,
            spawn=shared.spawn,
            settling=self.reporter.settling,
            on_settled=self._settled,
            room=self._room_for_handed,
            on_handed=self._handed,
            on_doubt=self._doubt,
        )

    def _build_workers(self) -> Workers:
        shared, settings = self._shared, self._shared.settings
        return Workers(
            self._admission,
            self.settler,
            self.gatekeeper,
            shared.clock,
            times=LeaseTimes(lease_ms=settings.lease_ms, renew_ms=settings.renew_ms),
            cancel_grace_s=settings.cancel_grace_ms / 1e3,
            spawn=shared.spawn,
            on_room=self._room,
            on_held=self._held,
            on_stuck=shared.on_stuck,
            on_started=self.reporter.started,
        )

    def _build_fetcher(self) -> Fetcher:
        shared, settings = self._shared, self._shared.settings
        return Fetcher(
            shared.store,
            self.queue,
            self.workers,
            self.gatekeeper,
            self.settler,
            shared.clock,
            outage=shared.outage,
            weights=settings.weights,
            prefetch_max=settings.prefetch_max,
            bytes_max=settings.fetch_bytes_max,
            # A lease is counted from before the read, so a read must be short beside it.
            block_ms=min(settings.block_ms, settings.lease_ms // 4),
            stopping=shared.stopping,
        )

    def _build_driver(self) -> OperationDriver | None:
        shared = self._shared
        if shared.operations is None:
            return None
        return OperationDriver(
            shared.operations,
            self.queue,
            # Of its own for each start: an engine's name may be set, and so be used again.
            f"{shared.name}-{secrets.token_hex(4)}",
            shared.clock,
            outage=shared.outage,
            stopping=shared.stopping,
        )

    def _build_upkeep(self) -> Upkeep:
        shared, settings = self._shared, self._shared.settings
        return Upkeep(
            shared.store,
            self.queue,
            self._admission,
            self.workers,
            self.fetcher,
            self.settler,
            self.reporter,
            self.flows,
            Watch(
                shared.store,
                self.queue,
                shared.clock,
                self._meter,
                defaults=defaults_of(settings, self.queue),
            ),
            shared.clock,
            meter=self._meter,
            outage=shared.outage,
            gate=shared.gate,
            look_at_server=shared.look_at_server,
            concurrency=self._concurrency,
            reclaim_ms=settings.reclaim_ms,
            done_jobs_max=settings.done_jobs_max,
            done_age_ms_max=settings.done_age_ms_max,
            stopping=shared.stopping,
        )

    def loops(self) -> list[Awaitable[None]]:
        """The background loops, to be run in the engine's task group."""
        driven = [self.driver.run()] if self.driver is not None else []
        return [*self.upkeep.loops(), self.scheduling.run(), *driven]

    def held(self) -> Held:
        """What the renewing thread has to look after."""
        return Held(self.queue, self.workers, self.gatekeeper, self.settler)

    def load(self) -> QueueLoad:
        """How busy this engine is with the queue."""
        growth = self.upkeep.watch.growth()
        return QueueLoad(
            running=self.workers.active,
            buffered=len(self.workers.todo),
            concurrency=self.workers.limit,
            types=list(self._admission.types),
            growth_jobs_s=growth[0] if growth else None,
            growth_bytes_s=growth[1] if growth else None,
        )

    def lost(self, lane: str, entries: set[bytes]) -> None:
        """Drop what other engines hold now."""
        self.workers.lost(lane, entries)
        self.gatekeeper.lost(lane, entries)

    def hand_back(self) -> None:
        """Give back what waits for a worker, spending nothing."""
        self.workers.open = False
        for lease in self.workers.take_back() + self.gatekeeper.take_back():
            if not lease.lost:
                self.settler.end(self._admission.stand_in(lease), was.Interrupted())
        failpoint("K11")
        # Nothing more will join what has gathered.
        self.batches.flush()

    def give_up(self) -> None:
        """Hand back the jobs of handlers that did not end when they were cancelled."""
        now = self._shared.clock.monotonic()
        for worker in self.workers.running():
            worker.why = "stop"
            self.workers.give_up(worker, now)

    def _gates_used(self) -> None:
        """Read what gates let through, from the first question on."""
        self.upkeep.use_gates()

    def _room_for_handed(self) -> int:
        return self.fetcher.room_for_handed()

    def _handed(self, leases: list[Lease]) -> None:
        for lease in leases:
            lease.gated = True
            lease.admitted = lease.admitted and self._admission.passes(lease)
        self.fetcher.take_handed(leases)

    def _doubt(self) -> None:
        self.fetcher.in_doubt = True

    def _room(self) -> None:
        self.fetcher.poke()

    def _held(self, job: LiveJob, reason: str) -> None:
        if job.bound.held:
            # Others of the type were running already: one word is enough.
            return
        self.upkeep.hold(job.type)
        self._shared.spawn(self.upkeep.held(job.type, reason))
        self._shared.on_held(self.queue, job.type, reason)

    def _settled(self, settled: Settled) -> None:
        count = len(settled.successes) + len(settled.endings)
        self.fetcher.note_ended(count)
        self.fetcher.poke()
        if settled.endings:
            self.upkeep.settled(settled)
            self._shared.on_settled(self.queue, settled)
        if settled.flows:
            self.flows.poke()
        self._shared.hooks.note(settled)

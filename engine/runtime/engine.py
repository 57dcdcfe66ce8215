"""
One engine: start, run, drain, stop.

It owns every task. A loop that ends with an error it should have dealt with is a bug, and ends the
engine loudly: leases cover what it held, and whoever runs it starts another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

from engine.clock import Clock
from engine.core.leases import LeaseTimes, ReclaimGate
from engine.errors import SettingsError, StoreError
from engine.logs import get_logger
from engine.registry import App
from engine.runtime.calls import Pools
from engine.runtime.hooks import Hooks
from engine.runtime.notes import Notes
from engine.runtime.outage import Outage
from engine.runtime.queue import QueueRunner, Shared
from engine.runtime.renewer import Renewer
from engine.runtime.server_time import ServerTime
from engine.runtime.vitals import Vitals
from engine.settings import EngineSettings
from engine.store.base import Store
from engine.store.faults import KINDS
from engine.store.operator import OperatorStore
from engine.telemetry import Meters, QueueMeter
from schemas.rules import LANES

log = get_logger("engine")

EXIT_OK = 0
EXIT_BUG = 70
EXIT_UNFINISHED = 75
APP_READY_S = 5.0


class Engine:
    """
    A daemon's inside.

    Args:
        settings: Its settings.
        app: Registry, services, background work.
        store: Where the queues live.
        clock: Time and chance.
        name: Its name, fresh for each process start.
        on_started: Called once it serves its queues.
        operations: To drive bulk operations; its owner closes it.
    """

    def __init__(
        self,
        settings: EngineSettings,
        app: App,
        store: Store,
        clock: Clock,
        *,
        name: str,
        on_started: Callable[[], None] | None = None,
        operations: OperatorStore | None = None,
    ) -> None:
        self._operations = operations
        self._on_started = on_started
        self.settings = settings
        self.app = app
        self.name = name
        self.meters = Meters(KINDS)
        self.runners: dict[str, QueueRunner] = {}
        self._store = store
        self._clock = server_time = ServerTime(clock)
        self._notes = Notes()
        self._outage = Outage(
            server_time,
            self.meters,
            wait_ms_max=settings.reconnect_ms_max,
            on_change=self._notes.store_changed,
        )
        self._gate = ReclaimGate(settings.lease_ms)
        self._pools = Pools(settings.process_workers, on_stuck=self._stuck)
        self._hooks = Hooks(
            app.registry.done_hooks, app.registry.dead_hooks, on_error=self._notes.hook_failed
        )
        self.vitals = Vitals(self, store, server_time, self._gate, self._outage)
        self._tasks: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()
        self._fault: BaseException | None = None
        self._worn_out = False
        self._services: Any = None
        self.state = "starting"

    @property
    def stopping(self) -> bool:
        """Whether the engine takes on nothing more."""
        return self._stop.is_set()

    @property
    def outage(self) -> Outage:
        """The state of the way to the store."""
        return self._outage

    def stop(self) -> None:
        """Ask the engine to drain and end; asking again changes nothing."""
        if not self._stop.is_set():
            log.info("engine_stopping", engine=self.name, grace_s=self.settings.grace_s)
            self._stop.set()

    async def run(self, *, burst: bool = False) -> int:
        """
        Serve until stopped.

        Args:
            burst: End when nothing waits and nothing runs.

        Returns:
            The exit code: 0; 75 if something could not be handed back in time, or too many
            handlers do not end, so that whoever runs it starts another; 70 after a bug.
        """
        async with self.app.lifespan() as services:
            self._services = services
            self._assemble(services)
            renewer = self._renewer()
            try:
                await self._open_all()
                renewer.start()
                if not self.stopping:
                    self._start(services, burst=burst)
                    await self._stop.wait()
                return await self._drain()
            finally:
                self.state = "stopped"
                renewer.stop()
                await self._end_tasks()
                await self._pools.close()
                await self._store.close()

    def _start(self, services: Any, *, burst: bool) -> None:
        self._start_tasks(services, burst=burst)
        self.state = "running"
        if self._on_started is not None:
            self._on_started()
        log.info("engine_started", engine=self.name, queues=list(self.runners))

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a coroutine as a task that the engine owns and whose failure ends it."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)
        return task

    async def app_reason(self) -> str:
        """Ask the app what keeps it from working; an empty string if nothing does."""
        if self.app.ready is None or self._services is None:
            return ""
        try:
            async with asyncio.timeout(APP_READY_S):
                return await self.app.ready(self._services)
        except TimeoutError:
            return f"the app did not say within {APP_READY_S:g} s whether it is ready"
        except Exception as error:  # noqa: BLE001 - the app's own check may raise anything
            return f"{type(error).__name__}: {error}"

    def _assemble(self, services: Any) -> None:
        registry, settings = self.app.registry, self.settings
        known = registry.queues()
        wanted = settings.queues or tuple(known)
        strange = [queue for queue in wanted if queue not in known]
        if strange or not wanted:
            raise SettingsError(
                f"no handler takes the queue {', '.join(strange) or '(none registered)'}; "
                f"the app has: {', '.join(known) or 'none'}"
            )
        shared = Shared(
            name=self.name,
            settings=settings,
            store=self._store,
            clock=self._clock,
            outage=self._outage,
            gate=self._gate,
            look_at_server=self.vitals.look_lately,
            pools=self._pools,
            meters=self.meters.queues,
            hooks=self._hooks,
            spawn=self.spawn,
            stopping=self._stop.is_set,
            on_held=self._notes.type_held,
            on_stuck=self._stuck,
            on_settled=self._notes.settled,
            operations=self._operations,
        )
        for queue in wanted:
            meter = QueueMeter(registry.in_queue(queue), LANES)
            self.meters.queues[queue] = meter
            self.runners[queue] = QueueRunner(queue, registry, services, meter, shared)

    def _renewer(self) -> Renewer:
        loop = asyncio.get_running_loop()

        def on_lost(queue: str, lane: str, entries: set[bytes]) -> None:
            loop.call_soon_threadsafe(self.runners[queue].lost, lane, entries)

        def on_error(error: StoreError) -> None:
            loop.call_soon_threadsafe(self._outage.note, error, "renewing")

        def on_bug(error: Exception) -> None:
            loop.call_soon_threadsafe(self._fail, error)

        def on_served() -> None:
            loop.call_soon_threadsafe(self._outage.over, "renewing")

        settings = self.settings
        return Renewer(
            self._store,
            self._clock,
            times=LeaseTimes(lease_ms=settings.lease_ms, renew_ms=settings.renew_ms),
            held=[runner.held() for runner in self.runners.values()],
            on_lost=on_lost,
            on_error=on_error,
            on_bug=on_bug,
            on_served=on_served,
            ticked=lambda: self.vitals.ticked,
        )

    async def _open_all(self) -> None:
        """Put all lanes in order; waits for the server as long as it takes."""
        tries = 0
        todo = list(self.runners)
        while todo and not self.stopping:
            try:
                await self.vitals.look_at_server()
                await self._store.open(todo[0])
                limits = self.runners[todo[0]].limits
                texts = {name: rule.text() for name, rule in limits.items()}
                if texts:
                    await self._store.declare_limits(todo[0], texts)
                # Before the first fetch: a pause outlives the engines that it stopped.
                upkeep = self.runners[todo[0]].upkeep
                upkeep.apply(await self._store.control(todo[0]))
                todo.pop(0)
                tries = 0
            except StoreError as error:
                tries += 1
                await self._outage.wait(error, tries, "opening")
        if not todo:
            self._outage.over("opening")

    def _start_tasks(self, services: Any, *, burst: bool) -> None:
        self.spawn(self.vitals.tick())
        self.spawn(self.vitals.beat())
        self.spawn(self.vitals.observe())
        self.spawn(self._hooks.run())
        for runner in self.runners.values():
            for loop in runner.loops():
                self.spawn(_run(loop))
        if burst:
            self._fetching = [self.spawn(self._burst())]
        else:
            self._fetching = [self.spawn(runner.fetcher.run()) for runner in self.runners.values()]
        for work in self.app.background:
            self.spawn(self._notes.keep_running(work, services, self._clock))

    async def _burst(self) -> None:
        """Read all queues until nothing waits and nothing runs, then stop."""
        while not self.stopping:
            await asyncio.gather(
                *(runner.fetcher.run(once=True) for runner in self.runners.values())
            )
            for runner in self.runners.values():
                while runner.workers.active or (runner.workers.open and runner.workers.todo):
                    if not runner.workers.todo:
                        # The lanes are empty, so nothing more will join what has gathered.
                        runner.batches.flush()
                    await self._clock.sleep(0.01)
                await runner.settler.drain()
            try:
                left = await self._promoted_or_waiting()
            except StoreError as error:
                await self._outage.wait(error, 1, "counting")
                continue
            self._outage.over("counting")
            if not any(left):
                self.stop()

    async def _promoted_or_waiting(self) -> list[bool]:
        found = []
        for queue, runner in self.runners.items():
            if not runner.workers.open:
                # What a paused queue holds is not for this run.
                continue
            # What stopping engines handed back is pending, and no lane shows it.
            await runner.upkeep.reclaim()
            await runner.flows.finish()
            moved = (await self._store.promote(queue, count=256)).moved
            fetched = await self._store.fetch(queue, {})
            held = runner.upkeep.inflight()
            found.append(bool(moved or held or any(fetched.waiting.values())))
        return found

    _fetching: Sequence[asyncio.Task[None]] = ()

    async def _drain(self) -> int:
        """
        Hand back or finish everything within the grace.

        Handlers may run for 70 % of it; then they are cancelled, and at 85 % given up.
        """
        self.state = "draining"
        began, grace = self._clock.monotonic(), self.settings.grace_s
        for runner in self.runners.values():
            runner.fetcher.poke()
            runner.hand_back()
        # A blocking read is waited for: what it brings at the last moment is handed back too.
        await _within(self._fetching, grace * 0.7)
        for runner in self.runners.values():
            runner.hand_back()
        await self._until_idle(began + grace * 0.7)
        for runner in self.runners.values():
            runner.workers.interrupt(self._clock.monotonic())
        await self._until_idle(began + grace * 0.85)
        for runner in self.runners.values():
            # What was being reclaimed when the engine was told to stop may have come since.
            runner.hand_back()
            runner.give_up()
        drains = [self.spawn(runner.settler.drain()) for runner in self.runners.values()]
        drains.append(self.spawn(self._hooks.drain()))
        left = await _within(drains, max(0.1, began + grace - self._clock.monotonic()))
        if self._fault is not None:
            log.error("engine_failed", engine=self.name, error=repr(self._fault))
            return EXIT_BUG
        if left:
            log.warning("engine_unfinished", engine=self.name, unsettled=self.unsettled())
            return EXIT_UNFINISHED
        await self._leave()
        log.info("engine_stopped", engine=self.name)
        return EXIT_UNFINISHED if self._worn_out else EXIT_OK

    def unsettled(self) -> int:
        """Jobs that ended here and are not confirmed."""
        return sum(runner.settler.unsettled for runner in self.runners.values())

    async def _until_idle(self, deadline: float) -> None:
        while self._clock.monotonic() < deadline and any(
            runner.workers.running() or runner.gatekeeper.count for runner in self.runners.values()
        ):
            await self._clock.sleep(0.01)

    async def _leave(self) -> None:
        try:
            for runner in self.runners.values():
                await runner.upkeep.book.write()
            await self._store.leave(self.name, list(self.runners))
        except StoreError as error:
            self._outage.note(error, "leaving")

    async def _end_tasks(self) -> None:
        for runner in self.runners.values():
            runner.workers.dismissed = True
        for task in list(self._tasks):
            task.remove_done_callback(self._task_ended)
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1.0)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """End loudly: this should not have happened."""
        log.error("engine_bug", engine=self.name, exc_info=error)
        self._fault = self._fault or error
        self.stop()

    def _stuck(self, change: int) -> None:
        self.meters.stuck += change
        if change > 0:
            log.error("handler_stuck", engine=self.name, stuck=self.meters.stuck)
        if self.meters.stuck >= self.settings.stuck_max:
            log.error("engine_replace_wanted", engine=self.name, stuck=self.meters.stuck)
            self._worn_out = True
            self.stop()


async def _run(loop: Any) -> None:
    await loop


async def _within(tasks: Iterable[asyncio.Task[None]], seconds: float) -> set[asyncio.Task[None]]:
    """Wait for tasks, and return those that are not done in time."""
    waited = set(tasks)
    if not waited:
        return set()
    _, left = await asyncio.wait(waited, timeout=seconds)
    return left

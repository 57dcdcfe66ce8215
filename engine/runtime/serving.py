"""From settings to a running process: event loop, signals, name, store, engine."""

from __future__ import annotations

import asyncio
import gc
import os
import secrets
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from typing import Protocol

from engine.clock import SystemClock
from engine.logs import get_logger
from engine.registry import App
from engine.runtime.engine import EXIT_BUG, EXIT_OK, Engine
from engine.runtime.service_manager import ServiceManager, service_manager
from engine.runtime.tracing import Tracing
from engine.settings import EngineSettings, http_address
from engine.store.operator import OperatorStore
from engine.store.redis import RedisStore, StoreSettings

log = get_logger("engine")

PARENT_PAUSE_S = 1.0


class Side(Protocol):
    """What runs beside an engine in the same loop: its HTTP side."""

    async def start(self) -> str:
        """Begin, and return host:port."""

    async def stop(self) -> None:
        """End."""


def serve(
    settings: EngineSettings,
    app: App,
    *,
    burst: bool = False,
    side: Callable[[Engine], Side | None] | None = None,
    on_ready: Callable[[str], None] | None = None,
) -> int:
    """
    Run one engine in this process until it is told to stop.

    Args:
        settings: Its settings.
        app: Its handlers.
        burst: End when nothing waits and nothing runs.
        side: Builds what runs beside the engine.
        on_ready: Called with the address of the HTTP side, or an empty string, once it is up.

    Returns:
        The exit code.
    """
    code = EXIT_OK

    async def main() -> None:
        nonlocal code
        code = await _run(settings, app, burst=burst, side=side, on_ready=on_ready)

    _tune_gc()
    if sys.platform == "win32":
        raise SystemExit("Streamlane runs on Linux and macOS")
    import uvloop

    loop = uvloop.new_event_loop()
    try:
        asyncio.set_event_loop(loop)
        _run_to_end(loop, loop.create_task(main()))
    finally:
        if stubborn := [task for task in asyncio.all_tasks(loop) if not task.done()]:
            # Handlers that swallow their cancellation would keep the process for ever. All that
            # matters is settled or handed back by now.
            log.warning("engine_leaves_handlers", count=len(stubborn))
            if sys.exc_info()[0] is not None:
                traceback.print_exc()
                code = EXIT_BUG
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
    return code


def _run_to_end(loop: asyncio.AbstractEventLoop, task: asyncio.Task[None]) -> None:
    """Run the loop until the task ends, whatever the tasks that handlers start want to exit."""
    while True:
        try:
            loop.run_until_complete(task)
        except (SystemExit, KeyboardInterrupt) as error:
            if task.done():
                raise
            log.error("exit_ignored", error=repr(error))
        else:
            return


async def _run(
    settings: EngineSettings,
    app: App,
    *,
    burst: bool,
    side: Callable[[Engine], Side | None] | None,
    on_ready: Callable[[str], None] | None,
) -> int:
    name = settings.name or f"{socket.gethostname().split('.')[0][:24]}-{os.getpid()}"
    clock = SystemClock()
    store = _store(settings, name, clock)
    tracing = _tracing(settings, app, name)
    manager = service_manager(os.environ)

    def started() -> None:
        if manager is not None:
            manager.tell(READY="1")
        if on_ready is not None:
            on_ready(engine.vitals.http)

    operations = OperatorStore(settings.redis_url)
    engine = Engine(
        settings, app, store, clock, name=name, on_started=started, operations=operations
    )
    _stop_on_signals(engine, manager)
    # Not for engines that handlers start.
    parent = os.environ.pop("ENGINE_PARENT", "")
    if parent.isdigit():
        engine.spawn(_follow(engine, int(parent)))
    beside = side(engine) if side else None
    try:
        if beside is not None:
            engine.vitals.http = reachable(await beside.start(), settings.http_host)
        return await engine.run(burst=burst)
    finally:
        operations.close()
        if beside is not None:
            await beside.stop()
        if tracing is not None:
            await tracing.stop()


def _store(settings: EngineSettings, name: str, clock: SystemClock) -> RedisStore:
    return RedisStore.from_url(
        settings.redis_url,
        # Fresh for each start, and short: the server's log repeats it for every delivered entry.
        consumer=f"{name}-{secrets.token_hex(2)}",
        monotonic=clock.monotonic,
        settings=StoreSettings(
            timeout_s=settings.socket_timeout_ms / 1e3,
            connect_timeout_s=settings.connect_timeout_ms / 1e3,
            done_jobs_max=settings.done_jobs_max,
            events_max=settings.events_max,
        ),
    )


def _stop_on_signals(engine: Engine, manager: ServiceManager | None) -> None:
    """Let SIGTERM and Ctrl-C drain the engine, and the service manager know of it at once."""

    def stop() -> None:
        engine.stop()
        if manager is not None:
            manager.tell(STOPPING="1")

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    if manager is not None:
        engine.spawn(manager.report(engine))


def _tracing(settings: EngineSettings, app: App, name: str) -> Tracing | None:
    """Put tracing around the app's handlers, outermost, where it is wanted."""
    if settings.tracing == "off":
        return None
    tracing = Tracing(name)
    tracing.put_around(app.registry)
    return tracing


def reachable(address: str, host: str) -> str:
    """
    Say by which address others reach what listens.

    Args:
        address: Where it listens, as host:port.
        host: What the settings say; empty for nothing.
    """
    listens, port = http_address(address)
    everywhere = listens in {"0.0.0.0", "::"}  # noqa: S104 - it is looked for, not bound to
    found = host or (socket.gethostname() if everywhere else listens)
    return f"[{found}]:{port}" if ":" in found else f"{found}:{port}"


async def _follow(engine: Engine, parent: int) -> None:
    """Stop when the supervisor is gone: nobody would stop this engine any more."""
    while os.getppid() == parent:  # noqa: ASYNC110 - nobody signals that a parent is gone
        await asyncio.sleep(PARENT_PAUSE_S)
    log.warning("supervisor_gone", engine=engine.name)
    engine.stop()


def _tune_gc() -> None:
    """
    Keep the collector off the hot path.

    What was imported lives for ever, so it need not be looked at again; and the engine's own
    objects form no cycles, so the youngest generation may grow larger.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)

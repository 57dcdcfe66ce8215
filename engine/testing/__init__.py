"""
For tests, ours and those of people who write handlers.

One handler, or a whole engine, in memory::

    result = await run_handler(registry, "pack", {"weight": 3})

    async with EngineHarness(registry) as engine:
        job_id = engine.add("pack", {"weight": 3})
        await engine.drain()
        assert engine.done()[job_id].result == b"..."

Below it, a manual clock, a store in memory, and signals to wait for::

    clock = ManualClock()
    store = MemoryStore.on(clock)
    signals = Signals(store.model)
    store.model.queue("orders").add("normal", [b"type", b"pack", b"data", b"{}"])
    ...
    await signals.reached("done")
"""

from engine.testing.clock import ManualClock, settle_loop
from engine.testing.handlers import FakeJob, run_batch, run_handler
from engine.testing.harness import EngineHarness
from engine.testing.memory_store import MemoryStore
from engine.testing.model import ServerModel
from engine.testing.queue_model import QueueModel
from engine.testing.signals import Signals

__all__ = [
    "EngineHarness",
    "FakeJob",
    "ManualClock",
    "MemoryStore",
    "QueueModel",
    "ServerModel",
    "Signals",
    "run_batch",
    "run_handler",
    "settle_loop",
]

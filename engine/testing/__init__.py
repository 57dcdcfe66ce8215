"""
For tests: a manual clock, a store in memory, signals to wait for.

    clock = ManualClock()
    store = MemoryStore.on(clock)
    signals = Signals(store.model)
    store.model.queue("orders").add("normal", [b"type", b"pack", b"data", b"{}"])
    ...
    await signals.reached("done")
"""

from engine.testing.clock import ManualClock, settle_loop
from engine.testing.memory_store import MemoryStore
from engine.testing.model import ServerModel
from engine.testing.queue_model import QueueModel
from engine.testing.signals import Signals

__all__ = [
    "ManualClock",
    "MemoryStore",
    "QueueModel",
    "ServerModel",
    "Signals",
    "settle_loop",
]

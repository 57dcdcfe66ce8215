"""How full a queue of the model is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from engine.core.pressure import Bounds, Level
from engine.store.pressure import (
    BYTES_MAX,
    DEFAULT,
    JOBS_MAX,
    Pressure,
    read_bounds,
    read_defaults,
)
from engine.testing.queue_state import QueueState


class PressureModel(QueueState):
    """The verbs about full queues."""

    def pressure(self, types: Sequence[str]) -> Pressure:
        """See :meth:`engine.store.base.Store.pressure`; bytes are those of the fields alone."""
        streams = [*self.lanes.values(), *(self.held[name] for name in types if name in self.held)]
        size = sum(map(_size, (fields for each in streams for fields in each.entries.values())))
        level = Level(
            jobs=sum(len(each.entries) for each in streams)
            + sum(map(len, (self.delayed, self.flows, *self.parked.values()))),
            bytes=size + sum(map(_size, (self.delayed, *self.parked.values()))),
        )
        found = {name.encode(): str(value).encode() for name, value in self.control_hash.items()}
        return Pressure(level, read_bounds(found), read_defaults(found))

    def default_bounds(self, bounds: Bounds) -> None:
        """See :meth:`engine.store.base.Store.default_bounds`."""
        for name, most in ((JOBS_MAX, bounds.jobs), (BYTES_MAX, bounds.bytes)):
            self.control_hash.pop(f"{name}{DEFAULT}", None)
            if most:
                self.control_hash[f"{name}{DEFAULT}"] = str(most)


def _size(parts: Iterable[bytes]) -> int:
    return sum(map(len, parts))

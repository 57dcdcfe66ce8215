"""
As :mod:`benchmarks.systems.raw`, with one asyncio task per job: the practical limit of anything
that runs coroutines by themselves.

At most ``at_once`` tasks run. What has ended is acknowledged and deleted once per turn of the event
loop, and a further read is asked for while fewer than one read's entries wait.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from typing import Any

import msgspec

from benchmarks.systems import raw
from benchmarks.systems.raw import READ, READ_JOBS, Connection, Entry, Raw, ignore, settled
from benchmarks.systems.recorder import Recorder

EAGER: dict[str, Any] = {"eager_start": True} if sys.version_info >= (3, 12) else {}
"""Later Pythons start a task at once, earlier ones at the next turn of the loop."""

bare = raw.bare


class Tasks:
    """One worker's state: entries that wait, tasks that run, ids that are to be settled."""

    def __init__(
        self, recorder: Recorder, reads: Connection, writes: Connection, at_once: int
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._handler = recorder.coroutine()
        self._decode = msgspec.json.Decoder().decode
        self._reads, self._writes, self._room = reads, writes, at_once
        self._waiting: deque[Entry] = deque()
        self._ended: list[bytes] = []
        self._running: set[asyncio.Task[None]] = set()
        self._is_reading = False

    def fill(self) -> None:
        """Start as many as there is room for, and see to it that more come."""
        waiting, decode = self._waiting, self._decode
        while waiting and self._room:
            entry_id, fields = waiting.popleft()
            self._room -= 1
            job = self._run(entry_id, decode(fields[1]))
            task = asyncio.Task(job, loop=self._loop, **EAGER)
            if not task.done():
                self._running.add(task)
                task.add_done_callback(self._running.discard)
        if not self._is_reading and len(waiting) < READ_JOBS:
            self._is_reading = True
            self._reads.send(READ, self._on_entries)

    async def _run(self, entry_id: bytes, payload: Any) -> None:
        await self._handler(payload)
        self._room += 1
        if not self._ended:
            self._loop.call_soon(self._settle)
        self._ended.append(entry_id)

    def _settle(self) -> None:
        self._writes.send(settled(self._ended), ignore, ignore)
        self._ended.clear()
        self.fill()

    def _on_entries(self, reply: Any) -> None:
        self._is_reading = False
        if reply:
            self._waiting.extend(reply[0][1])
        self.fill()


class RawTask(Raw):
    """A task per job."""

    def _serve(self, recorder: Recorder, reads: Connection, writes: Connection) -> None:
        Tasks(recorder, reads, writes, self.request.at_once).fill()


SYSTEM = RawTask

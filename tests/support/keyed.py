"""Handlers that write down who ran when, for jobs with keys and for jobs under limits."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from engine import Exponential, Job, Registry
from engine.core.policy import RetryPolicy
from tests.support.engines import KEYS, QUEUE, Server

QUICK_RETRY = Exponential(attempts=6, base_s=0.01, cap_s=0.03)
GATES = (
    *(KEYS.busy(lane) for lane in KEYS.lanes),
    *(KEYS.parked(lane) for lane in KEYS.lanes),
    KEYS.limits_due,
)
"""What is empty once nobody waits for anybody."""


class Work:
    """
    Handlers of several engines in one process, and what they saw.

    A payload says in which line its job stands (``k``) and at which place (``i``), how many first
    attempts fail (``fails``), and that it runs until the test opens its gate (``waits``).

    Args:
        seed: Decides how long each job takes.
        retry: When failed attempts come again.
        limits: Named limits that the jobs go by.

    Attributes:
        starts: (number, attempt) in the order of starts, by line.
        ends: Numbers in the order of successes, by line.
        most: Most jobs that ran at once, by line and over all.
    """

    def __init__(
        self, seed: int = 0, *, retry: RetryPolicy = QUICK_RETRY, limits: Sequence[str] = ()
    ) -> None:
        print(f"seed {seed}")
        self.registry = Registry()
        self.registry.job("work", queue=QUEUE, timeout_s=60, retry=retry, limits=limits)(self.work)
        self.starts: dict[str, list[tuple[int, int]]] = defaultdict(list)
        self.ends: dict[str, list[int]] = defaultdict(list)
        self.cancelled: list[tuple[str, int]] = []
        self.most: Counter[str] = Counter()
        self.running: Counter[str] = Counter()
        self.gates: dict[tuple[str, int], asyncio.Event] = defaultdict(asyncio.Event)
        self._random = random.Random(seed)

    async def work(self, job: Job, payload: dict[str, Any]) -> None:
        line, number = str(payload["k"]), int(payload["i"])
        self.starts[line].append((number, job.attempt))
        self._enter(line, 1)
        try:
            await self.act(job, payload)
            if payload.get("waits"):
                await self.gates[line, number].wait()
            else:
                await asyncio.sleep(self._random.random() * 0.003)
            if job.attempt <= payload.get("fails", 0):
                raise RuntimeError(f"{line}.{number} fails at first")
            self.ends[line].append(number)
        except asyncio.CancelledError:
            self.cancelled.append((line, number))
            raise
        finally:
            self._enter(line, -1)

    async def act(self, job: Job, payload: dict[str, Any]) -> None:
        """Do what a test wants done first."""

    def open(self, line: str, number: int) -> None:
        """Let a job that waits go on."""
        self.gates[line, number].set()

    @property
    def count(self) -> int:
        """Successes so far."""
        return sum(map(len, self.ends.values()))

    def has_done(self, count: int) -> bool:
        """Tell whether so many have succeeded."""
        return self.count >= count

    def check_order(self, lines: Sequence[str]) -> None:
        """Hold what ran against the promise: one at a time, and in order."""
        for line in lines:
            assert self.most[line] <= 1, f"{self.most[line]} of {line} at once"
            assert self.ends[line] == sorted(self.ends[line]), f"order of {line}"
            numbers = [number for number, _ in self.starts[line]]
            assert numbers == sorted(numbers), f"starts of {line}: {self.starts[line]}"

    def _enter(self, line: str, by: int) -> None:
        for name in (line, "all"):
            self.running[name] += by
            self.most[name] = max(self.most[name], self.running[name])


def fields(line: str, number: int, *more: Any, key: str | None = "", **task: Any) -> list[Any]:
    """
    Build the fields of one job.

    Args:
        line: The line that the handler notes it in.
        number: Its number there.
        more: Further fields.
        key: Its key; the line if left out, None for a job without a key.
        task: Further payload.
    """
    told = [f'"{name}":{int(value)}' for name, value in task.items()]
    data = "{" + ",".join([f'"k":"{line}"', f'"i":{number}', *told]) + "}"
    keyed = [] if key is None else ["key", key or line]
    return ["type", "work", "data", data, *keyed, *more]


async def nothing_left(server: Server) -> None:
    """Check that all gates have let go of everything; only the lane's own mark may stay."""

    async def clean() -> bool:
        noted = await server.call("HKEYS", KEYS.admitted)
        held = [name for name in noted if not name.startswith(b"@")]
        counted = await server.call("HKEYS", KEYS.limits)
        places = [name for name in counted if name.startswith(b"u:")]
        return not (held or places or await server.call("EXISTS", *GATES))

    await server.until(clean, "gates that hold nothing")

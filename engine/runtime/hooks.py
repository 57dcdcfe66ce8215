"""Calls ``on_done`` and ``on_dead`` hooks once an end is recorded: at most once per end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from engine.core import decision as to
from engine.logs import get_logger
from engine.registry import Ended, Hook
from engine.runtime.endings import Ending
from engine.runtime.jobs import LiveJob
from engine.runtime.settler import Settled

log = get_logger("engine")

WAITING_MAX = 10_000
"""Ends that may wait for slow hooks; beyond it they are dropped, counted and told."""

LIMIT_S = 30.0


class Hooks:
    """
    Runs hooks one end after the other, beside the workers.

    Args:
        done: Hooks for done jobs, in order.
        dead: Hooks for dead jobs, in order.
        on_error: Called with the hook's name and what it raised.
    """

    def __init__(
        self,
        done: Sequence[Hook],
        dead: Sequence[Hook],
        *,
        on_error: Callable[[str, BaseException], None],
    ) -> None:
        self._done = done
        self._dead = dead
        self._on_error = on_error
        self._waiting: asyncio.Queue[tuple[Sequence[Hook], Ended]] = asyncio.Queue(WAITING_MAX)
        self.dropped = 0

    def note(self, settled: Settled) -> None:
        """Queue the hooks of what was settled."""
        if self._done:
            self._add(self._done, map(_done, settled.successes))
        if self._dead:
            deaths = (e for e in settled.endings if isinstance(e.decision, to.DeadLetter))
            self._add(self._dead, (_dead(each) for each in deaths))

    async def run(self) -> None:
        """Call hooks until cancelled."""
        while True:
            hooks, ended = await self._waiting.get()
            for hook in hooks:
                await self._call(hook, ended)
            self._waiting.task_done()

    async def drain(self) -> None:
        """Wait until all that was queued has been called."""
        await self._waiting.join()

    def _add(self, hooks: Sequence[Hook], ends: Iterable[Ended]) -> None:
        before = self.dropped
        for ended in ends:
            try:
                self._waiting.put_nowait((hooks, ended))
            except asyncio.QueueFull:
                self.dropped += 1
        if self.dropped > before:
            log.warning("hooks_dropped", count=self.dropped - before, total=self.dropped)

    async def _call(self, hook: Hook, ended: Ended) -> None:
        name = getattr(hook, "__qualname__", repr(hook))
        # A task of its own, which is left behind if it swallows its cancellation.
        task = asyncio.ensure_future(_raised(hook, ended))
        try:
            done, _ = await asyncio.wait({task}, timeout=LIMIT_S)
        except asyncio.CancelledError:
            task.cancel()
            raise
        if not done:
            task.cancel()
            self._on_error(name, TimeoutError(f"ran longer than {LIMIT_S:g} s"))
        elif (error := task.result()) is not None:
            self._on_error(name, error)


async def _raised(hook: Hook, ended: Ended) -> BaseException | None:
    """Call a hook and return what it raised: nothing may escape, or it would end the loop."""
    try:
        await hook(ended)
    except BaseException as error:  # noqa: BLE001 - a hook must not end the engine
        return error
    return None


def _done(job: LiveJob) -> Ended:
    result: Any = msgspec.json.decode(job.result) if job.result else None
    return Ended(id=job.id, type=job.type, queue=job.queue, attempt=job.attempt, result=result)


def _dead(each: Ending) -> Ended:
    job, decision = each.job, each.decision
    assert isinstance(decision, to.DeadLetter)
    error = getattr(each.outcome, "error", None)
    return Ended(
        id=job.id,
        type=job.type,
        queue=job.queue,
        attempt=decision.attempts,
        reason=decision.reason,
        error=error.message if error else "",
    )

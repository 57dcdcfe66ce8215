"""What the engine writes to its log, and how it keeps the app's background work going."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from engine.clock import Clock
from engine.core import decision as to
from engine.core import outcome as was
from engine.logs import get_logger
from engine.runtime.endings import Ending
from engine.runtime.settler import Settled

log = get_logger("engine")

RESTART_S_MAX = 30.0


class Notes:
    """Tells the log what people want to know; nothing here is said once per done job."""

    def store_changed(self, reason: str, lasted_s: float) -> None:
        """The server went away, stays away, or is back."""
        if not reason:
            log.info("redis_back", after_s=round(lasted_s, 1))
        elif lasted_s:
            log.warning("redis_still_away", reason=reason, for_s=round(lasted_s, 1))
        else:
            log.warning("redis_away", reason=reason)

    def type_held(self, queue: str, job_type: str, reason: str) -> None:
        """A handler holds its type."""
        log.error("type_held", queue=queue, type=job_type, reason=reason)

    def hook_failed(self, hook: str, error: BaseException) -> None:
        """A hook raised."""
        log.error("hook_failed", hook=hook, error=f"{type(error).__name__}: {error}")

    def settled(self, queue: str, settled: Settled) -> None:
        """Jobs ended otherwise than done."""
        says_debug = log.says_debug()
        for ending in settled.endings:
            decision = ending.decision
            if isinstance(decision, to.DeadLetter):
                log.warning("job_dead", reason=decision.reason, **_about(queue, ending))
            elif says_debug and isinstance(decision, to.RetryAt):
                log.debug("job_retried", reason=decision.why, **_about(queue, ending))

    async def keep_running(
        self, work: Callable[[Any], Awaitable[None]], services: Any, clock: Clock
    ) -> None:
        """Run the app's background work, and start it again when it fails."""
        name = getattr(work, "__qualname__", repr(work))
        tries = 0
        while True:
            began = clock.monotonic()
            try:
                await work(services)
            except asyncio.CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it was, the work must go on
                tries = 0 if clock.monotonic() - began > RESTART_S_MAX else tries + 1
                log.error("background_failed", work=name, error=f"{type(error).__name__}: {error}")
            else:
                return
            await clock.sleep(min(RESTART_S_MAX, 0.1 * 2**tries) * (0.5 + clock.draw()))


def _about(queue: str, ending: Ending) -> dict[str, Any]:
    job = ending.job
    return {
        "queue": queue,
        "type": job.type,
        "job_id": job.id,
        "attempt": getattr(ending.decision, "attempts", job.attempt),
        "trace_id": job.traceparent[3:35],
        "error": _told(ending.outcome),
    }


def _told(outcome: was.Outcome) -> str:
    """Say what went wrong; of a payload that does not fit only where, since its text shows it."""
    if isinstance(outcome, was.Broken):
        return f"{outcome.rule} at {outcome.path}" if outcome.path else outcome.rule
    error = getattr(outcome, "error", None)
    return f"{error.kind}: {error.message}" if error else ""

"""What a batch may be, and how one return value becomes an end for each of its jobs. Pure."""

from __future__ import annotations

from types import TracebackType
from typing import Any, NamedTuple

import msgspec

from engine.errors import OutcomesMismatch, RegistryError

SIZE_MAX = 10_000
WAIT_MS_MAX = 60_000


class BatchRule(msgspec.Struct, frozen=True, kw_only=True):
    """
    How jobs of one type are taken together.

    Attributes:
        size: Most jobs of one call; 1 to 10,000.
        wait_ms: How long the first of them waits for others; 1 ms to a minute.
    """

    size: int = 100
    wait_ms: int = 50

    def __post_init__(self) -> None:
        if not 1 <= self.size <= SIZE_MAX:
            raise RegistryError(f"size of a batch must be 1 to {SIZE_MAX}, not {self.size}")
        if not 1 <= self.wait_ms <= WAIT_MS_MAX:
            raise RegistryError(
                f"wait_ms of a batch must be 1 to {WAIT_MS_MAX}, not {self.wait_ms}"
            )


class Part(NamedTuple):
    """
    One job's part of what became of its batch.

    Attributes:
        result: What the job is done with, where nothing was raised.
        error: What the job fails with, or None.
        trace: Where the error was raised; none where the handler returned it.
    """

    result: Any
    error: BaseException | None = None
    trace: TracebackType | None = None


def parts_of(returned: Any, count: int) -> list[Part]:
    """
    Give each job of a batch its part of what the handler returned.

    Args:
        returned: None if all are done, or one outcome per job in the jobs' order: a result, or an
            exception to fail that job with.
        count: Jobs in the batch.

    Raises:
        OutcomesMismatch: It is neither, so nobody can say what became of which job.
    """
    if returned is None:
        return [Part(None)] * count
    if not isinstance(returned, list | tuple):
        kind = type(returned).__name__
        raise OutcomesMismatch(f"returned {kind} in place of None or a list of {count} outcomes")
    if len(returned) != count:
        raise OutcomesMismatch(f"returned {len(returned)} outcomes for {count} jobs")
    return [_part(outcome) for outcome in returned]


def _part(outcome: Any) -> Part:
    if isinstance(outcome, BaseException):
        return Part(None, outcome, outcome.__traceback__)
    if isinstance(outcome, type) and issubclass(outcome, BaseException):
        # Taken for a result, it would end a job as done that was meant to fail.
        name = outcome.__name__
        return Part(None, OutcomesMismatch(f"returned the class {name} in place of an instance"))
    return Part(outcome)

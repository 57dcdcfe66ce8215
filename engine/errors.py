"""
The errors of the engine, as one tree.

    EngineError
    ├── SettingsError        a setting is missing, out of range or contradicts another
    ├── RegistryError        a handler or an app was declared wrongly
    ├── ScheduleError        a schedule breaks a rule, or cannot be read
    ├── Malformed            a stream entry breaks a rule of the wire
    ├── EnqueueError         a job could not be accepted
    │   ├── JobRefused           it breaks a rule of the wire; nothing was written
    │   ├── QueueFull            its queue has no room for it; nothing was written
    │   ├── EnqueueUnsure        no reply came in time; it may have been accepted, or not
    │   └── EnqueueStopped       the server was given up within many jobs (engine.client)
    ├── OutcomesMismatch     a batch handler did not return one outcome per job
    ├── NotFound             the queue, job or dead letter named does not exist
    ├── WrongState           the job is in a state in which the order makes no sense
    └── StoreError
        ├── StoreUnavailable     the server cannot be reached or cannot serve now
        ├── StoreRefused         the server answered that it will not do this
        └── GroupMissing         a lane or its consumer group is gone

    JobSignal                what a handler raises to steer its job
    ├── Retry                try again later; spends an attempt
    ├── Snooze               try again later; spends none
    ├── Cancel               end the job as dead now
    └── Hold                 hold the whole type until an operator releases it
"""

from __future__ import annotations


class EngineError(Exception):
    """Anything the engine reports by name."""


class SettingsError(EngineError):
    """A setting is missing, out of range or contradicts another."""


class RegistryError(EngineError):
    """A handler or an app was declared wrongly."""


class OutcomesMismatch(EngineError):
    """A batch handler returned what cannot be told apart by job; all of its jobs fail by it."""


class ScheduleError(EngineError, ValueError):
    """A schedule breaks a rule, or its record cannot be read."""


class NotFound(EngineError):
    """The queue, job or dead letter named does not exist."""


class WrongState(EngineError):
    """The job is in a state in which the order makes no sense; nothing was changed."""


class Malformed(EngineError):
    """
    An entry breaks a rule of the wire, so no handler can take it.

    Attributes:
        rule: The rule's name, as a dead letter carries it.
        path: Where in the payload, as a JSONPath; empty for other fields.
        detail: What is wrong.
    """

    def __init__(self, rule: str, *, path: str = "", detail: str = "") -> None:
        place = f" at {path}" if path else ""
        super().__init__(f"{rule}{place}: {detail}" if detail else f"{rule}{place}")
        self.rule = rule
        self.path = path
        self.detail = detail


class EnqueueError(EngineError):
    """A job could not be accepted. Nothing was written, unless a subclass says otherwise."""


class JobRefused(EnqueueError, Malformed, ValueError):
    """A job breaks a rule of the wire, so it was not sent; the rule's name is that of the dead."""


class EnqueueUnsure(EnqueueError):
    """No reply came in time: the jobs may have been accepted, or not."""


class QueueFull(EnqueueError):
    """
    The queue has no room for the job; nothing was written.

    Attributes:
        queue: The queue.
        jobs: Jobs that it holds.
        jobs_max: Jobs that it may hold; 0 for no bound.
        bytes: Memory that they take on the server, where that is bounded.
        bytes_max: Memory that they may take; 0 for no bound.
        waited: Whether room was waited for.
    """

    def __init__(
        self,
        queue: str,
        *,
        jobs: int,
        jobs_max: int,
        bytes: int,  # noqa: A002 - the word of the bound
        bytes_max: int,
        waited: bool = False,
    ) -> None:
        bounds = [f"{jobs:,} of {jobs_max:,} jobs"] if jobs_max else []
        bounds += [f"{bytes:,} of {bytes_max:,} bytes"] if bytes_max else []
        ask = "wait longer (give_up_s)" if waited else "wait for room (when_full='wait')"
        super().__init__(
            f"queue {queue} is {'still ' if waited else ''}full, {' and '.join(bounds)}: add "
            f"engines, {ask}, or raise the bound (python -m engine bounds {queue} --help)"
        )
        self.queue = queue
        self.jobs = jobs
        self.jobs_max = jobs_max
        self.bytes = bytes
        self.bytes_max = bytes_max
        self.waited = waited

    def again(self, *, waited: bool) -> QueueFull:
        """Return the same for another job."""
        return QueueFull(
            self.queue,
            jobs=self.jobs,
            jobs_max=self.jobs_max,
            bytes=self.bytes,
            bytes_max=self.bytes_max,
            waited=waited,
        )


class StoreError(EngineError):
    """The queue's server did not do what was asked."""


class StoreUnavailable(StoreError):
    """
    The server cannot be reached or cannot serve now; the effect of the call is unknown.

    Attributes:
        kind: A short, bounded name for metrics and logs, such as ``connection`` or ``loading``.
    """

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind


class StoreRefused(StoreError):
    """
    The server is there and refused; nothing was changed.

    Attributes:
        kind: A short, bounded name for metrics and logs, such as ``oom`` or ``readonly``.
    """

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind


class GroupMissing(StoreError):
    """A lane or its consumer group is gone; create the groups again and go on."""


class JobSignal(Exception):
    """What a handler raises to steer its job; not a failure of the handler."""


class Retry(JobSignal):
    """
    Try the job again, spending this attempt.

    Args:
        after_ms: Delay in ms; left out, the type's backoff decides.
        reason: What an operator reads in the job's story.
    """

    def __init__(self, after_ms: int | None = None, *, reason: str = "") -> None:
        if after_ms is not None and not after_ms >= 0:
            raise ValueError("after_ms must be 0 or more")
        super().__init__(reason or "the handler asked for another try")
        self.after_ms = after_ms


class Snooze(JobSignal):
    """
    Put the job off without spending an attempt.

    Args:
        after_ms: Delay in ms.
        reason: What an operator reads in the job's story.
    """

    def __init__(self, after_ms: int, *, reason: str = "") -> None:
        if not after_ms >= 0:
            raise ValueError("after_ms must be 0 or more")
        super().__init__(reason or "the handler put the job off")
        self.after_ms = after_ms


class Limited(JobSignal):
    """
    A limit keeps the job back; it waits for it without spending an attempt.

    Raised by ``job.limit``; a handler lets it pass.

    Args:
        limit: The limit's name.
    """

    def __init__(self, limit: str) -> None:
        super().__init__(f"limit {limit} keeps it back")
        self.limit = limit


class Cancel(JobSignal):
    """End the job as dead now, whatever attempts are left."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Hold(JobSignal):
    """
    Hold every job of this type: its configuration is at fault, the jobs are not.

    The jobs are kept, spend no attempt, and run once an operator resumes the type.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

"""
Job types, their handlers and rules, and the app that brings them to an engine.

A handler is an ``async def`` that takes the job, its payload and, if it wants them, the app's
services::

    registry = Registry()

    @registry.job("send-message", queue="message-delivery", timeout_s=30)
    async def send_message(job: Job, payload: SendMessage, services: Services) -> SendResult: ...

The function stays callable as it is. The payload's type comes from the annotation. CPU-heavy work
is a plain ``def`` with ``pool="process"`` that takes the payload alone.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Literal, Protocol, TypeVar

import msgspec

from engine.core.batch import BatchRule
from engine.core.children import Children
from engine.core.policy import RetryPolicy, TypePolicy
from engine.declared import Limits, Schedules
from engine.errors import RegistryError
from schemas.rules import QUEUE_NAME, TYPE_NAME

Function = TypeVar("Function", bound=Callable[..., Any])
Pool = Literal["loop", "thread", "process"]


class Job(Protocol):
    """
    One attempt of a job, as its handler sees it.

    Attributes:
        id: The job's id, the same over all attempts: the key for idempotency.
        type: The job's type.
        queue: The queue it came through.
        lane: The lane it came through.
        attempt: This attempt's number, from 1.
        attempts_max: The last attempt's number.
        deliveries: How often this attempt was handed to an engine; over 1 after a crash.
        enqueued_ms: Unix ms of the producer's XADD.
        version: The payload's version as written by the producer.
        headers: Fields of the entry that the engine does not know.
        traceparent: W3C trace context, or an empty string.
        tracestate: What tracing systems add to it, or an empty string.
        children: What became of the jobs that it waited for.
    """

    @property
    def id(self) -> str: ...
    @property
    def type(self) -> str: ...
    @property
    def queue(self) -> str: ...
    @property
    def lane(self) -> str: ...
    @property
    def attempt(self) -> int: ...
    @property
    def attempts_max(self) -> int: ...
    @property
    def deliveries(self) -> int: ...
    @property
    def enqueued_ms(self) -> int: ...
    @property
    def version(self) -> int: ...
    @property
    def headers(self) -> dict[str, str]: ...
    @property
    def traceparent(self) -> str: ...
    @property
    def tracestate(self) -> str: ...
    @property
    def children(self) -> Children: ...

    async def progress(self, percent: float, message: str = "") -> None:
        """Report how far this attempt is: 0 to 100, and a line for people."""

    async def limit(self, name: str, *, retry_after_ms: int = 0) -> None:
        """
        Ask a named limit whether this job may go on; with ``retry_after_ms``, shut it for all.

        A job that must wait leaves the handler by ``Limited``, which a handler lets pass. What it
        was let through by is paid: the first question after that is free, further ones are taken
        from those to come.
        """


CallNext = Callable[[], Awaitable[Any]]
Middleware = Callable[[Job, Any, CallNext], Awaitable[Any]]
BatchMiddleware = Callable[[list[Job], CallNext], Awaitable[Any]]
"""Runs around each call of a batch handler, within the middleware of each of its jobs."""


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """
    How a job ended, as ``on_done`` and ``on_dead`` hooks receive it.

    Attributes:
        id: The job's id.
        type: The job's type.
        queue: Its queue.
        attempt: The attempt that ended it; 0 where none was started.
        result: What the handler returned, for done jobs.
        reason: Why it is dead, for dead jobs.
        error: The last error's text, for dead jobs.
    """

    id: str
    type: str
    queue: str
    attempt: int
    result: Any = None
    reason: str = ""
    error: str = ""


Hook = Callable[[Ended], Awaitable[None]]


class JobType(msgspec.Struct, frozen=True, kw_only=True):
    """
    One registered job type.

    Attributes:
        name: What producers write in the field ``type``.
        queue: The queue that takes it.
        function: The handler.
        payload: What ``data`` is decoded into: a msgspec struct, a dataclass, or ``dict``.
        arguments: How many of job, payload and services the handler takes.
        timeout_s: Time limit of one attempt, in seconds.
        policy: Attempts, delays, crash limit.
        version: The payload version written now; it and the one before are accepted.
        pool: Where the handler runs.
        events: Whether the stream ``mq:{Q}:events`` tells of its jobs.
        batch: How its jobs are taken together; None where each is run by itself.
        limits: Named limits that its jobs go by.
    """

    name: str
    queue: str
    function: Callable[..., Any]
    payload: Any
    arguments: int
    timeout_s: float
    policy: TypePolicy
    version: int
    pool: Pool
    events: bool
    batch: BatchRule | None = None
    limits: tuple[str, ...] = ()


class Registry(Schedules, Limits):
    """Job types by name, with the middleware and hooks around them, in order of registration."""

    def __init__(self) -> None:
        super().__init__()
        self.types: dict[str, JobType] = {}
        self.middleware: list[Middleware] = []
        self.batch_middleware: list[BatchMiddleware] = []
        self.done_hooks: list[Hook] = []
        self.dead_hooks: list[Hook] = []

    def job(
        self,
        name: str,
        *,
        queue: str,
        timeout_s: float = 30.0,
        retry: RetryPolicy | None = None,
        payload: Any = None,
        version: int = 1,
        pool: Pool = "loop",
        events: bool = False,
        deliveries_lost_max: int = 3,
        batch: BatchRule | None = None,
        limits: Sequence[str] = (),
    ) -> Callable[[Function], Function]:
        """
        Register a handler for one job type.

        Args:
            name: The type, ``^[a-z0-9][a-z0-9._-]{0,63}$``.
            queue: The queue that takes it, ``^[A-Za-z0-9_.-]{1,64}$``.
            timeout_s: Time limit of one attempt, in seconds.
            retry: Attempts and delays; five attempts, 1 s to 5 min, if left out.
            payload: The payload's type, where the annotation does not say it.
            version: The payload version written now.
            pool: ``process`` or ``thread`` for a plain ``def``, which takes the payload alone.
            events: Tell of these jobs in ``mq:{Q}:events``.
            deliveries_lost_max: Engines that may die under a job before it is dead.
            batch: The function takes many jobs in one call; see :meth:`batch`.
            limits: Named limits that its jobs go by, asked before the handler starts.

        Raises:
            RegistryError: The name is taken, or something in the declaration does not fit.
        """
        policy = TypePolicy(retry=retry or RetryPolicy(), deliveries_lost_max=deliveries_lost_max)

        def register(function: Function) -> Function:
            self._check(name, queue, function, timeout_s=timeout_s, version=version, pool=pool)
            arguments, annotated = _signature(name, function, pool)
            if batch is not None and pool == "process":
                raise RegistryError(f"the batch handler of {name} cannot run in a process pool")
            if batch is not None and payload is None:
                annotated = _element(name, annotated)
            self.types[name] = JobType(
                name=name,
                queue=queue,
                function=function,
                payload=annotated if payload is None else payload,
                arguments=arguments,
                timeout_s=timeout_s,
                policy=policy,
                version=version,
                pool=pool,
                events=events,
                batch=batch,
                limits=tuple(limits),
            )
            return function

        return register

    def batch(
        self,
        name: str,
        *,
        queue: str,
        size: int = 100,
        wait_ms: int = 50,
        timeout_s: float = 30.0,
        retry: RetryPolicy | None = None,
        **options: Any,
    ) -> Callable[[Function], Function]:
        """
        Register a handler that takes many jobs of one type in one call.

        It takes ``(jobs, payloads)``, two lists in the same order, or those and services. It
        returns None if all are done, or a list of one outcome per job: its result, or an exception
        such as ``Retry()`` to fail that job alone. What it raises, all of them fail by.

        Args:
            name: The type.
            queue: The queue that takes it.
            size: Most jobs of one call. Each occupies a worker, so the concurrency bounds it too.
            wait_ms: How long the first job of a call waits for others.
            timeout_s: Time limit of one call, in seconds; the wait does not count.
            retry: Attempts and delays of each job.
            options: Further ones of :meth:`job`; ``pool`` may be ``thread``.

        Raises:
            RegistryError: The name is taken, or something in the declaration does not fit.
        """
        rule = BatchRule(size=size, wait_ms=wait_ms)
        return self.job(name, queue=queue, timeout_s=timeout_s, retry=retry, batch=rule, **options)

    def around(self, middleware: Middleware) -> Middleware:
        """Run ``middleware(job, payload, call_next)`` around each handler, first one outermost."""
        self.middleware.append(middleware)
        return middleware

    def on_done(self, hook: Hook) -> Hook:
        """Call ``hook(ended)`` after a job's end as done is recorded, at most once per end."""
        self.done_hooks.append(hook)
        return hook

    def on_dead(self, hook: Hook) -> Hook:
        """Call ``hook(ended)`` after a job's end as dead is recorded, at most once per end."""
        self.dead_hooks.append(hook)
        return hook

    def queues(self) -> list[str]:
        """All queues that a registered type names, in order of registration."""
        return list(dict.fromkeys(job_type.queue for job_type in self.types.values()))

    def in_queue(self, queue: str) -> dict[str, JobType]:
        """The types that one queue takes."""
        return {name: found for name, found in self.types.items() if found.queue == queue}

    def _check(
        self,
        name: str,
        queue: str,
        function: Any,
        *,
        timeout_s: float,
        version: int,
        pool: Pool,
    ) -> None:
        if not TYPE_NAME.fullmatch(name):
            raise RegistryError(f"job type {name!r} must match {TYPE_NAME.pattern}")
        if not QUEUE_NAME.fullmatch(queue):
            raise RegistryError(f"queue {queue!r} of {name} must match {QUEUE_NAME.pattern}")
        if name in self.types:
            raise RegistryError(f"job type {name!r} is registered already")
        if timeout_s <= 0:
            raise RegistryError(f"timeout_s of {name} must be above 0, not {timeout_s}")
        if version < 1:
            raise RegistryError(f"version of {name} must be 1 or more, not {version}")
        if inspect.iscoroutinefunction(function) != (pool == "loop"):
            raise RegistryError(
                f"the handler of {name} must be `async def`"
                if pool == "loop"
                else f"the handler of {name} must be a plain `def`, since it runs in a {pool} pool"
            )


def _signature(name: str, function: Callable[..., Any], pool: Pool) -> tuple[int, Any]:
    """How many of (job, payload, services) a handler takes, and its payload's type."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = [
        parameter
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind in kinds and parameter.default is parameter.empty
    ]
    wanted = (1,) if pool != "loop" else (2, 3)
    if len(parameters) not in wanted:
        takes = "the payload alone" if pool != "loop" else "(job, payload) or those and services"
        raise RegistryError(f"the handler of {name} must take {takes}")
    hints = typing.get_type_hints(function)
    position = 0 if pool != "loop" else 1
    annotated = hints.get(parameters[position].name, dict[str, Any])
    return len(parameters), annotated


def _element(name: str, annotated: Any) -> Any:
    """The payload's type from what a batch handler says of its payloads."""
    if annotated == dict[str, Any]:
        return annotated
    origin, arguments = typing.get_origin(annotated), typing.get_args(annotated)
    if origin not in (list, Sequence) or len(arguments) != 1:
        raise RegistryError(
            f"the batch handler of {name} takes a list of payloads: write Sequence[...]"
        )
    return arguments[0]


@asynccontextmanager
async def _no_services() -> AsyncIterator[None]:
    yield None


class App:
    """
    What an engine is pointed at: a registry, and what its handlers need.

    Args:
        registry: The job types.
        lifespan: An async context manager that yields the services handed to handlers which
            take three arguments; entered once per engine process.
        migrate: Applies outstanding migrations and returns their names; ``engine migrate``.
        seed: Puts demo data in place; only ``engine dev`` calls it, after the migrations. It
            returns lines that say how to try it.
        dev: Switches on what a trial wants, such as a further listener; only ``engine dev`` calls
            it, before it serves. It returns lines to print with the addresses.
        background: Coroutine functions that take the services and run beside the engine until
            cancelled, such as an outbox relay; one that ends with an error is started again.
        ready: Says what keeps the app from working, or an empty string; part of ``/ready``.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        lifespan: Callable[[], AbstractAsyncContextManager[Any]] = _no_services,
        migrate: Callable[[], Awaitable[list[str]]] | None = None,
        seed: Callable[[], Awaitable[list[str]]] | None = None,
        dev: Callable[[], Awaitable[list[str]]] | None = None,
        background: Sequence[Callable[[Any], Awaitable[None]]] = (),
        ready: Callable[[Any], Awaitable[str]] | None = None,
    ) -> None:
        self.registry = registry
        self.lifespan = lifespan
        self.migrate = migrate
        self.seed = seed
        self.dev = dev
        self.background = tuple(background)
        self.ready = ready

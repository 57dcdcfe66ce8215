"""Schedules and limits that an app declares in its code."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol

from engine.core.limits import LimitRule, make_rule
from engine.errors import EngineError, RegistryError
from engine.store.schedules import new_schedule
from engine.wire.payload import payload_decoder
from schemas.schedule import CatchUp, Schedule


class Scheduled(Protocol):
    """What has to be known of a job type."""

    @property
    def queue(self) -> str: ...
    @property
    def payload(self) -> Any: ...
    @property
    def version(self) -> int: ...


class Schedules:
    """The part of :class:`engine.registry.Registry` that takes schedules."""

    types: Mapping[str, Scheduled]

    def __init__(self) -> None:
        super().__init__()
        self.schedules: dict[str, Schedule] = {}

    def schedule(
        self,
        name: str,
        job_type: str,
        payload: Any = None,
        *,
        cron: str = "",
        tz: str = "UTC",
        every_s: float = 0,
        at: datetime | int = 0,
        lane: str = "normal",
        catch_up: CatchUp = "last",
        jitter_s: float = 0,
        fields: Mapping[str, str] | None = None,
    ) -> None:
        """
        Enqueue a job by the clock: exactly one per tick, over all engines and restarts.

        Give one of ``cron``, ``every_s`` and ``at``. The job's id is ``<name>:<tick in Unix ms>``,
        and its headers ``schedule`` and ``tick`` say the same.

        Args:
            name: The schedule, ``^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$``.
            job_type: A type that is registered already.
            payload: What its jobs carry; checked against the type's payload.
            cron: Minute, hour, day of month, month, day of week.
            tz: The IANA zone in which ``cron`` is read.
            every_s: Interval in seconds, counted from the Unix epoch.
            at: The only tick: an aware datetime, or Unix ms.
            lane: The lane of its jobs.
            catch_up: Which missed ticks are made up for: none, the last, or all (at most 1,000).
            jitter_s: Most by which a tick is put off, drawn per tick and the same for all engines.
            fields: Further fields of the wire, such as ``key``, and headers.

        Raises:
            RegistryError: The name is taken, or something does not fit.
        """
        if name in self.schedules:
            raise RegistryError(f"schedule {name!r} is declared already")
        found = self.types.get(job_type)
        if found is None:
            raise RegistryError(f"schedule {name!r}: register the job type {job_type!r} first")
        try:
            self.schedules[name] = new_schedule(
                name,
                payload={} if payload is None else payload,
                decode=payload_decoder(found.payload),
                version=found.version,
                type=job_type,
                lane=lane,
                cron=cron,
                tz=tz,
                every_ms=round(every_s * 1000),
                at=at,
                catch_up=catch_up,
                jitter_ms=round(jitter_s * 1000),
                fields=dict(fields or {}),
            )
        except EngineError as error:
            raise RegistryError(f"schedule {name!r}: {error}") from None

    def schedules_of(self, queue: str) -> dict[str, Schedule]:
        """The schedules whose jobs go through one queue."""
        return {
            name: spec
            for name, spec in self.schedules.items()
            if self.types[spec.type].queue == queue
        }


class Limits:
    """
    The part of :class:`engine.registry.Registry` that takes limits.

    Attributes:
        limits: Queue → limit → its rule.
    """

    def __init__(self) -> None:
        self.limits: dict[str, dict[str, LimitRule]] = {}

    def limit(
        self,
        queue: str,
        name: str,
        *,
        rate: float = 0,
        per_s: float = 1,
        burst: int | None = None,
        concurrency: int = 0,
        by: str = "",
        share: str = "",
        weights: Mapping[str, int] | None = None,
    ) -> None:
        """
        Declare a limit of a queue; :func:`engine.core.limits.make_rule` tells the arguments.

        Operators may set another rule live, which then stands.

        Raises:
            RegistryError: Something does not fit.
        """
        try:
            rule = make_rule(
                name,
                rate=rate,
                per_s=per_s,
                burst=burst,
                concurrency=concurrency,
                by=by,
                share=share,
                weights=weights,
                declared=True,
            )
        except EngineError as error:
            raise RegistryError(str(error)) from None
        self.limits.setdefault(queue, {})[name] = rule

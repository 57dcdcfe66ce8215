"""
What trouble with PostgreSQL means for the job that met it.

PostgreSQL being down is not the job's failure: the job is put off and keeps its attempts.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import structlog

from engine import Cancel, Hold, Job, Retry, Snooze
from processors.errors import (
    ConfigurationError,
    DatabaseError,
    DatabaseUnavailable,
    Refused,
    ServiceUnavailable,
    StatementTimeout,
)
from processors.rules.pauses import jittered_ms
from processors.rules.sqlstate import Meaning, meaning

log = structlog.get_logger("processors.database")

_QUOTING = (asyncpg.PostgresError, asyncpg.InterfaceError)
"""Errors whose text may quote what the statement was given."""

Translated = (ConfigurationError, DatabaseError, *_QUOTING)


def verdict(error: Exception, *, snooze_ms: int, draw: float) -> Exception | None:
    """
    Choose the engine's signal for an error.

    Args:
        error: What the handler raised.
        snooze_ms: Middle of the delay during an outage.
        draw: Uniform number in [0, 1) that spreads it.

    Returns:
        The signal to raise; the error itself where the retry policy should decide; None where
        the job has nothing left to do.
    """
    match error:
        case Refused():
            return Cancel(str(error))
        case ConfigurationError():
            return Hold(str(error))
        case ServiceUnavailable(retry_after_ms=asked_ms):
            return Snooze(max(asked_ms, jittered_ms(snooze_ms, draw)), reason=str(error))
        case DatabaseUnavailable():
            return Snooze(
                jittered_ms(snooze_ms, draw), reason=f"PostgreSQL is unavailable: {error.kind}"
            )
        case StatementTimeout():
            return Retry(reason=str(error))
        case asyncpg.PostgresError(sqlstate=str(sqlstate)):
            return _verdict_of_state(error, sqlstate, jittered_ms(snooze_ms, draw))
        case asyncpg.exceptions.DataError():
            # A value that the client library cannot even send.
            return Cancel(f"value refused before PostgreSQL saw it: {type(error).__name__}")
        case _:
            return error


def _verdict_of_state(error: Exception, sqlstate: str, delay_ms: int) -> Exception | None:
    match meaning(sqlstate):
        case Meaning.OUTAGE:
            return Snooze(delay_ms, reason=f"PostgreSQL is unavailable: {sqlstate}")
        case Meaning.CONTENTION:
            return Retry(reason=f"PostgreSQL gave the transaction up: {sqlstate}")
        case Meaning.PERMANENT:
            return Cancel(f"PostgreSQL refused the statement: {_named(error, sqlstate)}")
        case Meaning.MISCONFIGURED:
            return Hold(
                f"PostgreSQL and this release do not fit: {_named(error, sqlstate)}; "
                "are all migrations applied?"
            )
        case Meaning.SUPERSEDED:
            return None
        case Meaning.UNKNOWN:
            return error


def _named(error: Exception, sqlstate: str) -> str:
    # The message and its details may quote values of the row; these names never do.
    constraint = getattr(error, "constraint_name", None)
    return f"{sqlstate} {type(error).__name__}" + (f" of {constraint}" if constraint else "")


def database_errors(
    *, snooze_ms: int, draw: Callable[[], float]
) -> Callable[[Job, Any, Callable[[], Awaitable[Any]]], Awaitable[Any]]:
    """
    Make the middleware that translates errors of PostgreSQL into the engine's signals.

    Args:
        snooze_ms: Middle of the delay by which jobs are put off during an outage.
        draw: Gives uniform numbers in [0, 1).
    """

    async def translate(job: Job, payload: Any, call_next: Callable[[], Awaitable[Any]]) -> Any:  # noqa: ARG001
        try:
            return await call_next()
        except (Refused, ServiceUnavailable, *Translated) as error:
            signal = verdict(error, snooze_ms=snooze_ms, draw=draw())
            if signal is error:
                raise
            if signal is not None and isinstance(error, _QUOTING):
                # The dead letter keeps where it failed, without the words of the cause.
                raise signal.with_traceback(error.__traceback__) from None
            if signal is not None:
                raise signal from error
            log.info("job_superseded", job_id=job.id, type=job.type, error=type(error).__name__)
            return {"superseded": True}

    return translate

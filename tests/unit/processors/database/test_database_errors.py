"""The middleware that turns errors of PostgreSQL into the engine's signals."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest

from engine import Cancel, Hold, Job, Retry, Snooze
from processors.database.middleware import database_errors
from processors.errors import (
    ConfigurationError,
    DatabaseUnavailable,
    Refused,
    StatementTimeout,
)

translate = database_errors(snooze_ms=2_000, draw=lambda: 0.25)


@dataclass(frozen=True)
class Attempt:
    """As much of a job as the middleware reads."""

    id: str = "j1"
    type: str = "send-message"


JOB: Job = Attempt()  # type: ignore[assignment]


def raising(error: BaseException) -> Any:
    async def handle() -> None:
        raise error

    return handle


TABLE = [
    (DatabaseUnavailable("connect", "refused"), Snooze),
    (asyncpg.ConnectionDoesNotExistError("gone"), Snooze),
    (asyncpg.CannotConnectNowError("starting up"), Snooze),
    (asyncpg.AdminShutdownError("bye"), Snooze),
    (asyncpg.TooManyConnectionsError("full"), Snooze),
    (asyncpg.DiskFullError("full"), Snooze),
    (StatementTimeout("slow"), Retry),
    (asyncpg.QueryCanceledError("slow"), Retry),
    (asyncpg.SerializationError("again"), Retry),
    (asyncpg.DeadlockDetectedError("again"), Retry),
    (asyncpg.LockNotAvailableError("busy"), Retry),
    (asyncpg.StringDataRightTruncationError("long"), Cancel),
    (asyncpg.PostgresSyntaxError("what"), Cancel),
    (asyncpg.exceptions.DataError("not a number"), Cancel),
    (Refused("not-a-member", "no"), Cancel),
    (asyncpg.UndefinedTableError("no table"), Hold),
    (asyncpg.InvalidPasswordError("wrong"), Hold),
    (ConfigurationError("postgres_url"), Hold),
]


@pytest.mark.parametrize(("error", "signal"), TABLE, ids=repr)
async def test_signal(error: Exception, signal: type[Exception]) -> None:
    with pytest.raises(signal) as raised:
        await translate(JOB, None, raising(error))
    quotes = isinstance(error, asyncpg.PostgresError | asyncpg.InterfaceError)
    assert raised.value.__cause__ is (None if quotes else error)


@pytest.mark.parametrize(
    "error",
    [asyncpg.RaiseError("twice"), asyncpg.InterfaceError("misuse"), KeyError("bug"),
     TimeoutError(), ConnectionResetError(), Retry(5), Snooze(5)],
)  # fmt: skip
async def test_what_no_rule_names_passes_as_it_is(error: Exception) -> None:
    with pytest.raises(type(error)) as raised:
        await translate(JOB, None, raising(error))
    assert raised.value is error


async def test_outage_delay_is_spread() -> None:
    delays = []
    for draw in (0.0, 0.5, 0.999):
        spread = database_errors(snooze_ms=2_000, draw=lambda draw=draw: draw)  # type: ignore[misc]
        with pytest.raises(Snooze) as raised:
            await spread(JOB, None, raising(DatabaseUnavailable("pool", "none free")))
        delays.append(raised.value.after_ms)
    assert delays == [1_000, 2_000, 2_998]


async def test_what_is_gone_leaves_nothing_to_do() -> None:
    result = await translate(JOB, None, raising(asyncpg.ForeignKeyViolationError("gone")))

    assert result == {"superseded": True}


CANARY = "canary-4711-value"


def state_error(kind: type[asyncpg.PostgresError], **fields: str) -> asyncpg.PostgresError:
    error = kind(f'invalid input: "{CANARY}"\nDETAIL: {CANARY}')
    for name, value in fields.items():
        setattr(error, name, value)
    return error


@pytest.mark.parametrize(
    ("error", "names"),
    [
        (state_error(asyncpg.InvalidTextRepresentationError), "22P02 InvalidTextRepresentation"),
        (state_error(asyncpg.UndefinedTableError), "42P01 UndefinedTableError"),
        (state_error(asyncpg.StringDataRightTruncationError, constraint_name="c1"), "of c1"),
        (state_error(asyncpg.SerializationError), "40001"),
        (state_error(asyncpg.DiskFullError), "53100"),
        (asyncpg.exceptions.DataError(f"invalid input for query argument $1: {CANARY}"), "Data"),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_reasons_name_state_class_and_constraint_and_no_values(
    error: Exception, names: str
) -> None:
    with pytest.raises((Cancel, Hold, Retry, Snooze)) as raised:
        await translate(JOB, None, raising(error))

    told = repr(vars(raised.value)) + "".join(traceback.format_exception(raised.value))
    assert "in handle" in told
    assert names in told
    assert CANARY not in told

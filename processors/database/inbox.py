"""
Effects of a job that happen once, however often it runs.

The inbox row is written in the transaction of the effects: both are there, or neither is. A
second run of the same job, at the same time or later, gets the first one's result.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import msgspec

from processors.database.pool import Database
from processors.database.statements import inbox as statements

if TYPE_CHECKING:
    from processors.database.pool import Connection

Result = TypeVar("Result")


async def once(
    database: Database,
    effects: Callable[[Connection], Awaitable[Result]],
    result_type: type[Result],
    *,
    handler: str,
    job_id: str,
) -> Result:
    """
    Run a job's effects in one transaction, unless they are there already.

    Args:
        database: Where the effects and the inbox are.
        effects: Does the work on the connection given, and nothing else.
        result_type: What the stored result is decoded into.
        handler: Whose job it is; ids need to differ within one handler alone.
        job_id: The job's id, the same over all its attempts.

    Returns:
        The result of the run that was committed.
    """
    async with database.transaction() as connection:
        # Waits here while another run of this job is at work, and sees its end.
        if await connection.fetchrow(statements.CLAIM, handler, job_id) is None:
            stored = await connection.fetchrow(statements.RESULT, handler, job_id)
            assert stored is not None
            return msgspec.convert(stored["result"], result_type)
        result = await effects(connection)
        await connection.execute(statements.RECORD, handler, job_id, result)
        return result

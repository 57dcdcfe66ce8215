"""
Effects of a job that happen once, however often it runs.

The inbox row is written in the transaction of the effects: both are there, or neither is. A
second run of the same job, at the same time or later, gets the first one's result.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
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


async def once_each(
    database: Database,
    effects: Callable[[Connection, Sequence[str]], Awaitable[Mapping[str, Result]]],
    result_type: type[Result],
    *,
    handler: str,
    job_ids: Sequence[str],
) -> dict[str, Result]:
    """
    Run the effects of several jobs in one transaction, those that are not there already.

    Args:
        database: Where the effects and the inbox are.
        effects: Does the work of the jobs whose ids it is given; returns the result of each.
        result_type: What stored results are decoded into.
        handler: Whose jobs they are.
        job_ids: The jobs' ids.

    Returns:
        The result of each job's run that was committed.
    """
    async with database.transaction() as connection:
        claimed = {
            row["job_id"] for row in await connection.fetch(statements.CLAIM_MANY, handler, job_ids)
        }
        before = [job_id for job_id in job_ids if job_id not in claimed]
        results: dict[str, Result] = {}
        if before:
            rows = await connection.fetch(statements.RESULTS, handler, before)
            results = {row["job_id"]: msgspec.convert(row["result"], result_type) for row in rows}
        now = [job_id for job_id in dict.fromkeys(job_ids) if job_id in claimed]
        if now:
            made = await effects(connection, now)
            await connection.execute(
                statements.RECORD_MANY, handler, now, [made[job_id] for job_id in now]
            )
            results |= made
        return results

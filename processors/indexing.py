"""``indexing``: keep the search index as the messages are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine import Job
from processors.services.bundle import Services
from schemas.messages import (
    AuditIndex,
    AuditResult,
    DeleteIndexed,
    Indexing,
    IndexMessages,
    Reindex,
    ReindexResult,
    UpdateIndexed,
)


async def indexing(
    jobs: Sequence[Job], payloads: Sequence[Indexing], services: Services
) -> list[Any]:
    """
    Index the messages of all jobs together, and return a result or an error for each.

    Safe to run twice, late and in any order: what is written is what the messages are now. A chunk
    of a run leaves its next job once, by its inbox row.
    """
    outcomes: dict[int, Any] = {}
    written = [n for n, each in enumerate(payloads) if isinstance(each, _WRITING)]
    deleted = [n for n, each in enumerate(payloads) if isinstance(each, DeleteIndexed)]
    if written:
        results = await services.search.indexer.index_jobs([_ids(payloads[n]) for n in written])
        outcomes.update(zip(written, results, strict=True))
    if deleted:
        removed = await services.search.indexer.delete_jobs([_ids(payloads[n]) for n in deleted])
        outcomes.update(zip(deleted, removed, strict=True))
    for number, (job, payload) in enumerate(zip(jobs, payloads, strict=True)):
        if isinstance(payload, Reindex | AuditIndex):
            outcomes[number] = await _chunk(job, payload, services)
    return [outcomes[number] for number in range(len(jobs))]


_WRITING = IndexMessages | UpdateIndexed


def _ids(payload: Indexing) -> Sequence[Any]:
    assert not isinstance(payload, Reindex | AuditIndex)
    return payload.message_ids


async def _chunk(
    job: Job, payload: Reindex | AuditIndex, services: Services
) -> ReindexResult | AuditResult | Exception:
    """Do one chunk of a run; its failure is no other job's."""
    try:
        if isinstance(payload, Reindex):
            return await services.search.runs.reindex(payload, job_id=job.id, progress=job.progress)
        return await services.search.runs.audit(payload, job_id=job.id, progress=job.progress)
    except Exception as error:  # noqa: BLE001 - the engine settles this job by it
        return error

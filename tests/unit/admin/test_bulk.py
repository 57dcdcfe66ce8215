"""Batches of dead letters, and schemas of job types."""

from __future__ import annotations

import msgspec

from engine.admin.bulk import BATCH_BYTES, batches
from engine.admin.contracts import job_schemas
from engine.registry import Job, Registry
from engine.store.operator import Found


def dead(size: int) -> Found:
    return Found(
        queue="q",
        state="dead",
        lane="low",
        entry="1-1",
        fields=[b"x" * size],
        at_ms=0,
        position="",
    )


def test_batches_are_bounded_in_jobs_and_bytes() -> None:
    parted = batches([dead(10)] * 7, jobs_max=3)
    assert [len(batch) for batch in parted] == [3, 3, 1]

    large = batches([dead(BATCH_BYTES // 2 + 1)] * 3 + [dead(BATCH_BYTES * 3)], jobs_max=100)
    assert [len(batch) for batch in large] == [1, 1, 1, 1]
    assert batches([], jobs_max=3) == []


class Payload(msgspec.Struct, rename="camel"):
    """What is sent."""

    user_id: int


def test_a_schema_names_its_queue_and_its_fields_as_on_the_wire() -> None:
    registry = Registry()

    @registry.job("mail", queue="q", version=2)
    async def mail(job: Job, payload: Payload) -> None: ...

    @registry.job("any", queue="q")
    async def anything(job: Job, payload: dict[str, object]) -> None: ...

    @registry.job("free", queue="q")
    async def free(job, payload): ...  # type: ignore[no-untyped-def]

    schemas = job_schemas(registry)

    assert list(schemas) == ["any", "free", "mail"]
    assert schemas["mail"]["x-queue"] == "q"
    assert schemas["mail"]["x-version"] == 2
    assert schemas["mail"]["$defs"]["Payload"]["required"] == ["userId"]
    assert schemas["any"]["type"] == schemas["free"]["type"] == "object"

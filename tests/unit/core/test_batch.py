"""What a batch handler may return, and how it is declared."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from unittest.mock import AsyncMock

import pytest

from engine import Cancel, Job, Registry, Retry
from engine.core.batch import Part, parts_of
from engine.errors import OutcomesMismatch, RegistryError
from engine.testing import FakeJob, run_batch, run_handler
from tests.tidy.sources import ROOT


def test_none_means_that_all_are_done() -> None:
    assert parts_of(None, 3) == [Part(None)] * 3


def test_each_job_has_its_own_part() -> None:
    error = ValueError("two")

    parts = parts_of([{"n": 1}, error, None], 3)

    assert [(part.result, part.error) for part in parts] == [
        ({"n": 1}, None),
        (None, error),
        (None, None),
    ]


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ([1, 2], "returned 2 outcomes for 3 jobs"),
        ((), "returned 0 outcomes for 3 jobs"),
        ({"a": 1, "b": 2, "c": 3}, "returned dict in place of None or a list of 3 outcomes"),
        ("abc", "returned str"),
        (True, "returned bool"),
        (iter([1, 2, 3]), "returned list_iterator"),
    ],
)
def test_what_cannot_be_told_apart_by_job_is_refused(returned: Any, said: str) -> None:
    with pytest.raises(OutcomesMismatch, match=said):
        parts_of(returned, 3)


def test_an_exception_s_class_is_not_taken_for_a_result() -> None:
    (part, other) = parts_of([Retry, 1], 2)

    assert "the class Retry in place of an instance" in str(part.error)
    assert other == Part(1)


async def one(job: Job, payload: dict[str, Any]) -> None: ...
async def untyped(jobs, payloads): ...  # type: ignore[no-untyped-def]
async def listed(jobs: list[Job], payloads: list[dict[str, int]]) -> None: ...
async def sequence(jobs: Sequence[Job], payloads: Sequence[FakeJob], services: Any) -> None: ...
async def nested(jobs: list[Job], payloads: dict[str, list[int]]) -> None: ...
def plain(payloads: list[FakeJob]) -> None: ...


@pytest.mark.parametrize(
    ("function", "options", "payload", "arguments"),
    [
        (untyped, {}, dict[str, Any], 2),
        (listed, {}, dict[str, int], 2),
        (sequence, {}, FakeJob, 3),
        (nested, {"payload": FakeJob}, FakeJob, 2),
        (plain, {"pool": "thread"}, FakeJob, 1),
    ],
)
def test_the_payload_is_an_element_of_what_the_handler_takes(
    function: Any, options: dict[str, Any], payload: Any, arguments: int
) -> None:
    registry = Registry()

    assert registry.batch("index", queue="q", size=7, wait_ms=9, **options)(function) is function

    found = registry.types["index"]
    assert (found.payload, found.arguments) == (payload, arguments)
    assert found.batch is not None
    assert (found.batch.size, found.batch.wait_ms) == (7, 9)


@pytest.mark.parametrize(
    ("function", "options", "said"),
    [
        (nested, {}, "takes a list of payloads"),
        (plain, {"pool": "process"}, "cannot run in a process pool"),
        (plain, {}, "must be `async def`"),
        (listed, {"size": 0}, "size of a batch must be 1 to"),
        (listed, {"wait_ms": 0}, "wait_ms of a batch must be 1 to"),
        (listed, {"wait_ms": 60_001}, "wait_ms of a batch must be 1 to"),
    ],
)
def test_a_declaration_that_does_not_fit_is_refused(
    function: Any, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(RegistryError, match=said):
        Registry().batch("index", queue="q", **options)(function)


def test_a_handler_of_single_jobs_is_none_of_batches() -> None:
    registry = Registry()
    registry.job("index", queue="q")(one)

    assert registry.types["index"].batch is None


async def test_a_batch_handler_is_tried_out_without_an_engine() -> None:
    registry = Registry()

    @registry.batch("double", queue="q")
    async def double(jobs: list[Job], payloads: list[dict[str, int]], by: int) -> list[Any]:
        await jobs[0].progress(50)
        return [
            each["n"] * by if each["n"] else ValueError(job.id)
            for job, each in zip(jobs, payloads, strict=True)
        ]

    first, failed = await run_batch(registry, "double", [{"n": 4}, {"n": 0}], services=2)

    assert first == 8
    assert isinstance(failed, ValueError)
    assert await run_handler(registry, "double", {"n": 4}, services=3) == 12
    with pytest.raises(ValueError, match="mine"):
        await run_handler(registry, "double", {"n": 0}, job=FakeJob(id="mine"), services=3)


async def test_the_example_of_the_document_runs_as_written() -> None:
    section = (ROOT / "engine" / "FLOW.md").read_text().partition("## Batch handlers")[2]
    example = re.findall(r"```python\n(.*?)```", section, re.DOTALL)[0]
    there: dict[str, Any] = {"__name__": "example"}
    exec(example, there)
    search = AsyncMock()
    search.bulk.return_value = {"d1": 201, "d2": 429, "d3": 400}
    documents = [{"documentId": name, "text": "hi"} for name in ("d1", "d2", "d3")]

    ends = await run_batch(there["registry"], "index-document", documents, services=search)

    assert ends[0] == {"status": 201}
    assert [type(end) for end in ends[1:]] == [Retry, Cancel]

"""When lanes are read, and what happens first: the next read or the jobs of the last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from engine import Job, Registry
from engine.runtime.fetcher import FIRST_READ_MAX, SMALL
from engine.store.base import Fetched, Lease
from engine.testing import EngineHarness
from tests.support.engines import QUEUE


class Watched:
    """An engine of which each read and each start of a job is noted, in order."""

    def __init__(self, **settings: Any) -> None:
        self.noted: list[Any] = []
        registry = Registry()
        registry.job("work", queue=QUEUE)(self._work)
        self.harness = EngineHarness(registry, **settings)
        self._wait, self._fetch = self.harness.store.wait, self.harness.store.fetch
        self.harness.store.wait = self._noted_wait  # type: ignore[method-assign]
        self.harness.store.fetch = self._noted_fetch  # type: ignore[method-assign]

    async def _work(self, _job: Job, _payload: dict[str, Any]) -> None:
        self.noted.append("start")

    async def _noted_wait(
        self, queue: str, lanes: Sequence[str], count: int, block_ms: int
    ) -> list[Lease]:
        self.noted.append("wait")
        return await self._wait(queue, lanes, count, block_ms)

    async def _noted_fetch(self, queue: str, counts: Mapping[str, int]) -> Fetched:
        self.noted.append(dict(counts))
        return await self._fetch(queue, counts)


async def run(jobs: Mapping[str, int], **settings: Any) -> list[Any]:
    """Give a waiting engine some jobs per lane at once, and return what it did from then on."""
    watched = Watched(**settings)
    async with watched.harness as engine:
        await engine.until(lambda: watched.noted == ["wait"], what="a read")
        watched.noted.clear()
        lanes = [lane for lane, count in jobs.items() for _ in range(count)]
        added = [engine.add("work", lane=lane) for lane in lanes]
        await engine.until_ended(*added)
        await engine.until(lambda: "wait" in watched.noted, what="the next blocking read")
    return watched.noted


@pytest.mark.parametrize("count", [1, SMALL - 1])
async def test_few_jobs_start_before_the_next_read_is_sent(count: int) -> None:
    assert await run({"normal": count}) == [*(count * ["start"]), "wait"]


async def test_many_jobs_start_while_the_next_read_is_on_its_way() -> None:
    jobs = {"normal": SMALL // 2, "low": SMALL // 2}
    assert await run(jobs) == ["wait", *(SMALL * ["start"])]


async def test_a_lane_that_a_read_cut_short_is_asked_again_at_once() -> None:
    """Goal: no round trip that only counts, while the jobs of the read before wait for it."""
    noted = await run({"normal": FIRST_READ_MAX // 2, "low": 1})
    again, last = [each for each in noted if each != "start"]
    assert again.keys() == {"critical", "normal"}
    assert again["normal"] >= FIRST_READ_MAX // 4
    assert last == "wait"

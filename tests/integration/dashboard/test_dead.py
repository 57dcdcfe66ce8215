"""Dead letters and bulk operations over the API, on a real server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from engine.admin import Admin
from tests.support.page import Open, Visited
from tests.support.queue_writer import QUEUE, TYPE, QueueWriter

GROUP = "a" * 12


class Asked:
    """The API, and a queue to write into."""

    def __init__(self, page: Visited, admin: Admin, queue: QueueWriter) -> None:
        self.page = page
        self.admin = admin
        self.queue = queue

    async def get(self, path: str, status: int = 200) -> Any:
        answer, text = await self.page.ask(path)
        assert answer.status == status, text
        return json.loads(text)

    async def post(self, path: str, status: int = 200, **body: Any) -> Any:
        answer, text = await self.page.ask(path, "POST", json=body)
        assert answer.status == status, text
        return json.loads(text)

    async def plan(self, **changes: Any) -> Any:
        wanted = {"queue": QUEUE, "action": "retry", "filter": {"fingerprint": GROUP}}
        return await self.post("/api/operations/plan", **wanted | changes)


@pytest.fixture
async def api(redis_url: str, site: Open) -> AsyncIterator[Asked]:
    """Give the API over a queue whose lanes are open."""
    queue = QueueWriter(redis_url)
    queue.open()
    async with Admin(redis_url, who="ada@here", types={QUEUE: [TYPE], "empty": []}) as admin:
        yield Asked(await site(admin=admin), admin, queue)
    queue.close()


async def test_groups_are_listed_over_all_queues_and_filtered(api: Asked) -> None:
    for number in range(3):
        api.queue.bury(f"j{number}", died_ms=1_000 + number)
    api.queue.bury("x", reason="expired", fingerprint="b" * 12, type="other-type")

    page = await api.get("/api/dead")

    assert (page["dead"], page["matched"], page["queues"]) == (4, 4, {QUEUE: 4})
    assert page["order"] == [f"{QUEUE}/{GROUP}", f"{QUEUE}/{'b' * 12}"]
    row = page["rows"][f"{QUEUE}/{GROUP}"]
    assert (row["group"]["jobs"], row["group"]["firstMs"], row["group"]["lastMs"]) == (
        *(3, 1_000, 1_002),
    )
    assert (page["types"], page["reasons"]) == (*(["other-type", TYPE], ["exhausted", "expired"]),)
    for query, found in (
        ("reason=expired", 1),
        (f"type={TYPE}", 3),
        ("text=NO+SUCH+user&type=other-type", 1),
        ("from=2000", 1),
        ("queue=empty", 0),
    ):
        assert (await api.get(f"/api/dead?{query}"))["matched"] == found
    limited = await api.get("/api/dead?limit=1")
    assert (len(limited["order"]), limited["more"]) == (1, 1)


async def test_a_group_shows_its_samples_without_payloads(api: Asked) -> None:
    for number in range(12):
        api.queue.bury(f"j{number}", died_ms=1_000 + number)

    page = await api.get(f"/api/dead/{QUEUE}/{GROUP}")

    assert [each["id"] for each in page["samples"]] == [f"j{n}" for n in range(11, 1, -1)]
    assert page["samples"][0]["error"]["message"] == "no such user 17"
    assert "data" not in json.dumps(page)
    await api.get(f"/api/dead/{QUEUE}/{'0' * 12}", 404)


async def test_a_plan_is_started_watched_stopped_and_undone(api: Asked) -> None:
    for number in range(3):
        api.queue.bury(f"j{number}")
    plan = await api.plan(rate=1, canary=1)
    assert (plan["count"], plan["complete"], plan["canary"]) == (3, True, 1)
    again = await api.post("/api/operations/plan", planId=plan["id"])
    assert again == plan | {"expiresMs": again["expiresMs"]}

    started = await api.post("/api/operations", planId=plan["id"], reason="provider is back")

    name = started["record"]["id"]
    assert (started["record"]["who"], started["record"]["state"]) == ("local", "canary")
    path = f"/api/operations/{QUEUE}/{name}"
    assert (await api.get(path))["record"] == started["record"]
    assert (await api.post(f"{path}/stop", reason="no"))["record"]["state"] == "stopped"
    assert (await api.post(f"{path}/resume"))["record"]["state"] == "releasing"
    refused = await api.post(f"{path}/undo", 409)
    assert "cannot undo; it can be asked to stop" in refused["detail"]
    listed = await api.get(f"/api/operations?queue={QUEUE}")
    assert [each["record"]["id"] for each in listed["operations"]] == [name]
    group = await api.get(f"/api/dead/{QUEUE}/{GROUP}")
    assert [each["record"]["id"] for each in group["operations"]] == [name]
    said = [(each.what, each.reason) for each in await api.admin.audit()]
    assert said == [
        *(("retry-resume", ""), ("retry-stop", "no"), ("retry-start", "provider is back")),
    ]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"queue": ""}, "needs a queue"),
        ({"queue": "a b"}, "must match"),
        ({"rate": 0}, "`float` >= 0.001"),
        ({"canary": -1}, "`int` >= 0"),
        ({"filter": {"colour": "red"}}, "unknown field"),
        ({"action": "burn"}, "Invalid enum value"),
    ],
)
async def test_a_plan_that_makes_no_sense_is_refused(
    api: Asked, changes: dict[str, Any], why: str
) -> None:
    wanted = {"queue": QUEUE, "action": "retry", "filter": {}} | changes

    assert why in (await api.post("/api/operations/plan", 400, **wanted))["detail"]


async def test_many_are_discarded_only_with_the_queue_s_name(api: Asked) -> None:
    api.queue.bury_many(101, [b"type", TYPE.encode(), b"data", b"{}"], GROUP)
    plan = await api.plan(action="discard")
    assert plan["confirm"]

    refused = await api.post("/api/operations", 409, planId=plan["id"])
    assert QUEUE in refused["detail"]
    done = await api.post("/api/operations", planId=plan["id"], confirm=QUEUE)

    assert done["record"]["state"] == "waiting"
    await api.post("/api/operations", 404, planId=f"{QUEUE}/none")
    await api.get(f"/api/operations/{QUEUE}/none", 404)

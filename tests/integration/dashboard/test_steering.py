"""The routes about queues, jobs and schedules, over a real server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest

from engine.admin import Admin, Budget, Query
from engine.admin.contracts import payload_judge
from engine.registry import Job, Registry
from engine.store.operator.jobs import FLOW
from engine.testing import ManualClock
from schemas.job import AttemptRecord, ErrorRecord, Meta
from schemas.schedule import Schedule
from tests.support.page import Open, Visited
from tests.support.queue_writer import QUEUE, TYPE, QueueWriter, job_fields

HOUR_MS = 3_600_000
HOSTILE_IDS = ["a/b", "100%", "%2F..", "é-ü-漢", "x" * 128, "<b>&'\"", "?q=1#f", "5-1"]
BASE = f"/api/queues/{QUEUE}"

registry = Registry()


@registry.job(TYPE, queue=QUEUE)
async def send(job: Job, payload: dict[str, int]) -> None:
    """Take numbers alone."""


class Steered:
    """The routes, a queue to write into, and what was recorded."""

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

    async def audited(self) -> list[tuple[str, str, str]]:
        return [(each.who, each.what, each.reason) for each in await self.admin.audit()]


@pytest.fixture
async def steered(redis_url: str, site: Open) -> AsyncIterator[Steered]:
    queue = QueueWriter(redis_url)
    queue.open()
    async with Admin(redis_url, who="ada@here", types={QUEUE: [TYPE]}) as admin:
        judge = payload_judge(registry, 1_000)
        # No time passes while a request searches, however slow the machine is.
        opened = await site(admin=admin, judge=judge, clock=ManualClock())
        yield Steered(opened, admin, queue)
    queue.close()


def one_of_each(queue: QueueWriter, job_id: str) -> None:
    """Put a job of one id, apart from its state, into every state that can be written by hand."""
    meta = Meta(id=job_id, enqueued_ms=1)
    queue.enqueue(job_fields(id=job_id))
    queue.deliver()
    queue.enqueue(job_fields(id=job_id))
    queue.delay(queue.now_ms() + HOUR_MS, meta)
    queue.hold(TYPE)
    queue.set_aside(TYPE, meta)
    queue.finish([job_id])
    queue.bury(job_id)


@pytest.mark.parametrize("job_id", HOSTILE_IDS)
async def test_a_job_of_any_id_is_found_by_its_row_in_every_state(
    job_id: str, steered: Steered
) -> None:
    if " " in job_id:
        pytest.skip("ids of done jobs are joined by spaces")
    one_of_each(steered.queue, job_id)

    for state in ("waiting", "active", "delayed", "held", "done", "dead"):
        (row,) = (await steered.get(f"{BASE}/jobs?state={state}"))["jobs"]
        look = await steered.get(f"{BASE}/jobs/{quote(job_id, safe='')}?at={quote(row['hint'])}")

        assert look["story"]["job"]["id"] == job_id
        assert look["story"]["job"]["state"] == state
        assert look["story"]["why"]


async def test_a_hint_that_is_out_of_date_or_nonsense_finds_the_job_all_the_same(
    steered: Steered,
) -> None:
    steered.queue.enqueue(job_fields(id="j1"))

    for hint in ("lane/low/5-1", "dead/x", "held/../1-1", "parked/low/%%%", "delayed/999", "zzz"):
        look = await steered.get(f"{BASE}/jobs/j1?at={quote(hint)}")
        assert look["story"]["job"]["state"] == "waiting"


async def test_pages_go_on_where_they_ended_while_jobs_leave(steered: Steered) -> None:
    queue = steered.queue
    for number in range(7):
        queue.enqueue(job_fields(id=f"j{number}"), lane="normal")

    first = await steered.get(f"{BASE}/jobs?limit=3")
    queue.deliver(4)
    second = await steered.get(f"{BASE}/jobs?limit=3&cursor={quote(first['cursor'])}")

    assert [row["id"] for row in first["jobs"]] == ["j0", "j1", "j2"]
    assert [row["id"] for row in second["jobs"]] == ["j4", "j5", "j6"]


@pytest.mark.parametrize("state", FLOW)
async def test_every_state_has_a_list_and_says_what_it_searched(
    state: str, steered: Steered
) -> None:
    one_of_each(steered.queue, "j1")

    page = await steered.get(f"{BASE}/jobs?state={state}")

    assert page["total"] == len(page["jobs"]) == page["searched"]
    assert page["complete"]


@pytest.mark.parametrize(
    ("state", "query", "ids"),
    [
        ("dead", "text=NO%20SUCH", ["d1"]),
        ("dead", "lane=low", ["d2"]),
        ("dead", "type=other-type", ["d3"]),
        ("dead", "from=0&to=1", []),
        ("delayed", "lane=low", ["late"]),
        ("delayed", "text=payload-of-soon", ["soon"]),
        ("waiting", "lane=high", ["w1"]),
        ("waiting", "id=w2", ["w2"]),
        ("done", "id=e2", ["e2"]),
    ],
)
async def test_filters_pick_jobs(state: str, query: str, ids: list[str], steered: Steered) -> None:
    queue = steered.queue
    queue.bury("d1")
    other = ErrorRecord(kind="KeyError", message="x")
    queue.bury("d2", lane="low", error=other)
    queue.bury("d3", type="other-type", error=other)
    soon = Meta(id="soon", enqueued_ms=1)
    queue.delay(queue.now_ms() + HOUR_MS, soon, job_fields(b'{"a":"payload-of-soon"}'))
    queue.delay(queue.now_ms() + 2 * HOUR_MS, Meta(id="late", enqueued_ms=1), lane="low")
    queue.enqueue(job_fields(id="w1"), lane="high")
    queue.enqueue(job_fields(id="w2"))
    queue.finish(["e1", "e2"])

    page = await steered.get(f"{BASE}/jobs?state={state}&{query}")

    assert [row["id"] for row in page["jobs"]] == ids


async def test_times_bound_what_is_read(steered: Steered) -> None:
    queue, now_ms = steered.queue, steered.queue.now_ms()
    for hours in (1, 2, 3):
        queue.delay(now_ms + hours * HOUR_MS, Meta(id=f"j{hours}", enqueued_ms=1))

    begin, end = now_ms + 2 * HOUR_MS, now_ms + 3 * HOUR_MS
    page = await steered.get(f"{BASE}/jobs?state=delayed&from={begin}&to={end}")

    assert [row["id"] for row in page["jobs"]] == ["j2"]
    assert page["searched"] == 1


async def test_a_search_ends_when_its_time_is_over_and_goes_on_later(steered: Steered) -> None:
    """
    Goal: a search looks at a bounded part of a long list, and its parts make up the whole.

    Method: the clock moves by 30 ms with every look at it, so 40 ms are over after some chunks.
    """
    for number in range(300):
        steered.queue.enqueue(job_fields(id=f"j{number}"))
    clock = TiredClock()
    parts, cursor, ids = 0, "", []

    while parts == 0 or cursor:
        query = Query(text="j29", cursor=cursor, newest=False)
        page = await steered.admin.jobs(QUEUE, "waiting", query, budget=Budget(clock, 40))
        assert 0 < page.searched < 300
        assert page.total == 300
        parts, cursor = parts + 1, page.cursor
        ids += [row.id for row in page.jobs]

    assert parts > 1
    assert ids == ["j29", *(f"j{number}" for number in range(290, 300))]


async def test_a_search_ends_when_nobody_waits_for_it(steered: Steered) -> None:
    for number in range(100):
        steered.queue.bury(f"j{number}")

    budget = Budget(ManualClock(), 1_000_000, ended=lambda: True)
    page = await steered.admin.jobs(QUEUE, "dead", Query(text="none"), budget=budget)

    assert not page.complete
    assert page.searched < 100


class TiredClock(ManualClock):
    """A clock that each look moves on."""

    def monotonic(self) -> float:
        self.move(0.03)
        return super().monotonic()


@pytest.mark.parametrize(
    "query",
    ["state=none", "limit=0", "limit=201", "lane=other", "cursor=nonsense&state=dead", "nope=1"],
)
async def test_a_query_that_makes_no_sense_is_refused(query: str, steered: Steered) -> None:
    told = await steered.get(f"{BASE}/jobs?{query}", status=400)

    assert told["detail"]


async def test_unknown_queues_and_jobs_are_not_found(steered: Steered) -> None:
    for path in ("nobody/jobs", "nobody", f"{QUEUE}/jobs/none", f"{QUEUE}/jobs/n-5-1"):
        assert (await steered.get(f"/api/queues/{path}", status=404))["detail"]


async def test_a_queue_says_how_it_is_and_why(steered: Steered) -> None:
    queue = steered.queue
    queue.enqueue(lane="high")
    queue.beat(weights={"high": 16, "normal": 4, "low": 1})

    look = await steered.get(BASE)

    assert look["state"] == {"kind": "well", "word": "well"}
    assert look["why"].startswith("0 of 10 slots busy; 1 job waits")
    assert [(lane["name"], lane["waiting"], lane["weight"]) for lane in look["lanes"]] == [
        ("critical", 0, None),
        ("high", 1, 16),
        ("normal", 0, 4),
        ("low", 0, 1),
    ]
    assert [each["type"] for each in look["types"]] == [TYPE]
    assert look["states"]["waiting"] == 1


async def test_settings_of_a_queue_are_changed_and_recorded(steered: Steered) -> None:
    await steered.post(f"{BASE}/pause", reason="tea")
    paused = await steered.get(BASE)
    await steered.post(f"{BASE}/resume", reason="back")
    await steered.post(f"{BASE}/concurrency", jobs=7, reason="slow")
    await steered.post(f"{BASE}/hold", type=TYPE, reason="bad key")
    held = await steered.get(BASE)
    await steered.post(f"{BASE}/release", type=TYPE)
    await steered.post(f"{BASE}/bounds", jobs=100)
    await steered.post(f"{BASE}/order", onDead="block")
    await steered.post(f"{BASE}/limits", name="queue", rate=5, perMs=1000)
    await steered.post(f"{BASE}/limits/shut", name="queue", forMs=1000)
    await steered.post(f"{BASE}/limits/open", name="queue")
    await steered.post(f"{BASE}/limits/clear", name="queue")

    assert paused["why"].startswith("paused by local ")
    assert "(tea)" in paused["why"]
    assert held["stats"]["concurrency"] == 7
    assert [(each["type"], each["held"]) for each in held["types"]] == [(TYPE, True)]
    assert (await steered.audited())[-4:] == [
        ("local", "hold", "bad key"),
        ("local", "concurrency", "slow"),
        ("local", "resume", "back"),
        ("local", "pause", "tea"),
    ]
    whats = [what for _, what, _ in await steered.audited()]
    assert whats[:7] == [
        *("limit-clear", "limit-open", "limit-shut", "limit-set"),
        *("order", "bounds", "release"),
    ]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("concurrency", {"jobs": 0}),
        ("hold", {"type": "No Type"}),
        ("hold", {"type": ""}),
        ("bounds", {}),
        ("limits", {"name": "no such name!", "rate": 1}),
        ("limits", {"name": "queue", "rate": 5, "burst": 10**20}),
        ("pause", {"nope": 1}),
        ("pause", {"reason": "x" * 501}),
    ],
)
async def test_settings_that_make_no_sense_are_refused(
    path: str, body: dict[str, Any], steered: Steered
) -> None:
    await steered.post(f"{BASE}/{path}", 400, **body)

    assert await steered.audited() == []


async def test_a_delayed_job_is_run_now_rescheduled_and_moved(steered: Steered) -> None:
    queue = steered.queue
    queue.delay(queue.now_ms() + HOUR_MS, Meta(id="a/b", enqueued_ms=1))
    path = f"{BASE}/jobs/a%2Fb"

    moved = await steered.post(f"{path}/priority", lane="low", reason="bulk")
    later = await steered.post(f"{path}/reschedule", inMs=HOUR_MS)
    now = await steered.post(f"{path}/run-now", reason="asked")

    assert (moved["lane"], later["state"], now["changed"]) == ("low", "delayed", True)
    assert len(queue.lane("low")) == 1
    assert [what for _, what, _ in await steered.audited()] == ["run-now", "reschedule", "priority"]


@pytest.mark.parametrize("verb", ["retry", "discard"])
async def test_one_dead_job_is_retried_or_discarded(verb: str, steered: Steered) -> None:
    queue = steered.queue
    entry = queue.bury("same")
    queue.bury("same")

    order = await steered.post(f"{BASE}/jobs/same/{verb}", at=f"dead/{entry}", reason="mended")

    assert order["what"] == verb
    assert len(queue.dead()) == 1
    assert entry not in dict(queue.dead())
    assert len(queue.lane()) == (1 if verb == "retry" else 0)
    assert queue.groups()["aaaaaaaaaaaa:n"] == "1"
    assert await steered.audited() == [("local", verb, "mended")]


async def test_an_edited_job_comes_back_with_its_id_and_story(steered: Steered) -> None:
    queue = steered.queue
    failed = AttemptRecord(number=1, at_ms=5, run_ms=7, engine="e1", outcome="failed")
    queue.bury("j1", job_fields(b'{"n":"x"}', id="j1", tenant="acme"), history=(failed,))

    order = await steered.post(f"{BASE}/jobs/j1/edit-retry", data='{"n":2}', reason="typo")

    assert order["what"] == "edit-retry"
    assert queue.dead() == []
    ((_, fields),) = queue.lane()
    told = dict(zip(fields[::2], fields[1::2], strict=True))
    assert told[b"data"] == b'{"n":2}'
    assert fields.count(b"data") == 1
    assert told[b"tenant"] == b"acme"
    meta = json.loads(told[b"_engine"])
    assert (meta["id"], meta["redrives"], len(meta["history"])) == ("j1", 1, 1)
    (audited,) = await steered.admin.audit()
    assert (audited.what, audited.reason) == ("edit-retry", "typo")
    assert audited.detail["before_sha256"] != audited.detail["after_sha256"]
    assert '"n"' not in json.dumps(audited.detail)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ("{", "data-json"),
        ("", "data-json"),
        ('{"n":"text"}', "data-schema at $[...]"),
        ('{"n":1}', "is what it was"),
        ('{"n":' + "1" * 999 + "}", "bytes are more than"),
        ("[" * 100_000, "data-"),
    ],
)
async def test_an_edit_that_is_no_good_moves_nothing(
    data: str, told: str, steered: Steered
) -> None:
    steered.queue.bury("j1")

    problem = await steered.post(f"{BASE}/jobs/j1/edit-retry", 400, data=data)

    assert told in problem["detail"]
    assert len(steered.queue.dead()) == 1
    assert steered.queue.lane() == []
    assert await steered.audited() == []


async def test_a_job_whose_lane_refuses_it_stays_dead(steered: Steered) -> None:
    queue = steered.queue
    queue.bury("j1")
    queue.call("DEL", queue.keys.lane("normal"))
    queue.call("SET", queue.keys.lane("normal"), "not a stream")

    answer, text = await steered.page.ask(
        f"{BASE}/jobs/j1/edit-retry", "POST", json={"data": '{"n":2}'}
    )

    assert answer.status in {409, 502}, text
    ((_, fields),) = queue.dead()
    assert b'{"n":1}' in fields
    assert await steered.audited() == []


@pytest.mark.parametrize(
    ("state", "verb"),
    [
        *(("waiting", verb) for verb in ("retry", "discard", "edit-retry")),
        *(("dead", verb) for verb in ("run-now", "reschedule", "priority")),
        *(("done", verb) for verb in ("cancel", "run-now", "retry")),
        *(("active", verb) for verb in ("reschedule", "priority", "discard")),
    ],
)
async def test_what_a_state_does_not_allow_is_refused_and_was_said_before(
    state: str, verb: str, steered: Steered
) -> None:
    queue = steered.queue
    if state == "dead":
        queue.bury("j1")
    elif state == "done":
        queue.finish(["j1"])
    else:
        queue.enqueue(job_fields(id="j1"))
        if state == "active":
            queue.deliver()
    body = {"edit-retry": {"data": "{}"}, "reschedule": {"inMs": 5}, "priority": {"lane": "low"}}

    look = await steered.get(f"{BASE}/jobs/j1")
    await steered.post(f"{BASE}/jobs/j1/{verb}", 409, **body.get(verb, {}))

    (action,) = [each for each in look["actions"] if each["verb"] == verb]
    assert not action["able"]
    assert action["why"]


async def test_a_search_finds_jobs_of_all_states_by_text(steered: Steered) -> None:
    one_of_each(steered.queue, "needle-1")
    steered.queue.enqueue(job_fields(id="hay"))
    steered.queue.beat()

    hits = await steered.get("/api/search?text=NEEDLE")

    assert hits["complete"]
    assert {row["state"] for row in hits["jobs"]} == {
        *("active", "held", "dead", "done", "delayed", "waiting"),
    }
    assert hits["total"] == hits["searched"] == 7


async def test_a_search_goes_on_behind_what_it_returned(steered: Steered) -> None:
    one_of_each(steered.queue, "j1")

    seen, cursor = [], ""
    while not seen or cursor:
        hits = await steered.get(f"/api/search?text=j1&limit=1&cursor={quote(cursor)}")
        seen += [row["state"] for row in hits["jobs"]]
        cursor = hits["cursor"]

    assert seen == ["active", "held", "dead", "done", "delayed", "waiting"]


async def test_an_id_that_names_an_entry_is_found_without_a_search(steered: Steered) -> None:
    entry = steered.queue.enqueue()

    hits = await steered.get(f"/api/search?text=n-{entry}&limit=1")

    assert [row["entry"] for row in hits["jobs"]] == [entry]


@pytest.mark.parametrize("query", ["", "text=", "text=a&cursor=zzz", "text=a&queue=no/queue"])
async def test_a_search_that_makes_no_sense_is_refused(query: str, steered: Steered) -> None:
    await steered.get(f"/api/search?{query}", status=400)


async def test_schedules_are_listed_run_paused_and_resumed(steered: Steered) -> None:
    spec = Schedule(type=TYPE, cron="0 3 * * *", tz="Europe/Berlin")
    await steered.admin.schedule_add(QUEUE, "nightly", spec)
    path = f"{BASE}/schedules/nightly"

    ran = await steered.post(f"{path}/run", reason="now")
    paused = await steered.post(f"{path}/pause", reason="quiet")
    (listed,) = (await steered.get("/api/schedules"))["schedules"]
    resumed = await steered.post(f"{path}/resume")

    assert ran["job"].startswith("nightly:now-")
    assert len(steered.queue.lane()) == 1
    assert (paused["changed"], listed["state"]) == (True, "paused")
    assert "03:00" in listed["when"]
    assert resumed["now"]["state"] == "on"
    assert [what for _, what, _ in await steered.audited()][:3] == [
        *("schedule-resume", "schedule-pause", "schedule-run"),
    ]


async def test_a_schedule_that_is_not_there_is_not_found(steered: Steered) -> None:
    for verb in ("run", "pause", "resume"):
        await steered.post(f"{BASE}/schedules/none/{verb}", 404)

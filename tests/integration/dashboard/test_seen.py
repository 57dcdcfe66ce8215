"""What the API shows of payloads to whom, and the audit that it shows, over a real server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import msgspec
import pytest

from engine.admin import Admin
from engine.dashboard.redact import MASK
from schemas.job import ErrorRecord, Meta
from schemas.rules import DATA_BYTES_MAX
from schemas.schedule import Schedule
from schemas.stats import DeadFilter
from tests.support.page import Open, Visited
from tests.support.queue_writer import QUEUE, TYPE, QueueWriter, job_fields
from tests.support.servers import RedisTestServer

BASE = f"/api/queues/{QUEUE}"
READER = "the-token-of-a-reader-of-the-page"
OPERATOR = "the-token-of-an-operator-of-it"
TOKENS = {"rita": f"read:{READER}", "olga": f"operate:{OPERATOR}"}
SECRET = "zebra-4711"
DATA = json.dumps({"to": SECRET, "n": 1})


class Seen:
    """The routes as two callers see them, over a queue to write into."""

    def __init__(self, page: Visited, admin: Admin, queue: QueueWriter) -> None:
        self.page = page
        self.admin = admin
        self.queue = queue

    async def get(self, path: str, token: str, status: int = 200) -> Any:
        headers = {"Authorization": f"Bearer {token}"}
        answer, text = await self.page.ask(path, headers=headers)
        assert answer.status == status, text
        return json.loads(text)

    async def post(self, path: str, body: Any) -> Any:
        headers = {"Authorization": f"Bearer {OPERATOR}"}
        answer, text = await self.page.ask(path, "POST", json=body, headers=headers)
        assert answer.status == 200, text
        return json.loads(text)


@pytest.fixture
async def seen(redis_url: str, site: Open, request: pytest.FixtureRequest) -> AsyncIterator[Seen]:
    queue = QueueWriter(redis_url)
    queue.open()
    changes = getattr(request, "param", {})
    async with Admin(redis_url, who="ada@here", types={QUEUE: [TYPE]}) as admin:
        yield Seen(await site(admin=admin, tokens=TOKENS, **changes), admin, queue)
    queue.close()


def enqueue(queue: QueueWriter) -> None:
    queue.enqueue(job_fields(id="j1", data=DATA.encode()))
    queue.enqueue(job_fields(id="j2", data=DATA.encode()), lane="low")


HIDDEN = {"redact": {TYPE: "to"}}


@pytest.mark.parametrize(
    ("seen", "token", "hidden"),
    [({}, READER, True), ({}, OPERATOR, False), (HIDDEN, READER, True), (HIDDEN, OPERATOR, True)],
    indirect=["seen"],
)
async def test_no_search_finds_what_its_asker_may_not_see(
    token: str, hidden: bool, seen: Seen
) -> None:
    enqueue(seen.queue)

    listed = await seen.get(f"{BASE}/jobs?state=waiting&text={SECRET}", token)
    found = await seen.get(f"/api/search?text={SECRET}", token)
    by_id = await seen.get("/api/search?text=j1", token)
    look = await seen.get(f"{BASE}/jobs/j1", token)

    assert [bool(listed["jobs"]), bool(found["jobs"])] == [not hidden] * 2
    assert [row["id"] for row in by_id["jobs"]] == ["j1"]
    assert (SECRET in json.dumps(look)) is not hidden
    assert look["payload"]["sizeBytes"] == len(DATA)
    edit = next(each for each in look["actions"] if each["verb"] == "edit-retry")
    assert not (hidden and edit["able"])


@pytest.mark.parametrize("seen", [HIDDEN], indirect=True)
async def test_a_redacted_payload_is_shown_in_part_and_not_written_back(seen: Seen) -> None:
    seen.queue.bury("d1", job_fields(id="d1", data=DATA.encode()))

    look = await seen.get(f"{BASE}/jobs/d1", OPERATOR)
    answer, text = await seen.page.ask(
        f"{BASE}/jobs/d1/edit-retry",
        "POST",
        json={"data": json.dumps(look["story"]["payload"], ensure_ascii=False)},
        headers={"Authorization": f"Bearer {OPERATOR}"},
    )

    assert look["story"]["payload"] == {"to": MASK, "n": 1}
    assert look["payload"]["redacted"] == ["$.to"]
    assert answer.status == 409, text


async def test_the_audit_is_listed_by_queue_and_by_who_page_by_page(seen: Seen) -> None:
    for number in range(5):
        await seen.admin.acting_as("a").pause(f"q{number % 2}", reason=f"r{number}")
        await seen.admin.acting_as("b").resume(f"q{number % 2}")

    first = await seen.get("/api/audit?queue=q0&who=a&limit=2", READER)
    second = await seen.get(f"/api/audit?queue=q0&who=a&limit=2&cursor={first['cursor']}", READER)

    pages = [*first["entries"], *second["entries"]]
    assert [each["reason"] for each in pages] == ["r4", "r2", "r0"]
    assert {(each["who"], each["what"], each["queue"]) for each in pages} == {("a", "pause", "q0")}
    assert second["cursor"] == ""
    assert len((await seen.get("/api/audit", READER))["entries"]) == 10


@pytest.mark.parametrize("query", ["cursor=zzz", "limit=201", "limit=0", "queue=a%20b", "x=1"])
async def test_an_impossible_filter_of_the_audit_is_refused(query: str, seen: Seen) -> None:
    await seen.get(f"/api/audit?{query}", READER, 400)


async def test_whatever_stands_in_the_audit_is_shown(
    seen: Seen, shared_redis: RedisTestServer
) -> None:
    shared_redis.call("XADD", "mq:audit", "7-1", "who", b"\xff<b>", "detail", "{", "at", "x")

    (entry,) = (await seen.get("/api/audit", OPERATOR))["entries"]

    assert entry == {
        "id": "7-1",
        "at": 7,
        "who": "\ufffd<b>",
        "what": "",
        "queue": "",
        "reason": "",
        "detail": {"text": "{"},
    }
    assert len((await seen.get("/api/overview", OPERATOR))["happened"]) == 1


@pytest.mark.parametrize("detail", ['{"a":' * 300 + "1" + "}" * 300, '{"n":' + "9" * 40 + "}", "7"])
async def test_no_detail_of_a_change_hides_the_others(
    detail: str, seen: Seen, shared_redis: RedisTestServer
) -> None:
    await seen.admin.pause("q0")
    shared_redis.call("XADD", "mq:audit", "*", "who", "x", "detail", detail)

    assert len((await seen.get("/api/audit", OPERATOR))["entries"]) == 2
    assert len((await seen.get("/api/overview", OPERATOR))["happened"]) == 2


PAYLOADS_FOR_ADMINS = {"payloads": "admin"}


@pytest.mark.parametrize("seen", [HIDDEN, PAYLOADS_FOR_ADMINS], indirect=True)
@pytest.mark.parametrize("verb", ["run", "pause", "resume"])
async def test_an_order_about_a_schedule_tells_no_hidden_payload(verb: str, seen: Seen) -> None:
    spec = Schedule(type=TYPE, data=msgspec.Raw(DATA.encode()), every_ms=60_000)
    await seen.admin.schedule_add(QUEUE, "s1", spec)

    told = await seen.post(f"{BASE}/schedules/s1/{verb}", {})

    assert told["now"]["name"] == "s1"
    assert SECRET not in json.dumps(told)


@pytest.mark.parametrize("seen", [PAYLOADS_FOR_ADMINS], indirect=True)
async def test_orders_about_operations_tell_no_hidden_text(seen: Seen) -> None:
    seen.queue.bury("d1", job_fields(data=DATA.encode()))
    wanted = DeadFilter(text=SECRET)
    plan = await seen.admin.plan_operation(QUEUE, "retry", wanted)

    told = [await seen.post("/api/operations/plan", {"planId": plan.id})]
    told.append(await seen.post("/api/operations", {"planId": plan.id}))
    path = f"/api/operations/{QUEUE}/{told[1]['record']['id']}"
    told += [await seen.post(f"{path}/{verb}", {}) for verb in ("stop", "resume")]

    assert SECRET not in json.dumps(told)


SECRET_CHILDREN = json.dumps([{"type": "private", "data": {"to": SECRET}}]).encode()
PRIVATE = {"redact": {"private": "*"}}


@pytest.mark.parametrize("seen", [PRIVATE], indirect=True)
async def test_no_count_of_parents_tells_what_their_children_hide(seen: Seen) -> None:
    """A plan's count is an answer to each guess; the parent's own type may be searched."""
    seen.queue.bury("p1", job_fields(id="p1", children=SECRET_CHILDREN, headers='{"a":"own"}'))

    counts = []
    for text in (SECRET, SECRET[:3], "own"):
        wanted = {"queue": QUEUE, "filter": {"type": TYPE, "text": text}}
        counts.append((await seen.post("/api/operations/plan", wanted))["count"])

    assert counts == [0, 0, 1]


async def test_what_is_too_large_for_a_page_is_told_by_its_size(seen: Seen) -> None:
    """A payload of ten megabytes kept the engine from its jobs for a second, once a second."""
    data = b'"' + b"x" * DATA_BYTES_MAX + b'"'
    seen.queue.enqueue(job_fields(id="large", data=data))
    seen.queue.enqueue(job_fields(id="small", data=data[2:-1] + b" "))

    large = await seen.get(f"{BASE}/jobs/large", OPERATOR)
    small = await seen.get(f"{BASE}/jobs/small", OPERATOR)

    assert (large["payload"]["shown"], large["payload"]["cut"]) == (False, True)
    assert large["payload"]["sizeBytes"] == len(data)
    field = next(each for each in large["story"]["fields"] if each["name"] == "data")
    assert (field["value"], field["cut"], large["story"]["payload"]) == ("", len(data), None)
    assert (small["payload"]["shown"], small["payload"]["cut"]) == (True, False)
    found = await seen.admin.job("large", queue=QUEUE)
    assert found.found[0].payload == "x" * DATA_BYTES_MAX


@pytest.mark.parametrize("seen", [PAYLOADS_FOR_ADMINS, HIDDEN], indirect=True)
async def test_no_plan_counts_what_its_maker_may_not_look_for(seen: Seen) -> None:
    body = {"queue": QUEUE, "filter": {"type": TYPE, "text": SECRET}}
    headers = {"Authorization": f"Bearer {OPERATOR}"}

    answer, text = await seen.page.ask("/api/operations/plan", "POST", json=body, headers=headers)

    assert answer.status == 403, text


async def test_no_route_tells_a_reader_what_is_in_payloads(seen: Seen) -> None:
    """Each route that lists something on which payloads, or texts looked for in them, hang."""
    enqueue(seen.queue)
    seen.queue.bury("d1", job_fields(id="d1", data=DATA.encode(), children=SECRET_CHILDREN))
    spec = Schedule(type=TYPE, data=msgspec.Raw(DATA.encode()), every_ms=60_000)
    await seen.admin.schedule_add(QUEUE, "s1", spec)
    wanted = DeadFilter(text=SECRET, fingerprint="aaaaaaaaaaaa")
    plan = await seen.admin.plan_operation(QUEUE, "retry", wanted)
    operation = (await seen.admin.start_operation(plan.id)).record.id
    paths = [
        *("/api/audit", "/api/schedules", "/api/operations", "/api/overview", "/api/dead"),
        *(f"/api/operations/{QUEUE}/{operation}", f"/api/dead/{QUEUE}/aaaaaaaaaaaa"),
        *(BASE, f"{BASE}/jobs?state=dead", f"{BASE}/jobs/d1", f"{BASE}/jobs/j1"),
    ]

    shown = {path: json.dumps(await seen.get(path, READER)) for path in paths}

    assert [path for path, text in shown.items() if SECRET in text] == []
    whole = {path for path in paths if SECRET in json.dumps(await seen.get(path, OPERATOR))}
    assert whole >= {"/api/audit", "/api/schedules", "/api/operations", f"{BASE}/jobs/d1"}


async def test_strange_numbers_in_the_keys_hide_nothing_else(seen: Seen) -> None:
    """Whoever repairs something by hand makes mistakes, and needs the page then."""
    queue, keys = seen.queue, seen.queue.keys
    queue.delay(5, Meta(id="d5", enqueued_ms=1))
    for member, due in ((b"a", "inf"), (b"b", "-inf"), (b"c", "1e300"), (b"d", "-5.5")):
        queue.call("ZADD", keys.delayed, due, member)
    queue.bury("x1")
    queue.call("HSET", keys.dead_groups, "aaaaaaaaaaab:n", "many", "aaaaaaaaaaaa:first", "9" * 40)
    queue.call("HSET", keys.stats, f"done:{TYPE}", "abc", "done_kept", "-1", "dead:\xff", "1")
    queue.call("HSET", keys.control, "concurrency", "9" * 40)

    first = await seen.get(f"{BASE}/jobs?state=delayed&limit=2", OPERATOR)
    rest = await seen.get(f"{BASE}/jobs?state=delayed&cursor={quote(first['cursor'])}", OPERATOR)
    last = await seen.get(f"{BASE}/jobs?state=delayed&limit=4", OPERATOR)
    after = await seen.get(f"{BASE}/jobs?state=delayed&cursor={quote(last['cursor'])}", OPERATOR)

    assert [len(each["jobs"]) for each in (first, rest, last, after)] == [2, 3, 4, 1]
    assert "d5" in {row["id"] for row in rest["jobs"]}
    assert (await seen.get(BASE, OPERATOR))["stats"]["concurrency"] is None
    assert (await seen.get("/api/dead", OPERATOR))["dead"] == 1
    assert len((await seen.get("/api/overview", OPERATOR))["queues"]) == 1


@pytest.mark.parametrize("seen", [{"redact": {"private": "@error"}}], indirect=True)
async def test_no_route_tells_of_hidden_errors_nor_of_who_quotes_them(seen: Seen) -> None:
    error = ErrorRecord(kind="ChildFailed", message=f"child 0, c (private in q): {SECRET}")
    own = ErrorRecord(kind="ValueError", message=SECRET)
    seen.queue.bury("p1", fingerprint="aaaaaaaaaaa1", reason="child-failed", error=error)
    fields = [b"type", b"private", b"data", b"1"]
    seen.queue.bury("c1", fields, fingerprint="aaaaaaaaaaa2", type="private", error=own)

    told = [await seen.get(f"/api/search?text={each}", OPERATOR) for each in ("p1", "c1")]
    told += [await seen.get(f"/api/search?text={SECRET}", OPERATOR)]
    told += [await seen.get(f"{BASE}/jobs?state=dead", OPERATOR)]
    told += [await seen.get(f"{BASE}/jobs/{each}", OPERATOR) for each in ("p1", "c1")]
    told += [await seen.get("/api/dead", OPERATOR)]
    by_text = await seen.get(f"/api/dead?type={TYPE}&text={SECRET}", OPERATOR)
    await seen.get(f"/api/dead?type=private&text={SECRET}", OPERATOR, 403)
    await seen.get(f"/api/dead?text={SECRET}", OPERATOR, 403)
    plan = {"queue": QUEUE, "filter": {"fingerprint": "aaaaaaaaaaa2"}}
    told += [await seen.post("/api/operations/plan", plan)]
    for group in ("aaaaaaaaaaa1", "aaaaaaaaaaa2"):
        told += [await seen.get(f"/api/dead/{QUEUE}/{group}", OPERATOR)]

    assert [len(each["jobs"]) for each in told[:4]] == [1, 1, 0, 2]
    assert (len(told[6]["rows"]), len(by_text["rows"]), told[7]["count"]) == (2, 0, 1)
    told[2]["text"] = ""
    assert SECRET not in json.dumps(told)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (f"{BASE}/jobs/x?at=delayed/²", 404),
        (f"{BASE}/jobs/x?at=delayed/١", 404),
        (f"{BASE}/jobs/x?at=lane/normal/١-١", 404),
        (f"{BASE}/jobs/x?at=parked/normal/ä", 404),
        (f"{BASE}/jobs/١-١", 404),
        (f"{BASE}/jobs/n-١-١", 404),
        (f"{BASE}/jobs?state=dead&cursor=١-١", 400),
        (f"{BASE}/jobs?state=delayed&cursor=1e١/1", 400),
        ("/api/audit?cursor=١-١", 400),
    ],
)
async def test_digits_of_other_scripts_are_no_numbers(path: str, status: int, seen: Seen) -> None:
    seen.queue.delay(1, Meta(id="d", enqueued_ms=1))

    await seen.get(path, OPERATOR, status)

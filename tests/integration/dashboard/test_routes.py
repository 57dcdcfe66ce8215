"""Every route of the router: who may ask, and that every change is recorded."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from engine.admin import Admin, new_schedule
from engine.dashboard.limits import Rate, Rates
from engine.dashboard.routes import SCOPES, Route
from schemas.job import Meta
from tests.support.page import Open, Visited
from tests.support.queue_writer import QUEUE, TYPE, QueueWriter, job_fields
from tests.support.routes import ADMIN, CHANGES, METRICS, OPEN, READ, UNRECORDED, Change

MANY = Rates(reads=Rate(10_000, 1_000), writes=Rate(10_000, 1_000), failures=Rate(10_000, 1_000))
TOKENS = {scope: f"the-token-that-may-{scope}-here" for scope in SCOPES[1:]}
FILLED = {"queue": QUEUE, "name": "n-1", "id": "no-such-job", "fingerprint": "f" * 12}
HOUR_MS = 3_600_000


def named(route: Route) -> str:
    return f"{route.method} {route.path}"


def filled(path: str) -> str:
    return re.sub(r"\{(\w+)\}", lambda found: FILLED[found[1]], path)


def wanted(route: Route) -> str:
    """Return the scope that the list says a route needs; none where it is not listed."""
    listed = {
        **dict.fromkeys(METRICS, "metrics"),
        **dict.fromkeys(READ, "read"),
        **dict.fromkeys(OPEN, "open"),
        **dict.fromkeys(CHANGES, "operate"),
        **dict.fromkeys(ADMIN, "admin"),
    }
    return listed.get(named(route), "")


async def status_of(opened: Visited, route: Route, shown: str | None) -> int:
    """Ask for a route as somebody, and let no stream go on."""
    headers = {"Authorization": f"Bearer {shown}"} if shown else {}
    options: dict[str, Any] = {} if route.method == "GET" else {"json": {}}
    url = f"http://{opened.address}{filled(route.path)}"
    async with opened.session.request(route.method, url, headers=headers, **options) as answer:
        return answer.status


async def test_every_route_is_listed_with_its_scope(site: Open) -> None:
    opened = await site()

    found = {named(route): route.scope for route in opened.server.routes}

    assert found == {named(route): wanted(route) for route in opened.server.routes}
    assert METRICS | READ | OPEN | ADMIN | set(CHANGES) == set(found), "listed, but no route"


async def test_every_route_is_answered_to_its_scope_and_those_above_it(
    site: Open, redis_url: str
) -> None:
    async with Admin(redis_url, who="test") as admin:
        opened = await site(
            admin=admin,
            rates=MANY,
            tokens={scope: f"{scope}:{token}" for scope, token in TOKENS.items()},
        )
        wrong: list[str] = []
        for route in opened.server.routes:
            for scope in ("", *SCOPES):
                shown = {"": None, "open": "a-token-that-nobody-knows"}.get(scope)
                status = await status_of(opened, route, TOKENS.get(scope, shown or "") or None)
                may = SCOPES.index(wanted(route)) <= SCOPES.index(scope or "open")
                refused = 401 if scope in {"", "open"} else 403
                # What is asked for may be missing or said wrongly; that is judged afterwards.
                if may is (status in {401, 403}) or (not may and status != refused):
                    wrong.append(f"{named(route)} to {scope or 'nobody'}: {status}")

    # Logging in with a token that is none is refused whoever asks.
    assert wrong == []


def fill(queue: QueueWriter) -> None:
    """Put a job for each change where the change finds it."""
    queue.open()
    for number in (1, 2, 3, 4):
        queue.enqueue(job_fields(id=f"w-{number}"))
        queue.bury(f"dead-{number}", job_fields(id=f"dead-{number}"))
    queue.delay(queue.now_ms() + HOUR_MS, Meta(id="later", enqueued_ms=1))


async def carry_out(opened: Visited, change: Change, reason: str, known: dict[str, str]) -> None:
    """Ask for a change, and note what later ones need of its answer."""
    body = {key: known.get(str(value), value) for key, value in change.body.items()}
    if change.what:
        body["reason"] = reason
    path = change.path.replace("$operation", known.get("$operation", ""))
    headers = {"Authorization": f"Bearer {TOKENS['operate']}"}
    answer, text = await opened.ask(path, "POST", json=body, headers=headers)
    assert answer.status == 200, f"{path}: {text}"
    told = msgspec.json.decode(text)
    if "expiresMs" in told:
        known["$plan"] = told["id"]
    elif "record" in told:
        known["$operation"] = told["record"]["id"]


@pytest.fixture
async def operated(site: Open, redis_url: str) -> AsyncIterator[tuple[Visited, Admin]]:
    queue = QueueWriter(redis_url)
    fill(queue)
    async with Admin(redis_url, who="test", types={QUEUE: [TYPE]}) as admin:
        made = new_schedule("nightly", type=TYPE, payload={"n": 1}, every_ms=HOUR_MS)
        await admin.schedule_add(QUEUE, "nightly", made)
        tokens = {"olga": f"operate:{TOKENS['operate']}"}
        yield await site(admin=admin, tokens=tokens, rates=MANY), admin
    queue.close()


async def test_every_change_is_recorded_with_who_what_and_why(
    operated: tuple[Visited, Admin],
) -> None:
    opened, admin = operated
    changing = {named(route) for route in opened.server.routes if route.method != "GET"}
    assert changing == set(CHANGES) | UNRECORDED

    known: dict[str, str] = {}
    for name, change in CHANGES.items():
        for each in (*change.after, name):
            reason = f"because of {each}"
            await carry_out(opened, CHANGES[each], reason, known)
        if not change.what:
            continue
        (last,) = (await admin.audit_page(limit=1)).entries
        told = (last.who, last.what, last.queue, last.reason)
        assert told == ("olga", change.what, QUEUE, reason), name
        assert last.detail, name


async def test_looking_changes_nothing(operated: tuple[Visited, Admin]) -> None:
    opened, admin = operated
    before = (await admin.audit_page(limit=1)).entries

    for route in opened.server.routes:
        if route.method == "GET" and route.path != "/api/live":
            await status_of(opened, route, TOKENS["operate"])

    assert (await admin.audit_page(limit=1)).entries == before


@pytest.mark.parametrize("method", ["PUT", "PATCH", "OPTIONS", "TRACE", "DELETE"])
async def test_no_other_method_does_anything(method: str, site: Open) -> None:
    opened = await site()

    answer, text = await opened.ask("/api/queues/q/pause", method)

    assert answer.status == 405
    assert msgspec.json.decode(text)["title"] == "not allowed"
    assert answer.headers["Allow"] == "POST"

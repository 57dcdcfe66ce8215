"""
Every route of the API, what it needs, and a request that it carries out.

A new route is listed here, or the tests that go over all routes fail.
"""

from __future__ import annotations

from typing import Any

import msgspec

from tests.support.queue_writer import QUEUE, TYPE

Q = f"/api/queues/{QUEUE}"
OPERATION = f"/api/operations/{QUEUE}/$operation"

METRICS = {"GET /metrics", "GET /sd"}
READ = {
    "GET /api/me",
    "GET /api/live",
    "GET /api/overview",
    "GET /api/queues/{queue}",
    "GET /api/queues/{queue}/jobs",
    "GET /api/queues/{queue}/jobs/{id}",
    "GET /api/search",
    "GET /api/schedules",
    "GET /api/engines",
    "GET /api/engines/{name}",
    "GET /api/about",
    "GET /api/series",
    "GET /api/audit",
    "GET /api/dead",
    "GET /api/dead/{queue}/{fingerprint}",
    "GET /api/operations",
    "GET /api/operations/{queue}/{id}",
    "GET /schemas",
    "GET /schemas/{name}.json",
    "GET /openapi.json",
}
OPEN = {
    "GET /live",
    "GET /ready",
    "POST /api/session",
    "DELETE /api/session",
    "POST /api/csp-report",
}
ADMIN: set[str] = set()


class Change(msgspec.Struct, frozen=True):
    """
    One request that changes something; it needs the scope operate.

    Attributes:
        path: Where to, with the variables filled in. What ``$plan`` and ``$operation`` stand for
            was told by earlier answers; in the body likewise.
        what: What the audit calls it; empty where nothing is changed.
        body: What it says, apart from the reason.
        after: Changes that must be made once more before it.
    """

    path: str
    what: str
    body: dict[str, Any] = {}
    after: tuple[str, ...] = ()


CHANGES = {
    "POST /api/queues/{queue}/pause": Change(f"{Q}/pause", "pause"),
    "POST /api/queues/{queue}/resume": Change(f"{Q}/resume", "resume"),
    "POST /api/queues/{queue}/concurrency": Change(f"{Q}/concurrency", "concurrency", {"jobs": 3}),
    "POST /api/queues/{queue}/hold": Change(f"{Q}/hold", "hold", {"type": TYPE}),
    "POST /api/queues/{queue}/release": Change(f"{Q}/release", "release", {"type": TYPE}),
    "POST /api/queues/{queue}/bounds": Change(f"{Q}/bounds", "bounds", {"jobs": 5}),
    "POST /api/queues/{queue}/order": Change(f"{Q}/order", "order", {"onDead": "block"}),
    "POST /api/queues/{queue}/limits": Change(
        f"{Q}/limits", "limit-set", {"name": "queue", "rate": 5}
    ),
    "POST /api/queues/{queue}/limits/clear": Change(
        f"{Q}/limits/clear", "limit-clear", {"name": "queue"}
    ),
    "POST /api/queues/{queue}/limits/shut": Change(
        f"{Q}/limits/shut", "limit-shut", {"name": "queue"}
    ),
    "POST /api/queues/{queue}/limits/open": Change(
        f"{Q}/limits/open", "limit-open", {"name": "queue"}
    ),
    "POST /api/queues/{queue}/jobs/{id}/run-now": Change(f"{Q}/jobs/later/run-now", "run-now"),
    "POST /api/queues/{queue}/jobs/{id}/retry": Change(f"{Q}/jobs/dead-1/retry", "retry"),
    "POST /api/queues/{queue}/jobs/{id}/cancel": Change(f"{Q}/jobs/w-1/cancel", "cancel"),
    "POST /api/queues/{queue}/jobs/{id}/discard": Change(f"{Q}/jobs/dead-2/discard", "discard"),
    "POST /api/queues/{queue}/jobs/{id}/priority": Change(
        f"{Q}/jobs/w-2/priority", "priority", {"lane": "low"}
    ),
    "POST /api/queues/{queue}/jobs/{id}/reschedule": Change(
        f"{Q}/jobs/w-3/reschedule", "reschedule", {"inMs": 3_600_000}
    ),
    "POST /api/queues/{queue}/jobs/{id}/edit-retry": Change(
        f"{Q}/jobs/dead-3/edit-retry", "edit-retry", {"data": '{"n": 2}'}
    ),
    "POST /api/queues/{queue}/schedules/{name}/run": Change(
        f"{Q}/schedules/nightly/run", "schedule-run"
    ),
    "POST /api/queues/{queue}/schedules/{name}/pause": Change(
        f"{Q}/schedules/nightly/pause", "schedule-pause"
    ),
    "POST /api/queues/{queue}/schedules/{name}/resume": Change(
        f"{Q}/schedules/nightly/resume", "schedule-resume"
    ),
    "POST /api/operations/plan": Change(
        "/api/operations/plan", "", {"queue": QUEUE, "action": "discard", "filter": {"type": TYPE}}
    ),
    "POST /api/operations": Change("/api/operations", "discard-start", {"planId": "$plan"}),
    "POST /api/operations/{queue}/{id}/stop": Change(f"{OPERATION}/stop", "discard-stop"),
    "POST /api/operations/{queue}/{id}/resume": Change(f"{OPERATION}/resume", "discard-resume"),
    "POST /api/operations/{queue}/{id}/undo": Change(
        f"{OPERATION}/undo",
        "discard-undo",
        after=("POST /api/operations/plan", "POST /api/operations"),
    ),
}
"""In an order in which each finds something to change."""

UNRECORDED: set[str] = {"POST /api/session", "DELETE /api/session", "POST /api/csp-report"}
"""What changes nothing of queues."""

"""Every view of the page, with what it must show over the seeded queues."""

from __future__ import annotations

from typing import NamedTuple

from engine.core.fingerprint import fingerprint

EXPIRED = fingerprint(
    "encrypt", "exhausted", "tests.support.page_app.Trouble", "certificate has expired"
)
"""The group of dead letters with that error."""


class View(NamedTuple):
    """
    One view.

    Attributes:
        name: For pictures and reports.
        path: Its address.
        shows: A text that only its data can bring.
    """

    name: str
    path: str
    shows: str


VIEWS = [
    View("overview", "/", "indexing"),
    View("queues", "/queues", "batch-message"),
    View("queue", "/queues/indexing", "all 2 slots of 1 engine are busy"),
    View("queue-held", "/queues/notification?state=held", "push provider refused the key (403)"),
    View("queue-parked", "/queues/batch-message?state=parked", "behind key tenant-7"),
    View("queue-dead", "/queues/encryption?state=dead", "certificate has expired"),
    View("jobs", "/jobs", "By queue and state"),
    View("search", "/jobs?text=message-7", "message-7"),
    View("job", "/jobs/message-delivery/message-7", "receipt"),
    View("job-parent", "/jobs/batch-message/campaign-1", "campaign-1.0"),
    View("dead", "/dead", "certificate has expired"),
    View("dead-group", f"/dead/encryption/{EXPIRED}", "the latest 1 of 1"),
    View("operations", "/operations", "retries and discards of many dead letters"),
    View("schedules", "/schedules", "every day at 03:00 UTC"),
    View("engines", "/engines", "10.4.2.3"),
    View("engine", "/engines/eng-here", "running"),
    View("audit", "/audit", "index rebuild"),
    View("about", "/about", "XADD 'mq:{"),
]

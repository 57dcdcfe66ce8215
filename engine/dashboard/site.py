"""What every route stands on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from prometheus_client.registry import CollectorRegistry

from engine.admin import Admin
from engine.clock import Clock
from engine.dashboard.access import Access
from engine.dashboard.limits import Rates
from engine.dashboard.overview import Overviews
from engine.dashboard.pulse import Pulse
from engine.dashboard.redact import Redactor
from engine.dashboard.routes import Scope
from engine.dashboard.scans import Scans
from schemas.engines import Setting


class HttpState(msgspec.Struct, frozen=True, kw_only=True):
    """
    What the server tells of.

    Attributes:
        address: Where it listens, as host:port; port 0 picks one.
        token: What opens everything; empty for none.
        tokens: Further tokens by the names of their holders, as settings have them. Without any
            token nothing is asked for.
        tokens_file: File with more of them, which is followed; empty for none.
        place: What the page calls this place, such as PRODUCTION.
        payloads: Scope from which on payloads are shown.
        redact: What of payloads nobody is shown: paths by job type.
        rates: How much each caller may ask for.
        settings: The settings of the engine that answers, secrets masked.
        admin: What the page looks at and does.
        metrics: Read at each scrape; its collectors must not ask the server of the queues.
        ready: Reasons for which the engine is not ready.
        schemas: JSON Schemas by job type.
        clock: Tells the time.
        engine: Name of the engine that answers.
        version: Its version.
        backlog_age_ms_max: Age of the oldest waiting job that is still well.
        judge: Says what is wrong with a payload of a type; nothing where it is well, or where the
            type is not known.
    """

    address: str
    token: str
    admin: Admin
    metrics: CollectorRegistry
    ready: Callable[[], list[str]]
    schemas: Mapping[str, Mapping[str, Any]]
    clock: Clock
    engine: str
    version: str
    backlog_age_ms_max: int = 60_000
    judge: Callable[[str, bytes], str] = lambda job_type, data: ""  # noqa: ARG005
    tokens: Mapping[str, str] = {}
    tokens_file: str = ""
    place: str = ""
    payloads: Scope = "operate"
    redact: Mapping[str, str] = {}
    rates: Rates = Rates()
    settings: Sequence[Setting] = ()


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """
    What every route stands on.

    Attributes:
        state: What the server tells of.
        overviews: Everything at a glance, read at most once a second.
        pulse: Whether the loop turns.
        scans: Bounds searches through jobs.
        access: Lets requests in.
        redactor: Leaves out what callers may not see.
    """

    state: HttpState
    overviews: Overviews
    pulse: Pulse
    scans: Scans = msgspec.field(default_factory=Scans)
    access: Access
    redactor: Redactor

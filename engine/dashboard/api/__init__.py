"""Everything that the server answers, one module per subject."""

from __future__ import annotations

from engine.dashboard.api import (
    about,
    audit,
    dead,
    description,
    engines,
    jobs,
    numbers,
    operations,
    overview,
    probes,
    queues,
    reports,
    schedules,
    search,
    session,
)
from engine.dashboard.live import Live
from engine.dashboard.routes import Route
from engine.dashboard.site import Site


def all_routes(site: Site, live: Live) -> list[Route]:
    """List the routes in the order in which the OpenAPI document names them."""
    found = [
        *session.routes(site, live),
        *overview.routes(site),
        *queues.routes(site),
        *jobs.routes(site),
        *search.routes(site),
        *schedules.routes(site),
        *dead.routes(site),
        *operations.routes(site),
        *engines.routes(site),
        *about.routes(site),
        *numbers.routes(site),
        *probes.routes(site),
        *audit.routes(site),
        *reports.routes(site),
    ]
    live.follow(found)
    return [*found, description.route(site, found)]

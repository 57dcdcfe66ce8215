"""What browsers report: breaches of the page's content security policy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from aiohttp import web
from prometheus_client import Counter

from engine.dashboard.guard import REPORTS
from engine.dashboard.routes import Ask, Refused, Route, read_body
from engine.dashboard.site import Site
from engine.logs import get_logger

log = get_logger("http")

KINDS = frozenset({"application/csp-report", "application/reports+json", "application/json"})
BYTES_MAX = 16_384
REPORTS_MAX = 5
"""Reports of one request that are logged."""
CHARS_MAX = 200
FIELDS = {
    "document": ("document-uri", "documentURL"),
    "directive": ("effective-directive", "effectiveDirective", "violated-directive"),
    "blocked": ("blocked-uri", "blockedURL"),
    "source": ("source-file", "sourceFile"),
    "line": ("line-number", "lineNumber"),
}


def routes(site: Site) -> list[Route]:
    """List this subject's routes."""
    counter = Counter(
        "engine_http_csp_reports",
        "Breaches of the page's content security policy that browsers reported.",
        registry=site.state.metrics,
    )

    async def report(ask: Ask) -> web.Response:
        assert ask.request is not None
        if ask.request.content_type not in KINDS:
            raise Refused(415, f"a report is one of {', '.join(sorted(KINDS))}")
        body = await read_body(ask.request, bytes_max=BYTES_MAX)
        for each in _reports(body):
            counter.inc()
            log.warning("http_csp_report", **each)
        return web.Response(status=204)

    return [
        Route(
            method="POST",
            path=REPORTS,
            scope="open",
            summary="Take a browser's report of a breach of the content security policy.",
            answer=report,
            gives=(),
            report=True,
        )
    ]


def _reports(body: bytes) -> Iterator[dict[str, str]]:
    try:
        told = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise Refused(400, "a report must be JSON") from None
    for each in (told if isinstance(told, list) else [told])[:REPORTS_MAX]:
        found = each.get("csp-report") or each.get("body") if isinstance(each, dict) else None
        if isinstance(found, dict):
            yield {name: _first(found, names) for name, names in FIELDS.items()}


def _first(found: dict[str, Any], names: tuple[str, ...]) -> str:
    return next((str(found[name])[:CHARS_MAX] for name in names if found.get(name)), "")

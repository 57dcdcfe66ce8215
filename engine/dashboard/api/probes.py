"""What machines ask for: probes, metrics, service discovery, schemas of jobs."""

from __future__ import annotations

from typing import Any

from aiohttp import hdrs, web
from prometheus_client import exposition

from engine.dashboard.routes import Ask, Refused, Route, as_json
from engine.dashboard.site import Site
from engine.errors import EngineError, NotFound
from schemas.rules import TYPE_NAME
from schemas.stats import EngineStats


def routes(site: Site) -> list[Route]:
    """List this subject's routes."""
    probes = _Probes(site)
    return [
        Route(
            path="/metrics",
            scope="metrics",
            summary="Give this engine's metrics, as Prometheus reads them.",
            answer=probes.metrics,
            gives=("text/plain", "application/openmetrics-text"),
        ),
        Route(
            path="/live",
            scope="open",
            summary="Tell whether this engine's loop turns.",
            answer=probes.live,
            probe=True,
            returns=dict[str, bool],
        ),
        Route(
            path="/ready",
            scope="open",
            summary="Tell whether this engine works, and to those who may look, why not.",
            answer=probes.ready,
            probe=True,
            returns=dict[str, Any],
        ),
        Route(
            path="/sd",
            scope="metrics",
            summary="Name the metrics addresses of all live engines, for http_sd of Prometheus.",
            answer=probes.targets,
            returns=list[dict[str, Any]],
        ),
        Route(
            path="/schemas",
            scope="read",
            summary="Name the JSON Schemas of all job types.",
            answer=probes.schemas,
            returns=dict[str, dict[str, str]],
        ),
        Route(
            path="/schemas/{name}.json",
            scope="read",
            summary="Give the JSON Schema of one job type.",
            answer=probes.schema,
            gives=("application/schema+json",),
        ),
    ]


class _Probes:
    def __init__(self, site: Site) -> None:
        self._site = site
        self._state = site.state

    async def metrics(self, ask: Ask) -> web.Response:
        assert ask.request is not None
        encode, content_type = exposition.choose_encoder(ask.request.headers.get(hdrs.ACCEPT, ""))
        body = encode(self._state.metrics)
        return web.Response(body=body, headers={hdrs.CONTENT_TYPE: content_type})

    async def live(self, _: Ask) -> web.Response:
        alive = self._site.pulse.beats()
        return as_json({"live": alive}, status=200 if alive else 503)

    async def ready(self, ask: Ask) -> web.Response:
        reasons = self._state.ready()
        told: dict[str, object] = {"ready": not reasons}
        if ask.caller.may("read"):
            # Reasons quote addresses and errors of servers, which are nobody else's business.
            told["reasons"] = reasons
        return as_json(told, status=503 if reasons else 200)

    async def targets(self, _: Ask) -> Any:
        try:
            engines = await self._state.admin.engines()
        except EngineError:
            # Prometheus keeps the targets that it has.
            raise Refused(503, "the engines are not known now") from None
        return [_target(each) for each in engines if each.live and each.beat.http]

    async def schemas(self, _: Ask) -> Any:
        return {"schemas": {name: f"/schemas/{name}.json" for name in self._state.schemas}}

    async def schema(self, ask: Ask) -> web.Response:
        name = ask.path["name"]
        if not TYPE_NAME.fullmatch(name) or name not in self._state.schemas:
            raise NotFound(f"no job type {name!r} is known here")
        return as_json(dict(self._state.schemas[name]), content_type="application/schema+json")


def _target(engine: EngineStats) -> dict[str, Any]:
    beat = engine.beat
    return {
        "targets": [beat.http],
        "labels": {
            "__meta_streamlane_engine": beat.name,
            "__meta_streamlane_host": beat.host,
            "__meta_streamlane_version": beat.version,
            "__meta_streamlane_queues": ",".join(sorted(beat.queues)),
        },
    }

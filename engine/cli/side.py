"""Puts the HTTP side beside an engine: the one place where page, admin and runtime meet."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, ProcessCollector

from engine.admin import Admin
from engine.admin.contracts import job_schemas, payload_judge
from engine.cli.frame import whoami
from engine.clock import SystemClock
from engine.configuration import describe
from engine.dashboard import HttpServer, HttpState
from engine.runtime import Engine
from engine.settings import PREFIX, EngineSettings
from engine.telemetry import EngineCollector
from engine.version import __version__
from schemas.engines import Setting


class HttpSide:
    """
    The HTTP side of one engine.

    Args:
        engine: The engine.
    """

    def __init__(self, engine: Engine) -> None:
        settings, registry = engine.settings, engine.app.registry
        self._admin = Admin(
            settings.redis_url,
            who=whoami(),
            types={queue: list(registry.in_queue(queue)) for queue in registry.queues()},
        )
        metrics = CollectorRegistry(auto_describe=False)
        metrics.register(EngineCollector(engine.meters, __version__))
        ProcessCollector(registry=metrics)
        self._server = HttpServer(
            HttpState(
                address=settings.http,
                token=settings.http_token,
                admin=self._admin,
                metrics=metrics,
                ready=engine.vitals.reasons,
                schemas=job_schemas(registry),
                clock=SystemClock(),
                engine=engine.name,
                version=__version__,
                backlog_age_ms_max=settings.backlog_age_ms_max,
                judge=payload_judge(registry, settings.data_bytes_max),
                tokens=settings.http_tokens,
                tokens_file=settings.http_tokens_file,
                place=settings.http_place,
                payloads=settings.http_payloads,
                redact=settings.http_redact,
                settings=_shown(settings),
            )
        )

    async def start(self) -> str:
        return await self._server.start()

    async def stop(self) -> None:
        await self._server.stop()
        self._admin.close()


def _shown(settings: EngineSettings) -> list[Setting]:
    return [
        Setting(name=each.variable, value=each.value, meaning=each.meaning)
        for each in describe(settings, {}, PREFIX)
    ]


def http_side(engine: Engine) -> HttpSide | None:
    """Build the HTTP side, unless the settings want none."""
    return HttpSide(engine) if engine.settings.http else None

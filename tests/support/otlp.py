"""A place where spans arrive, over HTTP, as OpenTelemetry's protocol has it."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """
    A span as it arrived.

    Attributes:
        name: Its name.
        trace: Id of its trace.
        id: Its own id.
        parent: Id of its parent; empty for none.
        attributes: What is said of it.
        failed: Whether its status is an error.
        events: Names of what happened meanwhile.
        resource: What is said of the process that sent it.
    """

    name: str
    trace: str
    id: str
    parent: str
    attributes: dict[str, str | int | bool]
    failed: bool
    events: list[str]
    resource: dict[str, str | int | bool]


class Receiver:
    """What has arrived."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        """Take the spans of one request."""
        body = await request.read()
        if request.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        asked = ExportTraceServiceRequest.FromString(body)
        for of_resource in asked.resource_spans:
            resource = {each.key: _value(each.value) for each in of_resource.resource.attributes}
            for of_scope in of_resource.scope_spans:
                for span in of_scope.spans:
                    self.spans.append(
                        Span(
                            name=span.name,
                            trace=span.trace_id.hex(),
                            id=span.span_id.hex(),
                            parent=span.parent_span_id.hex(),
                            attributes={each.key: _value(each.value) for each in span.attributes},
                            failed=span.status.code == span.status.STATUS_CODE_ERROR,
                            events=[event.name for event in span.events],
                            resource=resource,
                        )
                    )
        return web.Response(
            body=ExportTraceServiceResponse().SerializeToString(),
            content_type="application/x-protobuf",
        )

    def named(self, name: str) -> list[Span]:
        """List the spans of a name, in the order of their attempts."""
        found = [span for span in self.spans if span.name == name]
        return sorted(found, key=lambda span: span.attributes.get("streamlane.job.attempt", 0))


@asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    """Listen on loopback."""
    made = Receiver()
    app = web.Application()
    app.router.add_post("/v1/traces", made.take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield made
    finally:
        await runner.cleanup()


def _value(given: AnyValue) -> str | int | bool:
    kind = given.WhichOneof("value")
    assert kind in {"string_value", "int_value", "bool_value"}, kind
    found: str | int | bool = getattr(given, kind)
    return found

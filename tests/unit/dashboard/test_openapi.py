"""The description of the API: valid, whole, and true of the routes."""

from __future__ import annotations

from typing import Any, cast

import pytest
from openapi_spec_validator import validate
from prometheus_client import CollectorRegistry

from engine.clock import SystemClock
from engine.dashboard import HttpServer, HttpState
from engine.dashboard.openapi import document
from engine.dashboard.routes import Route
from tests.support.page import FakeAdmin


def routes() -> list[Route]:
    state = HttpState(
        address="127.0.0.1:0",
        token="",
        admin=cast(Any, FakeAdmin()),
        metrics=CollectorRegistry(),
        ready=list,
        schemas={},
        clock=SystemClock(),
        engine="eng-1",
        version="0.1.0",
    )
    return HttpServer(state).routes


ROUTES = routes()
DOCUMENT = document(ROUTES, version="0.1.0")
IDS = [f"{route.method} {route.path}" for route in ROUTES]


def test_the_description_is_valid() -> None:
    validate(cast(Any, DOCUMENT))


@pytest.mark.parametrize("route", ROUTES, ids=IDS)
def test_every_route_is_described(route: Route) -> None:
    told = DOCUMENT["paths"][route.path][route.method.lower()]

    assert told["summary"].endswith(".")
    assert told["x-scope"] == route.scope
    assert (told.get("security") == []) is (route.scope == "open")
    assert {"400", "401", "403", "404", "429", "503"} <= set(told["responses"])
    if route.method != "GET":
        assert {"409", "413", "415"} <= set(told["responses"])
    assert route.returns is not None or route.gives != ("application/json",)


def test_no_two_operations_have_one_name() -> None:
    names = [each["operationId"] for path in DOCUMENT["paths"].values() for each in path.values()]

    assert len(names) == len(set(names)) == len(ROUTES)


def test_attributes_are_described_by_the_docstrings_of_their_types() -> None:
    listing = DOCUMENT["paths"]["/api/audit"]["get"]["parameters"]

    assert {each["name"]: each["description"] for each in listing}["limit"] == (
        "Most changes to return."
    )
    entry = DOCUMENT["components"]["schemas"]["AuditEntry"]
    assert entry["description"] == "One change that somebody made."
    assert entry["properties"]["queue"]["description"] == "The queue that was changed."

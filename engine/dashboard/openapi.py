"""
The OpenAPI document of the API, made of the table of routes and of the types that these name.

What a type's docstring says of its attributes stands beside them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from engine.dashboard.access import COOKIE, CSRF
from engine.dashboard.routes import TITLES, Problem, Route
from schemas.rules import QUEUE_NAME

PATH = "/openapi.json"
REF = "#/components/schemas/{name}"
VARIABLE = re.compile(r"\{(\w+)\}")
ATTRIBUTE = re.compile(r"^    ?(\w[\w, ]*): (.*)$")

NAMES = {"queue": {"type": "string", "pattern": f"^{QUEUE_NAME.pattern}$"}}
"""What variables of paths may be, where that is not just any text."""

READ_ERRORS = (400, 401, 403, 404, 421, 429, 500, 502, 503)
WRITE_ERRORS = (*READ_ERRORS, 408, 409, 413, 415)

ABOUT = """\
What the page shows and does, for programs. Where tokens are set, show one as Bearer, or as the
password of Basic; browsers keep a session. Each operation names the scope that it needs as
`x-scope`: `metrics`, `read`, `operate` or `admin`, each including those before it. Errors are
problems as RFC 9457 has them. Times are Unix ms, names of attributes camelCase. Operations marked
`x-live` can be followed at `/api/live?of=<path and query>` as server-sent events.
"""


def document(routes: Sequence[Route], *, version: str) -> dict[str, Any]:
    """
    Write the document.

    Args:
        routes: All routes.
        version: Streamlane's version.
    """
    kinds = _kinds(routes)
    schemas, components = msgspec.json.schema_components(kinds, ref_template=REF)
    of = dict(zip(map(_key, kinds), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, of, components)
    queries = {route.query.__name__ for route in routes if route.query is not None}
    told = {
        "openapi": "3.1.0",
        "info": {"title": "Streamlane", "version": version, "description": ABOUT},
        "security": [{"bearer": []}, {"basic": []}, {"session": []}],
        "paths": paths,
        "components": {
            "schemas": {
                name: _described(component)
                for name, component in components.items()
                if name not in queries
            },
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "basic": {"type": "http", "scheme": "basic"},
                "session": {"type": "apiKey", "in": "cookie", "name": COOKIE},
            },
            "responses": {str(status): _problem(title) for status, title in TITLES.items()},
        },
    }
    # Plain JSON: defaults may be tuples.
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(told))
    return plain


def _kinds(routes: Sequence[Route]) -> list[Any]:
    found: dict[str, Any] = {_key(Problem): Problem}
    for route in routes:
        for kind in (route.returns, route.body, route.query):
            if kind is not None:
                found[_key(kind)] = kind
    return list(found.values())


def _key(kind: Any) -> str:
    return f"{getattr(kind, '__module__', '')} {kind!r}"


def _operation(
    route: Route, of: Mapping[str, Any], components: Mapping[str, Any]
) -> dict[str, Any]:
    told: dict[str, Any] = {
        "operationId": _name(route),
        "summary": route.summary,
        "tags": [_subject(route.path)],
        "x-scope": route.scope,
        "parameters": _parameters(route, of, components),
        "responses": _responses(route, of),
    }
    if route.scope == "open":
        told["security"] = []
    if route.live:
        told["x-live"] = True
    if route.report:
        kinds = ("application/csp-report", "application/reports+json", "application/json")
        told["requestBody"] = {"content": {kind: {"schema": {}} for kind in kinds}}
    elif route.body is not None:
        body = {"application/json": {"schema": of[_key(route.body)]}}
        told["requestBody"] = {"required": True, "content": body}
    return told


def _name(route: Route) -> str:
    # Of the engine itself, as of the page, there is something called live.
    path = route.path.removeprefix("/api/")
    words = re.findall(r"[A-Za-z0-9]+", path if path != route.path else f"engine{path}")
    verb = {"GET": "get", "POST": "post", "DELETE": "delete"}[route.method]
    return verb + "".join(word[:1].upper() + word[1:] for word in words)


def _subject(path: str) -> str:
    words = path.strip("/").split("/")
    if words[0] != "api":
        return "engine"
    nested = [word for word in words[2:] if word in {"jobs", "schedules", "limits"}]
    return nested[0] if nested else words[1]


def _parameters(
    route: Route, of: Mapping[str, Any], components: Mapping[str, Any]
) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for name in VARIABLE.findall(route.path):
        schema = NAMES.get(name, {"type": "string", "minLength": 1})
        found.append({"name": name, "in": "path", "required": True, "schema": schema})
    if route.query is not None:
        name = of[_key(route.query)]["$ref"].rpartition("/")[2]
        component = _described(components[name])
        required = component.get("required", [])
        for name, schema in component.get("properties", {}).items():
            about = schema.pop("description", "")
            found.append(
                {"name": name, "in": "query", "required": name in required, "schema": schema}
                | ({"description": about} if about else {})
            )
    if route.method != "GET" and not route.report:
        about = "What /api/me tells as csrf, where a session's cookie is sent."
        schema = {"type": "string"}
        found.append({"name": CSRF, "in": "header", "description": about, "schema": schema})
    return found


def _responses(route: Route, of: Mapping[str, Any]) -> dict[str, Any]:
    if not route.gives:
        good: dict[str, Any] = {"204": {"description": "Taken."}}
    else:
        schema = {} if route.returns is None else of[_key(route.returns)]
        content = {kind: {"schema": schema} for kind in route.gives}
        good = {"200": {"description": "As asked.", "content": content}}
        if route.probe:
            good["503"] = {"description": "Not well.", "content": content}
    errors = READ_ERRORS if route.method == "GET" else WRITE_ERRORS
    bad = {str(each): {"$ref": f"#/components/responses/{each}"} for each in errors}
    return {**bad, **good}


def _problem(title: str) -> dict[str, Any]:
    schema = {"$ref": REF.format(name=Problem.__name__)}
    return {
        "description": title[:1].upper() + title[1:] + ".",
        "content": {"application/problem+json": {"schema": schema}},
    }


def _described(component: Mapping[str, Any]) -> dict[str, Any]:
    """Take what a docstring says of attributes to the attributes."""
    told = dict(component)
    text, _, attributes = str(told.get("description", "")).partition("Attributes:")
    if text.strip():
        told["description"] = " ".join(text.split())
    meanings = _meanings(attributes)
    if "properties" in told:
        told["properties"] = {
            name: {**schema, "description": meanings[_plain(name)]}
            if _plain(name) in meanings
            else dict(schema)
            for name, schema in told["properties"].items()
        }
    return told


def _meanings(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    names: list[str] = []
    for line in text.splitlines():
        begins = ATTRIBUTE.match(line)
        if begins:
            names = [_plain(name.strip()) for name in begins[1].split(",")]
            found |= dict.fromkeys(names, begins[2])
        else:
            for name in names:
                found[name] = f"{found[name]} {line.strip()}".strip()
    return found


def _plain(name: str) -> str:
    return name.replace("_", "").lower()

"""Payloads that fit a JSON Schema, as something to begin with. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DEPTH_MAX = 6
TEXT = "text"
FORMATS = {
    "uuid": "00000000-0000-4000-8000-000000000001",
    "date-time": "2030-01-01T12:00:00Z",
    "date": "2030-01-01",
    "time": "12:00:00",
    "duration": "PT1H",
    "byte": "",
    "email": "ada@example.org",
    "uri": "https://example.org/",
}
REQUIRED_SHOWN = 3
"""With fewer fields than that required, optional ones are shown too."""

Schema = Mapping[str, Any]


def example_of(schema: Schema) -> Any:
    """
    Make up a payload: what is required or has an example, and some of the rest if that is little.

    Bounds, choices, formats and the schema's own examples are kept; patterns cannot be.
    """
    return _value(schema, schema.get("$defs", {}), DEPTH_MAX)


def has_examples(schema: Any) -> bool:
    """Tell whether a schema, or a part of it, brings examples of its own."""
    match schema:
        case Mapping():
            return "examples" in schema or any(map(has_examples, schema.values()))
        case list():
            return any(map(has_examples, schema))
    return False


def _value(schema: Schema, defs: Schema, depth: int) -> Any:
    if "$ref" in schema:
        # A definition may contain itself; what lies too deep is left out where it may be.
        return _value(defs.get(schema["$ref"].rpartition("/")[2], {}), defs, depth - 1)
    if schema.get("examples"):
        return schema["examples"][0]
    for fixed in ("const", "default"):
        if schema.get(fixed) is not None and depth < DEPTH_MAX:
            return schema[fixed]
    if schema.get("enum"):
        return schema["enum"][0]
    choices = schema.get("anyOf") or schema.get("oneOf")
    if choices:
        some = [each for each in choices if each.get("type") != "null"]
        if not some or (depth <= 0 and len(some) < len(choices)):
            return None
        return _value(some[0], defs, depth - 1)
    return _typed(schema, defs, depth)


def _typed(schema: Schema, defs: Schema, depth: int) -> Any:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((each for each in kind if each != "null"), "null")
    match kind:
        case "object":
            return _object(schema, defs, depth)
        case "array":
            least = schema.get("minItems", 0)
            wanted = max(least, int(depth > 1))
            items = schema.get("items") or {}
            return [_value(items, defs, depth - 1) for _ in range(wanted)] if items else []
        case "string":
            return _text(schema)
        case "integer" | "number":
            return _number(schema, whole=kind == "integer")
        case "boolean":
            return False
        case "null":
            return None
    return {}


def _object(schema: Schema, defs: Schema, depth: int) -> dict[str, Any]:
    properties = schema.get("properties", {})
    required = [name for name in schema.get("required", ()) if name in properties]
    told = [name for name in properties if "examples" in properties[name]]
    shown = [*required, *(name for name in told if name not in required)]
    if len(shown) < REQUIRED_SHOWN and depth >= DEPTH_MAX - 1:
        rest = [name for name in properties if name not in shown]
        shown += rest[: REQUIRED_SHOWN - len(shown)]
    return {name: _value(properties[name], defs, depth - 1) for name in shown}


def _text(schema: Schema) -> str:
    text = FORMATS.get(schema.get("format", ""), TEXT)
    least, most = schema.get("minLength", 0), schema.get("maxLength", len(text))
    return (text + TEXT * (least // len(TEXT) + 1) if len(text) < least else text)[
        : max(least, most)
    ]


def _number(schema: Schema, *, whole: bool) -> int | float:
    step = schema.get("multipleOf", 1)
    low = schema.get("minimum")
    if low is None and "exclusiveMinimum" in schema:
        low = schema["exclusiveMinimum"] + step
    high = schema.get("maximum")
    if high is None and "exclusiveMaximum" in schema:
        high = schema["exclusiveMaximum"] - step
    value = 1 if low is None else max(low, 1)
    if high is not None:
        value = min(value, high)
    if value % step:
        value = -(-value // step) * step
    return int(value) if whole else value


__all__ = ["example_of", "has_examples"]

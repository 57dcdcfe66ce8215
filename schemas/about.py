"""What a newcomer asks the page for: which jobs there are, and how one is sent."""

from __future__ import annotations

from typing import Any

from schemas.stats import View


class TypeAbout(View, frozen=True, kw_only=True):
    """
    One job type that the answering engine knows.

    Attributes:
        type: Its name.
        queue: Its queue.
        version: Its payload version.
        schema: The JSON Schema of its payload.
        example: A payload that fits the schema, as far as the schema says.
        tried: The schema brings examples of its own, so that this payload does something.
    """

    type: str
    queue: str
    version: int
    schema: dict[str, Any]
    example: Any
    tried: bool


class About(View, frozen=True, kw_only=True):
    """
    What runs here, and what it takes.

    Attributes:
        engine: The engine that answers.
        version: Its version.
        versions: Engines per version; empty while unknown.
        server: The Redis or Valkey server, for example ``valkey 9.1.2``; empty while unknown.
        url: Where the queues live, its password masked; empty for those who may only read.
        lanes: The lanes, highest first.
        types: The job types.
    """

    engine: str
    version: str
    versions: dict[str, int]
    server: str
    url: str
    lanes: list[str]
    types: list[TypeAbout]

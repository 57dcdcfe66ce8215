"""Engines as the page shows them: all of them, and one with what it runs."""

from __future__ import annotations

from schemas.overview import EngineGlance
from schemas.stats import View
from schemas.story import JobRow


class Engines(View, frozen=True, kw_only=True):
    """
    The engines heard of within the last minute.

    Attributes:
        engines: By name.
        order: Their names, the worst first.
    """

    engines: dict[str, EngineGlance]
    order: list[str]


class Setting(View, frozen=True, kw_only=True):
    """One setting, secrets masked: its variable, its value as text, and what it means."""

    name: str
    value: str
    meaning: str


class InFlight(View, frozen=True, kw_only=True):
    """
    What one engine has taken.

    Attributes:
        total: How many jobs.
        jobs: Some of them; ``at_ms`` is the engine's last sign of life about each.
    """

    total: int
    jobs: list[JobRow]


class EngineLook(View, frozen=True, kw_only=True):
    """
    One engine.

    Attributes:
        engine: How it is.
        in_flight: What it has taken.
        settings: Its settings, where it is the one that answers and the caller may see them.
    """

    engine: EngineGlance
    in_flight: InFlight
    settings: list[Setting]

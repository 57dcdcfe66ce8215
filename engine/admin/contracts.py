"""The JSON Schemas of job types, for producers in any language. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from engine.registry import JobType, Registry

DRAFT = "https://json-schema.org/draft/2020-12/schema"


def job_schema(job_type: JobType) -> dict[str, Any]:
    """Return the JSON Schema of one type's field ``data``, with its queue and version."""
    return {
        "$schema": DRAFT,
        "title": job_type.name,
        "x-queue": job_type.queue,
        "x-version": job_type.version,
        **msgspec.json.schema(job_type.payload, schema_hook=_custom),
    }


def _custom(kind: type) -> dict[str, Any]:
    """Say nothing but the name of a type that has no JSON Schema, such as ``object``."""
    return {"title": kind.__name__}


def job_schemas(registry: Registry) -> dict[str, dict[str, Any]]:
    """Return the JSON Schema of every registered type, by type."""
    return {name: job_schema(job_type) for name, job_type in sorted(registry.types.items())}

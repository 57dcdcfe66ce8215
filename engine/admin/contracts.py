"""The JSON Schemas of job types, for producers in any language, and what fits them. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from engine.errors import Malformed
from engine.registry import JobType, Registry
from engine.wire.payload import payload_decoder

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


def payload_judge(registry: Registry, data_bytes_max: int) -> Callable[[str, bytes], str]:
    """
    Return what says why a payload is none of its type, in the engines' own words.

    It says nothing of a payload that fits, or of a type that is not registered here.
    """
    decoders = {name: payload_decoder(each.payload) for name, each in registry.types.items()}

    def judge(job_type: str, data: bytes) -> str:
        if len(data) > data_bytes_max:
            return f"{len(data)} bytes are more than {data_bytes_max}"
        decode = decoders.get(job_type)
        try:
            if decode is not None:
                decode(data)
        except Malformed as error:
            return str(error)
        return ""

    return judge

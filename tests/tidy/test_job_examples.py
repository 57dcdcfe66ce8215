"""The page about the processors shows jobs that are jobs: types, queues, payloads."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

from engine.registry import JobType
from engine.wire.payload import payload_decoder
from processors.app import registry
from processors.settings import from_env
from tests.tidy.sources import ROOT

PAGE = (ROOT / "processors" / "README.md").read_text()
TYPES: dict[str, JobType] = registry(from_env({})).types
HEAD = re.compile(r"^\*\*`([a-z-]+)`\*\*, queue `([a-z-]+)`", re.MULTILINE)
JSON = re.compile(r"^```json\n(.*?)^```", re.MULTILINE | re.DOTALL)


def examples() -> list[tuple[str, str, bytes]]:
    """Job type, queue and payload of each example: those below a line that names a type."""
    found = []
    heads = list(HEAD.finditer(PAGE))
    for head, following in zip(heads, [*heads[1:], None], strict=True):
        end = following.start() if following else len(PAGE)
        section = PAGE[head.end() : end].partition("\n## ")[0].partition("**Result")[0]
        found += [
            (head[1], head[2], payload)
            for block in JSON.findall(section)
            for payload in payloads(block)
            if not is_event(payload)
        ]
    return found


def payloads(block: str) -> list[bytes]:
    """One payload, or one per line."""
    lines = block.strip().splitlines()
    one_each = len(lines) > 1 and all(line.startswith("{") and line.endswith("}") for line in lines)
    return [line.encode() for line in lines] if one_each else [block.encode()]


def is_event(text: bytes) -> bool:
    """Events are shown beside the jobs that cause them."""
    shown = msgspec.json.decode(text)
    return "." in shown.get("type", "") and "action" not in shown


@pytest.mark.parametrize(("job_type", "queue", "payload"), examples())
def test_an_example_is_a_payload_of_its_type(job_type: str, queue: str, payload: bytes) -> None:
    found: Any = TYPES[job_type]

    assert found.queue == queue
    payload_decoder(found.payload)(payload)


def test_every_job_type_is_shown() -> None:
    assert {job_type for job_type, _, _ in examples()} == set(TYPES)

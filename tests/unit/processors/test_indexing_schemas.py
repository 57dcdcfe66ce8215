"""The wire contract of ``indexing``: one type, five verbs."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec
import pytest

from engine.errors import Malformed
from engine.wire.payload import payload_decoder
from schemas.messages import (
    AuditIndex,
    AuditResult,
    DeleteIndexed,
    Indexing,
    IndexMessages,
    IndexResult,
    Reindex,
    UpdateIndexed,
)

ID = "00000000-0000-4000-8000-000000000001"

decode = payload_decoder(Indexing)


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"action": "index", "messageIds": [ID]}, IndexMessages),
        ({"action": "update", "messageIds": [ID] * 500}, UpdateIndexed),
        ({"action": "delete", "messageIds": [ID, ID]}, DeleteIndexed),
        ({"action": "reindex"}, Reindex),
        ({"action": "reindex", "conversationId": ID, "cursor": "abc"}, Reindex),
        ({"action": "audit", "conversationId": ID, "repair": True}, AuditIndex),
    ],
)
def test_each_verb_has_a_payload(fields: dict[str, Any], kind: type[Any]) -> None:
    assert type(decode(msgspec.json.encode(fields))) is kind


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"messageIds": [ID]}, "action"),
        ({"action": "remove", "messageIds": [ID]}, "remove"),
        ({"action": "index"}, "messageIds"),
        ({"action": "index", "messageIds": []}, "messageIds"),
        ({"action": "index", "messageIds": [ID] * 501}, "messageIds"),
        ({"action": "delete", "messageIds": ["x"]}, "messageIds"),
        ({"action": "index", "messageIds": [ID], "content": "hi"}, "content"),
        ({"action": "reindex", "cursor": ""}, "cursor"),
        ({"action": "reindex", "cursor": "x" * 401}, "cursor"),
        ({"action": "audit", "repair": "yes"}, "repair"),
    ],
)
def test_faults_are_named(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(Malformed) as error:
        decode(msgspec.json.encode(fields))
    assert said in str(error.value)


def test_results_are_in_camel_case() -> None:
    assert msgspec.to_builtins(IndexResult(indexed=2, written=1)) == {
        "indexed": 2, "written": 1, "removed": 0, "skipped": 0, "undecryptable": 0,
    }  # fmt: skip
    result = AuditResult(
        messages=1, missing=0, stale=0, superfluous=0, misplaced=0, repaired=0, next_job_id=None
    )
    assert "nextJobId" in msgspec.to_builtins(result)
    assert decode(b'{"action":"reindex","conversationId":"%b"}' % ID.encode()) == Reindex(
        conversation_id=UUID(ID)
    )

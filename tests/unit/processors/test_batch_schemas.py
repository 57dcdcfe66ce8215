"""Payloads of ``batch-message``: bounds, and errors that can be read."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest

from engine.errors import Malformed
from engine.wire.payload import payload_decoder
from schemas.messages import RECIPIENTS_MAX, BatchMessage, CancelBatch, RunBatch, StartBatch

decode = payload_decoder(BatchMessage)
ONE = str(UUID(int=1))
START: dict[str, Any] = {
    "action": "start", "senderId": ONE, "recipientIds": [ONE], "content": "hi",
}  # fmt: skip


def test_each_action_is_told_by_its_name() -> None:
    assert isinstance(decode(json.dumps(START).encode()), StartBatch)
    for action, kind in (("run", RunBatch), ("cancel", CancelBatch)):
        found = decode(json.dumps({"action": action, "batchId": ONE}).encode())
        assert found == kind(batch_id=UUID(int=1))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"action": "begin"}, "Invalid value 'begin'"),
        ({"recipientIds": []}, "length >= 1"),
        ({"recipientIds": [ONE] * (RECIPIENTS_MAX + 1)}, "length <= 10000"),
        ({"recipientIds": ["x"]}, "Invalid UUID"),
        ({"content": ""}, "length >= 1"),
        ({"ratePerS": 0}, ">= 1"),
        ({"ratePerS": 100_001}, "<= 100000"),
        ({"colour": "red"}, "unknown field `colour`"),
        ({"kind": "shout"}, "Invalid enum value"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(change: dict[str, Any], told: str) -> None:
    with pytest.raises(Malformed, match=told):
        decode(json.dumps(START | change).encode())


def test_the_most_recipients_fit_into_a_job() -> None:
    most = START | {"recipientIds": [ONE] * RECIPIENTS_MAX, "content": "x" * 16_384}

    data = json.dumps(most).encode()

    assert len(data) < 1_048_576
    assert isinstance(decode(data), StartBatch)

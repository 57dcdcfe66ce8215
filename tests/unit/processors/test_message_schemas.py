"""The wire contract of the messaging types."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec
import pytest

from schemas.messages import (
    ConfirmationResult,
    DeliveryConfirmation,
    MessageKind,
    SendMessage,
    SendResult,
)

ID = "00000000-0000-4000-8000-000000000001"
SEND = {"conversationId": ID, "senderId": ID, "content": "hi", "clientMessageId": "c"}
RECEIPT = {"messageId": ID, "state": "read"}


def decode(payload_type: Any, fields: dict[str, Any]) -> Any:
    return msgspec.json.decode(msgspec.json.encode(fields), type=payload_type)


def test_a_plain_message_decodes() -> None:
    message = decode(SendMessage, SEND)

    assert message.conversation_id == UUID(ID)
    assert message.kind is MessageKind.TEXT


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"content": ""}, "content or attachments"),
        ({"content": "x" * 16_385}, "$.content"),
        ({"clientMessageId": ""}, "$.clientMessageId"),
        ({"clientMessageId": "x" * 129}, "$.clientMessageId"),
        ({"senderId": "ada"}, "$.senderId"),
        ({"kind": "video"}, "$.kind"),
        ({"attachments": [ID, ID]}, "attachments must name each file once"),
        ({"attachments": ["x"]}, "$.attachments[0]"),
        ({"mentions": [ID] * 101}, "$.mentions"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_send_message_names_the_broken_field(change: dict[str, Any], path: str) -> None:
    with pytest.raises(msgspec.ValidationError) as error:
        decode(SendMessage, SEND | change)
    assert path in str(error.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"receipts": [RECEIPT]},
        {"receipts": [RECEIPT | {"at": "2026-01-01T00:00:00+02:00"}]},
        {"receipts": [RECEIPT | {"at": 1_767_225_600_000}] * 500},
        {"conversationId": ID, "readUpToSeq": 5},
        {"conversationId": ID, "deliveredUpToSeq": 5, "at": 0},
        {"conversationId": ID, "readUpToSeq": 5, "receipts": [RECEIPT]},
    ],
)
def test_confirmations_carry_receipts_or_watermarks_or_both(fields: dict[str, Any]) -> None:
    assert decode(DeliveryConfirmation, {"userId": ID} | fields).user_id == UUID(ID)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "is needed"),
        ({"receipts": []}, "is needed"),
        ({"readUpToSeq": 5}, "goes together"),
        ({"conversationId": ID, "receipts": [RECEIPT]}, "goes together"),
        ({"conversationId": ID, "readUpToSeq": 0}, "$.readUpToSeq"),
        ({"conversationId": ID, "readUpToSeq": 2**63}, "$.readUpToSeq"),
        ({"receipts": [RECEIPT] * 501}, "$.receipts"),
        ({"receipts": [RECEIPT | {"state": "sent"}]}, "$.receipts[0].state"),
        ({"receipts": [RECEIPT | {"at": "2026-01-01T00:00:00"}]}, "$.receipts[0].at"),
        ({"receipts": [RECEIPT | {"at": -1}]}, "$.receipts[0].at"),
        ({"receipts": [RECEIPT | {"at": True}]}, "$.receipts[0].at"),
    ],
)
def test_bad_confirmations_name_the_broken_rule(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(msgspec.ValidationError) as error:
        decode(DeliveryConfirmation, {"userId": ID} | fields)
    assert said in str(error.value)


def test_results_are_camel_case() -> None:
    sent = SendResult(message_id=UUID(ID), seq=1, duplicate=False, recipients=None)
    confirmed = ConfirmationResult(advanced=1, unchanged=0, ignored=0, read_up_to_seq=4)

    assert msgspec.to_builtins(sent) == {
        "messageId": ID,
        "seq": 1,
        "duplicate": False,
        "recipients": None,
    }
    assert msgspec.to_builtins(confirmed)["readUpToSeq"] == 4


def test_every_type_has_a_json_schema() -> None:
    for payload_type in (SendMessage, DeliveryConfirmation, SendResult, ConfirmationResult):
        schema = msgspec.json.schema(payload_type)
        assert payload_type.__name__ in schema["$defs"]

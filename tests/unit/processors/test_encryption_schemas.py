"""The wire contract of ``encryption``."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec
import pytest

from schemas.messages import (
    Decrypt,
    Encrypt,
    Encryption,
    EncryptionResult,
    ReEncrypt,
    Rewrap,
    Rotate,
    Shred,
    TurnOn,
)

ID = "00000000-0000-4000-8000-000000000001"
U = UUID(ID)
WHO = {"actor": "ada", "reason": "ticket 7"}
KEY = "A" * 43 + "="


def decode(fields: dict[str, Any]) -> Any:
    return msgspec.json.decode(msgspec.json.encode(fields), type=Encryption)


@pytest.mark.parametrize(
    ("fields", "payload"),
    [
        ({"action": "encrypt", "messageIds": [ID]}, Encrypt(message_ids=(U,))),
        (
            {"action": "encrypt", "conversationId": ID, "afterSeq": 4},
            Encrypt(conversation_id=U, after_seq=4),
        ),
        (
            {"action": "decrypt", "messageIds": [ID], "replyKey": KEY, **WHO},
            Decrypt(message_ids=(U,), actor="ada", reason="ticket 7", reply_key=KEY),
        ),
        ({"action": "re-encrypt"}, ReEncrypt()),
        (
            {"action": "rotate", "conversationId": ID, "reEncrypt": False},
            Rotate(conversation_id=U, re_encrypt=False),
        ),
        ({"action": "rewrap", "afterKey": ID}, Rewrap(after_key=U)),
        (
            {"action": "shred", "conversationId": ID, **WHO},
            Shred(conversation_id=U, actor="ada", reason="ticket 7"),
        ),
        (
            {"action": "turn-on", "conversationId": ID, "search": "none"},
            TurnOn(conversation_id=U, search="none"),
        ),
    ],
)
def test_each_action_is_a_payload_of_its_own(fields: dict[str, Any], payload: Any) -> None:
    assert decode(fields) == payload
    assert msgspec.json.decode(msgspec.json.encode(payload), type=Encryption) == payload


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "action"),
        ({"action": "unlock"}, "$.action"),
        ({"action": "encrypt"}, "one of messageIds and conversationId"),
        ({"action": "encrypt", "messageIds": [ID], "conversationId": ID}, "one of"),
        ({"action": "encrypt", "messageIds": [ID] * 501}, "$.messageIds"),
        ({"action": "encrypt", "conversationId": ID, "afterSeq": -1}, "$.afterSeq"),
        ({"action": "decrypt", "messageIds": [], **WHO}, "$.messageIds"),
        ({"action": "decrypt", "messageIds": [ID] * 21, **WHO}, "$.messageIds"),
        ({"action": "decrypt", "messageIds": [ID], "actor": "ada"}, "reason"),
        ({"action": "decrypt", "messageIds": [ID], "actor": "", "reason": "x"}, "$.actor"),
        ({"action": "decrypt", "messageIds": [ID], "replyKey": "AAAA", **WHO}, "$.replyKey"),
        (
            {"action": "decrypt", "messageIds": [ID], "replyKey": KEY, "store": True, **WHO},
            "exclude each other",
        ),
        ({"action": "rotate"}, "conversationId"),
        ({"action": "rotate", "conversationId": ID, "messageIds": [ID]}, "messageIds"),
        ({"action": "shred", "conversationId": ID}, "actor"),
        ({"action": "turn-on", "conversationId": ID, "search": "text"}, "$.search"),
    ],
)
def test_bad_payloads_name_the_broken_rule(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(msgspec.ValidationError) as error:
        decode(fields)
    assert said in str(error.value)


def test_payloads_and_results_have_json_schemas() -> None:
    verbs = msgspec.json.schema(Encryption)

    assert set(verbs["$defs"]) >= {"Encrypt", "Decrypt", "Shred"}
    assert verbs["discriminator"]["propertyName"] == "action"
    assert len(EncryptionResult.__args__) == len(Encryption.__args__)

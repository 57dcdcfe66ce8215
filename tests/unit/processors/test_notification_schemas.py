"""The wire contract of ``notification``: one type, six verbs."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec
import pytest

from engine.errors import Malformed
from engine.wire.payload import payload_decoder
from schemas.messages import (
    DeliverNotification,
    FlushDigest,
    Notification,
    NotifyEvent,
    NotifyMessages,
    RecordStatus,
    UpdateBadge,
)

ID = "00000000-0000-4000-8000-000000000001"
EVENT: dict[str, Any] = {
    "action": "event",
    "type": "security.login",
    "userIds": [ID],
    "dedupKey": "login-1",
    "title": "New sign-in",
}
STATUS: dict[str, Any] = {"action": "status", "channel": "sms", "state": "failed"}

decode = payload_decoder(Notification)


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"action": "message", "messageIds": [ID] * 500}, NotifyMessages),
        (EVENT, NotifyEvent),
        (EVENT | {"channels": ["push", "in_app"], "ttlS": 60, "data": {"ip": "::1"}}, NotifyEvent),
        ({"action": "deliver", "deliveryId": ID}, DeliverNotification),
        (
            {"action": "digest", "userId": ID, "channel": "email", "conversationId": ID},
            FlushDigest,
        ),
        ({"action": "badge", "userId": ID}, UpdateBadge),
        (STATUS | {"providerId": "SM1", "code": "30003"}, RecordStatus),
        (STATUS | {"addressHash": "ab" * 32}, RecordStatus),
    ],
)
def test_each_verb_decodes_to_its_struct(fields: dict[str, Any], kind: type) -> None:
    assert type(decode(msgspec.json.encode(fields))) is kind


@pytest.mark.parametrize(
    ("fields", "path", "said"),
    [
        ({"action": "mesage", "messageIds": [ID]}, "$.action", "mesage"),
        ({"messageIds": [ID]}, "$", "`action`"),
        ({"action": "message", "messageIds": []}, "$.messageIds", "length >= 1"),
        ({"action": "message", "messageIds": [ID] * 501}, "$.messageIds", "length <= 500"),
        ({"action": "badge", "userId": ID, "n": 1}, "$", "`n`"),
        (EVENT | {"userIds": [ID] * 1_001}, "$.userIds", "length <= 1000"),
        (EVENT | {"type": "message"}, "$", "back end's own"),
        (EVENT | {"type": "Security"}, "$.type", "regex"),
        (EVENT | {"channels": ["fax"]}, "$.channels[0]", "fax"),
        (EVENT | {"channels": []}, "$.channels", "length >= 1"),
        (EVENT | {"ttlS": 2_419_201}, "$.ttlS", "<= 2419200"),
        (EVENT | {"data": {"a": "\x00"}}, "$", "NUL"),
        (EVENT | {"title": ""}, "$.title", "length >= 1"),
        (STATUS, "$", "is needed"),
        (STATUS | {"channel": "push", "deliveryId": ID}, "$.channel", "push"),
        (STATUS | {"addressHash": "AB" * 32}, "$.addressHash", "regex"),
        (
            {"action": "digest", "userId": ID, "channel": "in_app", "conversationId": ID},
            "$.channel",
            "in_app",
        ),
    ],
)
def test_a_bad_payload_names_the_broken_rule(fields: dict[str, Any], path: str, said: str) -> None:
    with pytest.raises(Malformed) as error:
        decode(msgspec.json.encode(fields))
    assert error.value.path == path
    assert said in error.value.detail


def test_a_job_that_the_back_end_makes_is_plain_json() -> None:
    made = msgspec.to_builtins(DeliverNotification(delivery_id=UUID(ID)))

    assert made == {"action": "deliver", "deliveryId": ID}


def test_the_schema_names_every_verb() -> None:
    schema = msgspec.json.schema(Notification)

    assert set(schema["discriminator"]["mapping"]) == {
        "message", "event", "deliver", "digest", "badge", "status",
    }  # fmt: skip

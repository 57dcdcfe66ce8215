"""Frames from strangers, and the pace at which they are read."""

from __future__ import annotations

import asyncio
import contextlib
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.testing import ManualClock
from processors.errors import ConfigurationError, Refused
from processors.realtime.joining import fault_of
from processors.realtime.requests import BadFrame, read_frame
from processors.realtime.session import BURST_S, Pace
from processors.settings import from_env
from schemas.realtime import Ack, Sync

KINDS = st.sampled_from(["auth", "subscribe", "resume", "sync", "ack", "read", "send", "ping", "x"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)
NAMES = st.sampled_from(["id", "conversationId", "afterSeq", "seq", "messageIds", "message", "no"])


@given(kind=KINDS, fields=st.dictionaries(NAMES, VALUES))
def test_any_object_is_a_frame_or_refused(kind: str, fields: dict[str, object]) -> None:
    with contextlib.suppress(orjson.JSONEncodeError, BadFrame):
        read_frame(orjson.dumps({"type": kind, **fields}))


@given(text=st.text() | st.binary())
def test_any_text_is_a_frame_or_refused(text: str | bytes) -> None:
    with contextlib.suppress(BadFrame):
        read_frame(text)


TALK = "0" * 32


def test_bounds_are_kept() -> None:
    assert read_frame(orjson.dumps({"type": "sync", "conversationId": TALK})) == Sync(
        conversation_id=UUID(TALK), limit=100
    )
    assert isinstance(read_frame(orjson.dumps({"type": "ack", "messageIds": [TALK] * 500})), Ack)
    for bad in (
        {"type": "sync", "conversationId": TALK, "limit": 201},
        {"type": "sync", "conversationId": TALK, "limit": 0},
        {"type": "ack", "conversationId": TALK},
        {"type": "ack", "seq": 1},
        {"type": "ack", "conversationId": TALK, "seq": 0},
        {"type": "ack", "conversationId": TALK, "seq": 2**63},
        {"type": "ack", "messageIds": [TALK] * 501},
        {"type": "auth", "ticket": "x" * 65},
        {"type": "ping", "id": "x" * 65},
        {"type": "resume", "conversations": {f"{number:032x}": 1 for number in range(501)}},
    ):
        with pytest.raises(BadFrame):
            read_frame(orjson.dumps(bad))


async def test_a_client_may_send_bursts_and_is_slowed_down_beyond() -> None:
    clock = ManualClock()
    pace = Pace(clock, 10)
    for _ in range(int(10 * BURST_S)):
        await asyncio.wait_for(pace.step(), 1)
    waiting = asyncio.create_task(pace.step())
    await asyncio.sleep(0)
    assert clock.sleeping == 1
    await clock.advance(0.1)
    await waiting
    await clock.advance(BURST_S * 10)
    for _ in range(int(10 * BURST_S)):
        await asyncio.wait_for(pace.step(), 1)
    assert clock.sleeping == 0


def test_refusals_do_not_tell_whether_a_conversation_exists() -> None:
    told = {
        (fault.code, fault.detail)
        for fault in (
            fault_of(Refused(code, f"{code} in detail"), None, request_id=None)
            for code in ("unknown-conversation", "not-a-member")
        )
    }
    assert len(told) == 1
    left = fault_of(Refused("left", "user has left"), None, request_id="7")
    assert (left.code, left.detail, left.id) == ("left", "user has left", "7")


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"LISTEN": "8788"}, "host:port"),
        ({"LISTEN": "127.0.0.1:99999"}, "host:port"),
        ({"TOKEN": "short"}, "at least 16"),
        ({"ORIGINS": "chat.example.com"}, "must be like https"),
        ({"ORIGINS": "https://chat.example.com/"}, "must be like https"),
        ({"QUEUE_MAX": "1"}, "QUEUE_MAX"),
    ],
)
def test_bad_settings_are_named(variables: dict[str, str], said: str) -> None:
    named = {f"PROCESSORS_GATEWAY_{name}": value for name, value in variables.items()}
    with pytest.raises(ConfigurationError, match=said):
        from_env(named)

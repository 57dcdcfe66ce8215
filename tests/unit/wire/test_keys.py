"""Keys and the parts of them that decide a cluster slot."""

from __future__ import annotations

import pytest

from engine.wire.keys import QueueKeys, is_reply_key, slot_tag
from schemas.rules import LANES


def test_the_keys_are_those_that_producers_and_operators_know() -> None:
    keys = QueueKeys("message-delivery")

    assert [keys.lane(lane) for lane in LANES] == [
        f"mq:{{message-delivery}}:{lane}" for lane in ("critical", "high", "normal", "low")
    ]
    assert keys.delayed == "mq:{message-delivery}:delayed"
    assert keys.dead == "mq:{message-delivery}:dead"
    assert keys.done == "mq:{message-delivery}:done"
    assert keys.control == "mq:{message-delivery}:control"
    assert keys.minutes(7_200_001) == "mq:{message-delivery}:stats:2"
    assert keys.held("send-message") == "mq:{message-delivery}:held:send-message"
    assert keys.producer("p") == "mq:{message-delivery}:producer:p"


@pytest.mark.parametrize("name", ["", "a b", "a{b", "a}b", "a:b", "é", "x" * 65, "a\n"])
def test_a_queue_name_that_would_break_keys_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="queue"):
        QueueKeys(name)


@pytest.mark.parametrize(
    ("key", "tag"),
    [
        ("mq:{a}:x", "a"),
        ("{a}{b}", "a"),
        ("plain", "plain"),
        ("{}x", "{}x"),
        ("a{b", "a{b"),
        ("a}b{c}", "c"),
        ("{{a}}", "{a"),
    ],
)
def test_the_slot_tag_is_what_a_cluster_takes(key: str, tag: str) -> None:
    assert slot_tag(key) == tag


@pytest.mark.parametrize(
    ("key", "allowed"),
    [
        ("mq:{a}:reply:b", True),
        ("mq:{a}:reply:é", True),
        ("mq:{a}:reply:{b}", True),
        ("mq:{a}:dead", False),
        ("mq:{a}reply:b", False),
        ("xmq:{a}:reply:b", False),
        ("mq:{}:reply:b", False),
        ("mq:{a:reply:b", False),
        ("mq:{a}:reply:\x00", False),
        ("mq:a:reply:b", False),
    ],
)
def test_replies_go_to_reply_streams_only(key: str, allowed: bool) -> None:
    assert is_reply_key(key) is allowed

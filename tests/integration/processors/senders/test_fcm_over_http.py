"""FCM, against a peer that sells access and takes messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import orjson
import pytest

from engine.testing import ManualClock
from processors.errors import ConfigurationError
from processors.senders.base import Answer, Kind
from tests.integration.processors.senders.push_world import push, sending, target
from tests.peers.fcm import PROJECT, FcmPeer, Refuse

FAMILY = "👨‍👩‍👧‍👦"


@pytest.fixture
async def peer() -> AsyncIterator[FcmPeer]:
    async with FcmPeer() as started:
        yield started


async def test_a_message_arrives_with_all_that_devices_need(peer: FcmPeer) -> None:
    clock = ManualClock()
    sent = push(data={"conversationId": "c1"}, badge=3, collapse_key="conv-1", ttl_s=60)
    async with sending(peer.environ(), clock=clock) as senders:
        answer = await senders["fcm"].send(target("fcm", "token-1"), sent)

    assert answer.kind is Kind.SENT
    assert answer.provider_id.startswith(f"projects/{PROJECT}/messages/")
    assert peer.received[0].content == {
        "token": "token-1",
        "notification": {"title": "Ada", "body": "Hello"},
        "data": {"conversationId": "c1", "deliveryId": str(sent.delivery_id)},
        "android": {
            "priority": "HIGH",
            "ttl": "60s",
            "notification": {"tag": "conv-1", "notification_count": 3},
        },
        "apns": {
            "headers": {
                "apns-priority": "10",
                "apns-push-type": "alert",
                "apns-expiration": str(clock.now_ms() // 1000 + 60),
                "apns-collapse-id": "conv-1",
            },
            "payload": {"aps": {"badge": 3, "sound": "default"}},
        },
        "webpush": {
            "headers": {"TTL": "60", "Urgency": "high"},
            "notification": {"tag": "conv-1"},
        },
    }


async def test_a_silent_message_shows_nothing_and_may_wait(peer: FcmPeer) -> None:
    async with sending(peer.environ()) as senders:
        await senders["fcm"].send(target("fcm"), push(silent=True, ttl_s=0, title="", body=""))

    content = peer.received[0].content
    assert "notification" not in content
    assert content["android"] == {"priority": "NORMAL", "ttl": "0s"}
    assert content["apns"]["headers"]["apns-priority"] == "5"
    assert content["apns"]["headers"]["apns-push-type"] == "background"
    assert content["apns"]["headers"]["apns-expiration"] == "0"
    assert content["apns"]["payload"] == {"aps": {"content-available": 1}}


async def test_an_installation_is_addressed_as_such(peer: FcmPeer) -> None:
    async with sending(peer.environ()) as senders:
        await senders["fcm"].send(target("fcm", "install-1", kind="fid"), push())

    assert (peer.received[0].kind, peer.received[0].address) == ("fid", "install-1")


async def test_a_long_body_is_shortened_between_characters(peer: FcmPeer) -> None:
    async with sending(peer.environ()) as senders:
        answer = await senders["fcm"].send(target("fcm"), push(body=FAMILY * 500))

    assert answer.kind is Kind.SENT
    body = peer.received[0].content["notification"]["body"]
    whole = body.removesuffix("…").count(FAMILY)
    assert body == FAMILY * whole + "…"
    assert 100 < whole < 500


async def test_what_cannot_be_shortened_is_refused_without_asking(peer: FcmPeer) -> None:
    async with sending(peer.environ()) as senders:
        answer = await senders["fcm"].send(target("fcm"), push(data={"k": "v" * 4_096}))

    assert answer == Answer(Kind.REFUSED, "too-large")
    assert peer.asked == 0


async def test_targets_of_a_project_that_is_not_ours_are_refused_without_asking(
    peer: FcmPeer,
) -> None:
    async with sending(peer.environ()) as senders:
        answer = await senders["fcm"].send(target("fcm", app_id="elsewhere"), push())
        ours = await senders["fcm"].send(target("fcm", app_id=PROJECT), push())

    assert answer == Answer(Kind.REFUSED, "other-project")
    assert ours.kind is Kind.SENT
    assert peer.asked == 1


@pytest.mark.parametrize(
    ("step", "kind", "code"),
    [
        (Refuse(404, "NOT_FOUND", "UNREGISTERED"), Kind.TARGET_GONE, "UNREGISTERED"),
        (Refuse(403, "PERMISSION_DENIED", "SENDER_ID_MISMATCH"), Kind.TARGET_GONE,
         "SENDER_ID_MISMATCH"),
        (Refuse(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT",
                "The registration token is not a valid FCM registration token"),
         Kind.TARGET_GONE, "INVALID_ARGUMENT"),
        (Refuse(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT"), Kind.REFUSED, "INVALID_ARGUMENT"),
        (Refuse(404, "NOT_FOUND"), Kind.MISCONFIGURED, "NOT_FOUND"),
        (Refuse(403, "PERMISSION_DENIED"), Kind.MISCONFIGURED, "PERMISSION_DENIED"),
        (Refuse(401, "UNAUTHENTICATED", "THIRD_PARTY_AUTH_ERROR"), Kind.MISCONFIGURED,
         "THIRD_PARTY_AUTH_ERROR"),
        (Refuse(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED"), Kind.LIMITED, "QUOTA_EXCEEDED"),
        (Refuse(500, "INTERNAL", "INTERNAL"), Kind.LATER, "INTERNAL"),
        (Refuse(502, body=b"<html>Bad Gateway</html>"), Kind.LATER, "http-502"),
        (Refuse(503, "UNAVAILABLE", "UNAVAILABLE"), Kind.LATER, "UNAVAILABLE"),
        (Refuse(504, body=b""), Kind.LATER, "http-504"),
        (Refuse(500, body=b"x" * 1_000_000), Kind.LATER, "http-500"),
        ("close", Kind.LATER, "connection"),
    ],
)  # fmt: skip
async def test_a_row_of_the_table_over_the_wire(
    peer: FcmPeer, step: Refuse, kind: Kind, code: str
) -> None:
    peer.sending.append(step)
    async with sending(peer.environ()) as senders:
        answer = await senders["fcm"].send(target("fcm"), push())
        after = await senders["fcm"].send(target("fcm"), push())

    assert (answer.kind, answer.code) == (kind, code)
    assert after.kind is Kind.SENT
    assert peer.asked == 2


async def test_a_wait_comes_from_the_answer(peer: FcmPeer) -> None:
    peer.sending.append(
        Refuse(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED", headers={"Retry-After": "7"})
    )
    async with sending(peer.environ()) as senders:
        answer = await senders["fcm"].send(target("fcm"), push())

    assert (answer.retry_after_ms, answer.scope) == (7_000, "provider")


async def test_silence_is_an_answer_within_the_time_limit(peer: FcmPeer) -> None:
    peer.sending.append("hang")
    async with asyncio.timeout(30), sending(peer.environ(), fcm_timeout_ms=100) as senders:
        answer = await senders["fcm"].send(target("fcm"), push())

    assert answer == Answer(Kind.LATER, "timeout")


async def test_nobody_listening_is_an_answer(peer: FcmPeer, unused_port: int) -> None:
    async with sending(peer.environ(), fcm_url=f"http://127.0.0.1:{unused_port}") as senders:
        answer = await senders["fcm"].send(target("fcm"), push())

    assert answer == Answer(Kind.LATER, "unreachable")


async def test_many_messages_share_one_token(peer: FcmPeer) -> None:
    async with sending(peer.environ()) as senders:
        answers = await asyncio.gather(
            *(senders["fcm"].send(target("fcm", f"t{n}"), push()) for n in range(50))
        )

    assert {answer.kind for answer in answers} == {Kind.SENT}
    assert len(peer.received) == 50
    assert peer.bought == 1


async def test_a_token_is_replaced_before_it_ends(peer: FcmPeer) -> None:
    clock = ManualClock()
    async with sending(peer.environ(), clock=clock) as senders:
        await senders["fcm"].send(target("fcm"), push())
        clock.move(3_299)
        await senders["fcm"].send(target("fcm"), push())
        before = peer.bought
        clock.move(2)
        await senders["fcm"].send(target("fcm"), push())

    assert (before, peer.bought) == (1, 2)


async def test_a_token_that_cannot_be_replaced_yet_is_used_to_its_end(peer: FcmPeer) -> None:
    clock = ManualClock()
    async with sending(peer.environ(), clock=clock) as senders:
        await senders["fcm"].send(target("fcm"), push())
        clock.move(3_400)
        peer.buying.extend([Refuse(503, body=b""), Refuse(503, body=b"")])
        early = await senders["fcm"].send(target("fcm"), push())
        clock.move(300)
        late = await senders["fcm"].send(target("fcm"), push())

    assert early.kind is Kind.SENT
    assert late == Answer(Kind.LATER, "oauth-http-503", scope="provider")


async def test_a_refused_token_is_replaced_once(peer: FcmPeer) -> None:
    async with sending(peer.environ()) as senders:
        await senders["fcm"].send(target("fcm"), push())
        peer.revoke()
        answers = await asyncio.gather(*(senders["fcm"].send(target("fcm"), push())
                                         for _ in range(20)))  # fmt: skip

    assert {answer.kind for answer in answers} == {Kind.SENT}
    assert peer.bought == 2


async def test_a_token_that_is_refused_again_is_our_set_up(peer: FcmPeer) -> None:
    peer.sending.extend([Refuse(401, "UNAUTHENTICATED"), Refuse(401, "UNAUTHENTICATED")])
    async with sending(peer.environ()) as senders:
        answer = await senders["fcm"].send(target("fcm"), push())

    assert (answer.kind, answer.code) == (Kind.MISCONFIGURED, "UNAUTHENTICATED")
    assert (peer.asked, peer.bought) == (2, 2)


@pytest.mark.parametrize(
    ("step", "answer"),
    [
        (Refuse(400, body=b'{"error":"invalid_grant"}'),
         Answer(Kind.MISCONFIGURED, "oauth-invalid_grant", scope="provider")),
        (Refuse(429, body=b"", headers={"Retry-After": "3"}),
         Answer(Kind.LIMITED, "oauth-http-429", retry_after_ms=3_000, scope="provider")),
        (Refuse(200, body=b"<html>"), Answer(Kind.LATER, "oauth-malformed", scope="provider")),
        ("close", Answer(Kind.LATER, "oauth-connection", scope="provider")),
    ],
)  # fmt: skip
async def test_access_that_cannot_be_bought_is_told(
    peer: FcmPeer, step: Refuse, answer: Answer
) -> None:
    peer.buying.append(step)
    async with sending(peer.environ()) as senders:
        assert await senders["fcm"].send(target("fcm"), push()) == answer

    assert peer.asked == 0


async def test_many_targets_of_another_sender_in_a_row_are_our_set_up(peer: FcmPeer) -> None:
    mismatch = Refuse(403, "PERMISSION_DENIED", "SENDER_ID_MISMATCH")
    async with sending(peer.environ(), surge_targets=3) as senders:
        peer.sending.extend([mismatch] * 4)
        kinds = [(await senders["fcm"].send(target("fcm"), push())).kind for _ in range(5)]
        peer.sending.append(mismatch)
        kinds.append((await senders["fcm"].send(target("fcm"), push())).kind)

    gone, wrong = Kind.TARGET_GONE, Kind.MISCONFIGURED
    assert kinds == [gone, gone, wrong, wrong, Kind.SENT, gone]


def without(peer: FcmPeer, field: str) -> str:
    account = peer.account()
    del account[field]
    return orjson.dumps(account).decode()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("not json", "is not JSON; .*must name the JSON file"),
        ("[]", "is no service account"),
        ("without client_email", "is no service account: .*client_email"),
        ("http elsewhere", "token_uri must begin with https://"),
        ("broken key", "private_key is no RSA key"),
    ],
)
async def test_a_useless_service_account_is_told_at_the_start(
    peer: FcmPeer, text: str, told: str
) -> None:
    account = peer.account()
    texts = {
        "without client_email": without(peer, "client_email"),
        "http elsewhere": orjson.dumps({**account, "token_uri": "http://a.example/"}).decode(),
        "broken key": orjson.dumps({**account, "private_key": "SECRET"}).decode(),
    }
    environ = {"PROCESSORS_PUSH_FCM_SERVICE_ACCOUNT": texts.get(text, text)}

    with pytest.raises(ConfigurationError, match=told) as caught:
        async with sending(environ):
            pass
    assert "SECRET" not in str(caught.value)
    assert "BEGIN" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_told() -> None:
    from processors.settings import from_env

    with pytest.raises(ConfigurationError, match="SERVICE_ACCOUNT_FILE: cannot read /nowhere"):
        from_env({"PROCESSORS_PUSH_FCM_SERVICE_ACCOUNT_FILE": "/nowhere"})


async def test_without_an_account_there_is_no_sender() -> None:
    async with sending({}) as senders:
        assert dict(senders) == {}

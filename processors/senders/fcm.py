"""
Firebase Cloud Messaging, HTTP v1.

FCM knows no id by which it would fold a message that is sent twice. So the device does: each
delivery has a tag of its own in the tray, or the one of its collapse key.
"""

from __future__ import annotations

from typing import Any, Final

import aiohttp
import orjson
from yarl import URL

from engine import Clock
from processors.rules import fcm
from processors.rules.answers import Answer, Kind
from processors.rules.fitting import clean, fitted
from processors.rules.surge import Surge
from processors.senders import apple
from processors.senders.base import Push, PushTarget
from processors.senders.exchange import NoReply, Reply, post
from processors.senders.google import AccessTokens, NoToken, ServiceAccount

MESSAGE_BYTES_MAX: Final = 4_096
TTL_S_MAX: Final = 2_419_200


class FcmSender:
    """
    Sends through one Firebase project.

    Args:
        session: For the requests.
        account: Whose project it is.
        tokens: Gives access.
        url: Where FCM is.
        timeout_ms: How long one request may take.
        surge: Tells targets of other projects from a project that is the wrong one.
        clock: The time.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        account: ServiceAccount,
        tokens: AccessTokens,
        *,
        url: str,
        timeout_ms: int,
        surge: Surge,
        clock: Clock,
    ) -> None:
        self._session = session
        self._project = account.project_id
        self._tokens = tokens
        self._url = URL(url) / "v1" / "projects" / account.project_id / "messages:send"
        self._timeout_ms = timeout_ms
        self._surge = surge
        self._clock = clock

    async def send(self, target: PushTarget, push: Push) -> Answer:
        """Ask FCM once, and once more with a fresh access token where ours was refused."""
        if target.app_id not in {"", self._project}:
            # One target names its project wrongly; where all do, ours is the wrong one.
            is_surge = self._surge.refused(self._project, target.id)
            return Answer(Kind.MISCONFIGURED if is_surge else Kind.REFUSED, "other-project")
        body = message(target, push, now_ms=self._clock.now_ms())
        if body is None:
            return Answer(Kind.REFUSED, "too-large")
        try:
            token = await self._tokens.token()
            reply = await self._post(body, token)
            if fcm.is_token_refused(reply.status, reply.body):
                reply = await self._post(body, await self._tokens.token(refused=token))
        except NoToken as error:
            return error.answer
        except NoReply as error:
            return error.answer
        return self._judged(target, reply)

    async def _post(self, body: bytes, token: str) -> Reply:
        headers = {
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/json; charset=utf-8",
        }
        return await post(self._session, self._url, body, headers, timeout_ms=self._timeout_ms)

    def _judged(self, target: PushTarget, reply: Reply) -> Answer:
        now_ms = self._clock.now_ms()
        answer = fcm.answer(reply.status, reply.headers, reply.body, now_ms=now_ms)
        if answer.kind is Kind.SENT:
            self._surge.accepted(self._project)
        elif fcm.is_sender_mismatch(answer) and self._surge.refused(self._project, target.id):
            return Answer(Kind.MISCONFIGURED, answer.code, scope="provider")
        return answer


def message(target: PushTarget, push: Push, *, now_ms: int) -> bytes | None:
    """
    Write a message, its body shortened until it fits; None where not even that is enough.

    All of it is held to FCM's 4,096 bytes, though FCM counts less.
    """
    address = "fid" if target.kind == "fid" else "token"

    def written(body: str) -> bytes:
        return orjson.dumps({"message": {address: target.token, **_content(push, body, now_ms)}})

    body = fitted(
        clean(push.body), weigh=lambda text: len(written(text)), weight_max=MESSAGE_BYTES_MAX
    )
    return None if body is None else written(body)


def _content(push: Push, body: str, now_ms: int) -> dict[str, Any]:
    ttl_s = max(0, min(push.ttl_s, TTL_S_MAX))
    is_urgent = push.urgent and not push.silent
    tag = clean(push.collapse_key) or str(push.delivery_id)
    android: dict[str, Any] = {"priority": "HIGH" if is_urgent else "NORMAL", "ttl": f"{ttl_s}s"}
    webpush: dict[str, Any] = {
        "headers": {"TTL": str(ttl_s), "Urgency": "high" if is_urgent else "normal"}
    }
    content: dict[str, Any] = {
        "data": apple.custom(push),
        "android": android,
        "apns": _apns(push, now_ms),
        "webpush": webpush,
    }
    if push.silent:
        if push.collapse_key:
            # FCM keeps four such keys for a device that is away; what is shown goes by its tag.
            android["collapse_key"] = tag
        if push.badge is not None:
            content["data"]["badge"] = str(push.badge)
        return content
    content["notification"] = {"title": clean(push.title), "body": body}
    android["notification"] = {"tag": tag}
    webpush["notification"] = {"tag": tag}
    if push.badge is not None:
        android["notification"]["notification_count"] = push.badge
    return content


def _apns(push: Push, now_ms: int) -> dict[str, Any]:
    """Write what FCM hands on to Apple."""
    aps = apple.signs(push) if push.silent else apple.signs(push) | {"sound": "default"}
    return {"headers": dict(apple.headers(push, now_ms=now_ms)), "payload": {"aps": aps}}

"""
What the server's errors mean to the engine: one table, from its words to the error tree.

The kinds name ``engine_redis_errors_total{kind}``, so they come from this file alone.
"""

from __future__ import annotations

import re

import redis.exceptions

from engine.errors import GroupMissing, StoreError, StoreRefused, StoreUnavailable

UNAVAILABLE = {
    "LOADING": "loading",
    "MASTERDOWN": "masterdown",
    "CLUSTERDOWN": "clusterdown",
    "TRYAGAIN": "tryagain",
    "MOVED": "moved",
    "ASK": "moved",
    "BUSY": "busy",
    "UNBLOCKED": "unblocked",
    "NOSCRIPT": "noscript",
}
"""Error codes of a server that will serve again by itself."""

REFUSED = {
    "OOM": "oom",
    "READONLY": "readonly",
    "MISCONF": "misconf",
    "NOREPLICAS": "noreplicas",
    "NOAUTH": "noauth",
    "WRONGPASS": "noauth",
    "NOPERM": "noperm",
    "WRONGTYPE": "wrongtype",
    "CROSSSLOT": "crossslot",
}
"""Error codes of a server that needs somebody's attention."""

KINDS = (
    "connection",
    "timeout",
    "nogroup",
    "other",
    *dict.fromkeys([*UNAVAILABLE.values(), *REFUSED.values()]),
)

# Redis 6.2 wraps what a script ran into: "ERR Error running script (…): @user_script: 7: -OOM …".
_WRAPPED = re.compile(r"@user_script: ?\d+: -?([A-Z]{3,}) ")


def fault(error: BaseException) -> StoreError:
    """Translate an error of the client library, or an error reply, into the error tree."""
    message = str(error)
    if isinstance(error, redis.exceptions.AuthenticationError):
        return StoreRefused("noauth", message)
    if isinstance(error, redis.exceptions.BusyLoadingError):
        return StoreUnavailable("loading", message)
    if isinstance(error, redis.exceptions.TimeoutError | TimeoutError):
        return StoreUnavailable("timeout", message or "the server did not answer in time")
    if isinstance(error, redis.exceptions.ConnectionError | OSError):
        return StoreUnavailable("connection", message or type(error).__name__)
    return reply_fault(message, error)


def reply_fault(message: str, error: BaseException | None = None) -> StoreError:
    """Translate the text of an error reply."""
    code = _code(message, error)
    if code == "NOGROUP" or "no such key" in message.lower():
        return GroupMissing(message)
    if code in UNAVAILABLE:
        return StoreUnavailable(UNAVAILABLE[code], message)
    return StoreRefused(REFUSED.get(code, "other"), message)


def _code(message: str, error: BaseException | None) -> str:
    wrapped = _WRAPPED.search(message)
    if wrapped:
        return wrapped.group(1)
    # redis-py takes the code off the messages that it has classes for.
    for kind, code in (
        (redis.exceptions.NoScriptError, "NOSCRIPT"),
        (redis.exceptions.OutOfMemoryError, "OOM"),
        (redis.exceptions.ReadOnlyError, "READONLY"),
        (redis.exceptions.NoPermissionError, "NOPERM"),
        (redis.exceptions.MovedError, "MOVED"),
        (redis.exceptions.AskError, "ASK"),
        (redis.exceptions.TryAgainError, "TRYAGAIN"),
        (redis.exceptions.ClusterDownError, "CLUSTERDOWN"),
    ):
        if isinstance(error, kind):
            return code
    return message.split(" ", 1)[0]

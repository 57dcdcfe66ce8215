"""What a server's scripts really touch, read from MONITOR."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

_ARGUMENT = re.compile(r'"((?:[^"\\]|\\.)*)"')
_LINE = re.compile(r"^[0-9.]+ \[\d+ ([^\]]+)\] ")
_END = "end of the recording"


class Recording:
    """
    Scripts that ran while it was recorded.

    Attributes:
        ran: Hashes of the scripts that ran.
        undeclared: (hash, command, key) of each access to a key that its script did not declare.
    """

    def __init__(self) -> None:
        self.ran: set[str] = set()
        self.undeclared: set[tuple[str, str, str]] = set()


@contextmanager
def recorded(url: str) -> Iterator[Recording]:
    """Record every script that the server runs meanwhile."""
    recording = Recording()
    with _client(url) as asking, _client(url) as watching:
        connection: Any = watching.connection_pool.get_connection()
        connection.send_command("MONITOR")
        connection.read_response()
        try:
            yield recording
            asking.echo(_END)
            _read(connection, asking, recording)
        finally:
            connection.disconnect()


def _client(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, protocol=2, retry=Retry(NoBackoff(), 0), socket_timeout=10)


def _read(connection: Any, asking: Any, recording: Recording) -> None:
    script, declared = "", set[str]()
    while True:
        line = connection.read_response(disable_decoding=True).decode("utf-8", "replace")
        if _END in line:
            return
        source = _LINE.match(line)
        arguments = _ARGUMENT.findall(line[source.end() :]) if source else []
        if not source or not arguments:
            continue
        if arguments[0].upper() in {"EVAL", "EVALSHA"}:
            script, declared = arguments[1], set(arguments[3 : 3 + int(arguments[2])])
            recording.ran.add(script)
        elif source.group(1) == "lua":
            for key in _keys(asking, arguments):
                if key not in declared:
                    recording.undeclared.add((script, arguments[0], key))


def _keys(asking: Any, arguments: list[str]) -> list[str]:
    try:
        found = asking.execute_command("COMMAND GETKEYS", *arguments)
    except redis.ResponseError:
        # A command without keys, such as TIME.
        return []
    return [key.decode() if isinstance(key, bytes) else key for key in found]

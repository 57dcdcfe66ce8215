"""Writes what engines write, in the fixed formats, for operators' tools to look at."""

from __future__ import annotations

import os
from array import array
from collections.abc import Sequence
from typing import Any

import msgspec
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from engine.wire.codec import DEAD, META, encode_meta
from engine.wire.done import encode_done
from engine.wire.keys import ENGINES, GROUP, RELEASED, QueueKeys
from engine.wire.packing import pack
from schemas.job import DeadRecord, ErrorRecord, Meta
from schemas.stats import Beat, QueueLoad

QUEUE = "message-delivery"
TYPE = "send-message"


def job_fields(data: bytes = b'{"n":1}', **fields: bytes | str) -> list[bytes]:
    """Build a producer's entry."""
    flat = [b"type", TYPE.encode(), b"data", data]
    for name, value in fields.items():
        flat += [name.encode(), value.encode() if isinstance(value, str) else value]
    return flat


class QueueWriter:
    """
    One queue on a real server.

    Args:
        url: The server.
        queue: The queue.
    """

    def __init__(self, url: str, queue: str = QUEUE) -> None:
        self.redis: Any = redis.Redis.from_url(url, protocol=2, retry=Retry(NoBackoff(), 0))
        # Raw replies: pairs of names and values in their order, repeated ones included.
        self.redis.response_callbacks.clear()
        self.keys = QueueKeys(queue)
        self.queue = queue

    def call(self, *command: Any) -> Any:
        """Run one command and return its raw reply."""
        return self.redis.execute_command(*command)

    def now_ms(self) -> int:
        """Return the server's clock."""
        seconds, micros = self.call("TIME")
        return int(seconds) * 1000 + int(micros) // 1000

    def open(self) -> None:
        """Create the lanes' groups."""
        for key in self.keys.lanes.values():
            self.call("XGROUP", "CREATE", key, GROUP, "0", "MKSTREAM")

    def enqueue(
        self, fields: Sequence[bytes] | None = None, *, lane: str = "normal", entry: str = "*"
    ) -> str:
        """Add a job to a lane; returns the entry id."""
        added: bytes = self.call("XADD", self.keys.lane(lane), entry, *(fields or job_fields()))
        return added.decode()

    def deliver(self, count: int = 1, *, lane: str = "normal", consumer: str = "e1-ab") -> None:
        """Hand waiting jobs to an engine."""
        key = self.keys.lane(lane)
        self.call("XREADGROUP", "GROUP", GROUP, consumer, "COUNT", count, "STREAMS", key, ">")

    def hand_back(self, entry: str, *, lane: str = "normal") -> None:
        """Give a delivered job back, as a stopping engine does."""
        self.call("XCLAIM", self.keys.lane(lane), GROUP, RELEASED, 0, entry, "JUSTID")

    def delay(
        self, due_ms: int, meta: Meta, fields: Sequence[bytes] | None = None, lane: str = "normal"
    ) -> None:
        """Put a job into the delayed set."""
        own = [*(fields or job_fields()), META, encode_meta(meta)]
        self.call("ZADD", self.keys.delayed, due_ms, pack([lane.encode(), *own]))

    def hold(self, job_type: str, reason: str = "no key", *, since_ms: int = 1) -> None:
        """Hold a type."""
        hold = msgspec.json.encode({"reason": reason, "since_ms": since_ms, "by": "e1"})
        self.call("HSET", self.keys.control, f"hold:{job_type}", hold)

    def set_aside(self, job_type: str, meta: Meta, lane: str = "normal") -> None:
        """Put a job into a held type's stream."""
        own = [*job_fields(), META, encode_meta(meta)]
        self.call("XADD", self.keys.held(job_type), "*", "job", pack([lane.encode(), *own]))

    def finish(self, ids: Sequence[str], result: bytes = b"") -> None:
        """Write one entry of the done stream."""
        fields = encode_done(
            TYPE,
            "normal",
            "e1",
            [job_id.encode() for job_id in ids],
            array("I", [1500] * len(ids)),
            [result] * len(ids) if result else None,
        )
        self.call("XADD", self.keys.done, "*", *fields)
        self.call("HINCRBY", self.keys.stats, "done_kept", len(ids))
        self.call("HINCRBY", self.keys.stats, f"done:{TYPE}", len(ids))

    def bury(
        self,
        job_id: str,
        fields: Sequence[bytes] | None = None,
        *,
        entry: str = "*",
        **record: Any,
    ) -> str:
        """Write one dead letter, counted in its group; returns its entry id."""
        now_ms = self.now_ms()
        known = {
            "id": job_id,
            "type": TYPE,
            "lane": "normal",
            "entry": "1-1",
            "reason": "exhausted",
            "error": ErrorRecord(kind="ValueError", message="no such user 17"),
            "attempts": 5,
            "enqueued_ms": now_ms - 1000,
            "died_ms": now_ms,
            "fingerprint": "aaaaaaaaaaaa",
        }
        told = DeadRecord(**{**known, **record})
        own = job_fields() if fields is None else fields
        added: bytes = self.call(
            "XADD", self.keys.dead, entry, DEAD, msgspec.json.encode(told), *own
        )
        self._count(told)
        return added.decode()

    def bury_many(self, count: int, fields: Sequence[bytes], fingerprint: str = "b" * 12) -> None:
        """Write many dead letters of one group in few round trips."""
        now_ms = self.now_ms()
        for begin in range(0, count, 1000):
            pipe = self.redis.pipeline(transaction=False)
            for number in range(begin, min(begin + 1000, count)):
                told = DeadRecord(
                    id=f"j{number}",
                    type=TYPE,
                    lane="low",
                    entry="1-1",
                    reason="exhausted",
                    error=ErrorRecord(kind="KeyError"),
                    enqueued_ms=now_ms,
                    died_ms=now_ms,
                    fingerprint=fingerprint,
                )
                pipe.execute_command(
                    "XADD", self.keys.dead, "*", DEAD, msgspec.json.encode(told), *fields
                )
            pipe.execute()
        self.call("HSET", self.keys.dead_groups, f"{fingerprint}:n", count)

    def _count(self, told: DeadRecord) -> None:
        sample = {
            "id": told.id,
            "type": told.type,
            "reason": told.reason,
            "kind": told.error.kind,
            "message": told.error.message,
        }
        key, name = self.keys.dead_groups, told.fingerprint
        self.call("HINCRBY", key, f"{name}:n", 1)
        self.call("HSETNX", key, f"{name}:first", told.died_ms)
        self.call("HSETNX", key, f"{name}:sample", msgspec.json.encode(sample))
        self.call("HSET", key, f"{name}:last", told.died_ms)

    def beat(
        self,
        name: str = "e1",
        *,
        silent_ms: int = 0,
        types: Sequence[str] = (TYPE,),
        **changed: Any,
    ) -> None:
        """Show an engine that serves the queue."""
        now_ms = self.now_ms()
        load = QueueLoad(running=0, buffered=0, concurrency=10, types=list(types))
        known = {
            "name": name,
            "host": "here",
            "pid": os.getpid(),
            "version": "0",
            "state": "running",
            "http": "",
            "started_ms": now_ms,
            "beat_ms": now_ms - silent_ms,
            "loop_lag_ms": 1.0,
            "rss_bytes": 1,
            "queues": {self.queue: load},
        }
        self.call("HSET", ENGINES, name, msgspec.json.encode(Beat(**{**known, **changed})))

    def lane(self, lane: str = "normal") -> list[tuple[str, list[bytes]]]:
        """Read a lane."""
        return [
            (entry.decode(), fields)
            for entry, fields in self.call("XRANGE", self.keys.lane(lane), "-", "+")
        ]

    def dead(self) -> list[tuple[str, list[bytes]]]:
        """Read the dead stream."""
        entries = self.call("XRANGE", self.keys.dead, "-", "+")
        return [(entry.decode(), fields) for entry, fields in entries]

    def groups(self) -> dict[str, str]:
        """Read the groups' hash."""
        flat = self.call("HGETALL", self.keys.dead_groups)
        return {
            name.decode(): value.decode() for name, value in zip(flat[::2], flat[1::2], strict=True)
        }

    def close(self) -> None:
        """Close the connection."""
        self.redis.close()

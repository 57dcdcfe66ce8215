"""Minutes and quarters as engines would have written them over a week, for charts to show."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping

import msgspec
import redis

from engine.core.numbers import counts_text, levels_text
from engine.wire.keys import QueueKeys
from schemas.numbers import HOUR_MS, MINUTE_MS, QUARTER_MS, Levels, Numbers

DAY_MS = 24 * HOUR_MS
WAITS = [0, 60, 220, 300, 180, 90, 40, 15, 6, 2, 1]
RUNS = [5, 400, 900, 300, 60, 12, 4, 1]


class History:
    """
    The past of one queue, always the same for the same queue.

    Args:
        client: The server.
        queue: The queue.
        job_type: The only type of its jobs.
        rate: Jobs per second on average.
    """

    def __init__(self, client: redis.Redis, queue: str, job_type: str, *, rate: float) -> None:
        self._client = client
        self._keys = QueueKeys(queue)
        self._type = job_type
        self._rate = rate
        self._chance = random.Random(queue)

    def write(self, now_ms: int) -> None:
        """Write an hour by the minute and a week by the quarter, with a gap in each."""
        minute = now_ms // MINUTE_MS
        for at in range(minute - 62, minute):
            if not minute - 41 <= at < minute - 37:
                self._write_minute(at)
        quarter = now_ms // QUARTER_MS
        for at in range(quarter - 7 * 96, quarter - 1):
            if not quarter - 200 <= at < quarter - 180:
                raw = msgspec.json.encode(self._numbers(at * QUARTER_MS, QUARTER_MS))
                self._put(self._keys.quarters(at * QUARTER_MS), {str(at): raw})

    def _write_minute(self, minute: int) -> None:
        numbers = self._numbers(minute * MINUTE_MS, MINUTE_MS)
        assert numbers.last is not None
        fields = {f"{name}:{self._type}": types[self._type] for name, types in numbers.ends.items()}
        told = {name: str(count).encode() for name, count in fields.items()}
        told[f"run:{self._type}"] = counts_text(numbers.run[self._type]).encode()
        told["wait:normal"] = counts_text(numbers.wait["normal"]).encode()
        told["levels"] = levels_text(numbers.last).encode()
        self._put(
            self._keys.minutes(minute * MINUTE_MS),
            {f"{minute}:{name}": value for name, value in told.items()},
        )

    def _numbers(self, at_ms: int, step_ms: int) -> Numbers:
        """Work follows the day; now and then a backlog grows, and jobs fail."""
        chance = self._chance
        of_day = 0.55 + 0.45 * math.sin(2 * math.pi * (at_ms % DAY_MS) / DAY_MS - 1.9)
        trouble = max(0.0, math.sin(2 * math.pi * at_ms / (DAY_MS / 3)) - 0.86) * 6
        trouble += max(0.0, math.sin(2 * math.pi * at_ms / (50 * MINUTE_MS)) - 0.7) * 1.5
        done = self._rate * of_day * step_ms / 1e3 * chance.uniform(0.9, 1.1)
        retried = done * (0.002 + 0.02 * trouble) * chance.random()
        dead = done * 0.004 * trouble * chance.random()
        slow = int(2 * trouble)
        levels = Levels(
            waiting=int(self._rate * (2 + 60 * trouble) * chance.uniform(0.8, 1.2)),
            active=int(min(64, self._rate / 3 + 4) * chance.uniform(0.7, 1)),
            delayed=int(40 * of_day + retried),
            dead=3,
            oldest_ms=int(400 + 40_000 * trouble * chance.uniform(0.8, 1.2)),
        )
        ends = {"done": int(done), "retried": int(retried), "dead": int(dead)}
        return Numbers(
            ends={outcome: {self._type: count} for outcome, count in ends.items() if count},
            run={self._type: [int(done * part / 1_682) for part in RUNS]},
            wait={"normal": [0] * slow + [int(done * part / 914) for part in WAITS]},
            last=levels,
            most=levels,
        )

    def _put(self, key: str, fields: Mapping[str, bytes]) -> None:
        self._client.hset(key, items=[part for pair in fields.items() for part in pair])

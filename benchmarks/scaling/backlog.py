"""Does a job cost more where many wait behind it?"""

from __future__ import annotations

import threading
import time
from typing import Any

from benchmarks.scaling.rig import (
    LANE,
    Raw,
    Watched,
    engine,
    fill,
    job,
    over,
    rates,
    same,
    server,
)

TOP_UP_S = 0.01
WARM_S = 1.0
WARM_JOBS = 20_000
JOBS_PER_S_MAX = 120_000
"""More than an engine takes, so that what is drained lasts."""


class TopUp(threading.Thread):
    """
    Adds as many jobs as are taken, so that a backlog keeps its length.

    Args:
        url: The server.
        watched: Asked for the length.
        length: The length to keep.
    """

    def __init__(self, url: str, watched: Watched, length: int) -> None:
        super().__init__(daemon=True)
        self._url, self._watched, self._length = url, watched, length
        self.over = threading.Event()

    def run(self) -> None:
        raw, one = Raw(self._url), job()
        while not self.over.wait(TOP_UP_S):
            missing = self._length - int(self._watched.client.xlen(LANE))
            if missing > 0:
                raw.send(one * missing)
                raw.replies(missing)
        raw.close()


def measure(lengths: list[int], secs: float) -> list[dict[str, Any]]:
    """
    Measure jobs/s at each length of the backlog, drained and kept.

    Drained, the engine has the server for itself, and the backlog is at least as long as the
    measurement takes. Kept, a producer adds what is taken, on the cores of both.
    """
    found: list[dict[str, Any]] = []
    for length in lengths:
        with server() as backend:
            enough = max(length, round(JOBS_PER_S_MAX * (secs + WARM_S)))
            began = time.monotonic()
            fill(backend.url, same(job(), enough))
            filled_s = time.monotonic() - began
            with engine(backend.url) as running:
                watched = Watched(backend, running)
                memory: Any = watched.client.info("memory")
                watched.until_done(WARM_JOBS)
                drained = over(watched, secs)
                watched.until_done(enough - length, limit_s=300)
                top_up = TopUp(backend.url, Watched(backend, running), length)
                top_up.start()
                time.sleep(WARM_S)
                kept = over(watched, secs)
                top_up.over.set()
                top_up.join()
        common = {"server GB": round(memory["used_memory"] / 1e9, 2), "filled s": round(filled_s)}
        found.append({"backlog": f"{enough:,} drained", **rates(*drained), **common})
        found.append({"backlog": f"{length:,} kept", **rates(*kept), **common})
    for at, row in enumerate(found):
        row["ratio"] = round(row["jobs/s"] / found[at % 2]["jobs/s"], 2)
    return found

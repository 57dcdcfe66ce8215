"""Plain functions for process and thread pools, in a module that a spawned process can import."""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import Any

FREED = threading.Event()


class Unpicklable(Exception):
    """Cannot cross to another process."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def crunch(payload: dict[str, Any]) -> Any:
    """Do what the payload says."""
    match payload.get("do"):
        case "sum":
            return sum(range(payload["n"]))
        case "pid":
            return os.getpid()
        case "sleep":
            time.sleep(payload["s"])
            return "slept"
        case "spin":
            while True:
                pass
        case "raise":
            raise ValueError("from the pool")
        case "own-timeout":
            raise TimeoutError("its own")
        case "unpicklable":
            raise Unpicklable(1, 2)
        case "exit":
            sys.exit(3)
        case "die":
            os._exit(9)
        case "stop-iteration":
            raise StopIteration
        case "lambda":
            return lambda: None
    return None


def block(payload: dict[str, Any]) -> Any:
    """Block a thread until it is freed."""
    if payload.get("do") == "block":
        FREED.wait(30)
        return "freed"
    return crunch(payload)

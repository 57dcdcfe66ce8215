"""Waiting for conditions, in place of sleeping for a while and hoping."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")
PAUSE_S = 0.04


async def eventually(condition: Callable[[], Value], what: str, *, limit_s: float = 60.0) -> Value:
    """
    Return what the condition gives once it is true; it runs in a thread, so it may block.

    An assertion that fails inside the condition counts as not yet true, and is shown at the end.
    """
    deadline = time.monotonic() + limit_s
    while True:
        last: object = None
        try:
            value = await asyncio.to_thread(condition)
            if value:
                return value
            last = value
        except AssertionError as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {limit_s:g} s: {what} (last: {last})")
        await asyncio.sleep(PAUSE_S)

"""What a producer wants done where a queue has no room, and how it is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import msgspec

from engine.errors import JobRefused, SettingsError
from schemas.rules import LANES

Choice = Literal["wait", "fail", "shed"]
WhenFull = Choice | Mapping[str, Choice]
"""For all lanes alike, or by lane; a lane that is left out waits."""

CHOICES = get_args(Choice)


class Shed(msgspec.Struct, frozen=True):
    """
    A job that was dropped on purpose, since its queue is full and the producer asked for that.

    Attributes:
        id: The producer's own id; empty without one.
        queue: Its queue.
        lane: Its lane.
        why: How full the queue is, and from where on the lane is shed.
    """

    id: str
    queue: str
    lane: str
    why: str


def choices(when_full: WhenFull) -> dict[str, Choice]:
    """
    Spread a wish over the lanes.

    Raises:
        SettingsError: It names no lane, or nothing that can be done.
    """
    given: Mapping[str, Choice]
    given = dict.fromkeys(LANES, when_full) if isinstance(when_full, str) else when_full
    for lane, choice in given.items():
        if lane not in LANES:
            raise SettingsError(f"when_full: {lane!r} is none of the lanes {', '.join(LANES)}")
        if choice not in CHOICES:
            raise SettingsError(f"when_full: {choice!r} is none of {', '.join(CHOICES)}")
    return {lane: given.get(lane, "wait") for lane in LANES}


def checked(choice: str) -> str:
    """
    Return one job's wish.

    Raises:
        JobRefused: It is nothing that can be done.
    """
    if choice not in CHOICES:
        raise JobRefused("when-full", detail=f"{choice!r} is none of {', '.join(CHOICES)}")
    return choice

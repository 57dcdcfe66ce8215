"""
What the engine itself writes about flows: a child's way back to its parent, and what a parent is
told of its children. JSON, so that a person with ``redis-cli`` can read it.
"""

from __future__ import annotations

from typing import Literal

import msgspec

OnFailure = Literal["fail", "ignore", "continue"]
Closed = Literal["complete", "failed", "continued", "cancelled"]

PENDING, SENT, DONE, FAILED, IGNORED, CANCELLED = "psdfic"
"""What a flow knows of a child, one letter each: to be sent, sent, and how it ended."""


class ParentRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """
    The engine's field ``_parent`` of a child: where its end is to be told.

    Attributes:
        queue: The parent's queue.
        flow: The flow: the parent's id, a slash, initial of its lane and its entry id.
        number: The child's place among its siblings, from 0.
        on_failure: What becomes of the parent if the child ends dead.
        results: Whether the parent wants the child's result.
    """

    queue: str
    flow: str
    number: int
    on_failure: OnFailure = "fail"
    results: bool = False


class ChildEnd(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """
    A child's message to its parent, from its settlement.

    Attributes:
        parent: Where to.
        id: The child's job id.
        type: Its type.
        reason: Why it is dead; empty for done.
        error: The last error's text, for dead ones.
        result: JSON of what its handler returned, ``null`` where nobody asked.
    """

    parent: ParentRecord
    id: str
    type: str
    reason: str = ""
    error: str = ""
    result: msgspec.Raw = msgspec.Raw(b"null")


class ChildFailure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """
    One child that ended dead.

    Attributes:
        number: Its place among its siblings, from 0.
        id: Its job id.
        type: Its type.
        queue: Its queue.
        reason: Why it is dead.
        error: The last error's text.
    """

    number: int
    id: str
    type: str
    queue: str
    reason: str
    error: str = ""


class ChildrenRecord(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """
    The engine's field ``_children`` of a parent that waits for its children no more.

    Attributes:
        how: Why it does not: all have ended, one failed it, one asked it to go on, cancelled.
        states: What was known of each child, one letter each.
        redrives: The parent's redrives when this was written: an operator's redrive of a failed
            flow makes it wait for what is not done again.
        failures: Children that ended dead, the first twenty.
        results: The children's results in their order, where asked for.
    """

    how: Closed
    states: str
    redrives: int = 0
    failures: tuple[ChildFailure, ...] = ()
    results: tuple[msgspec.Raw, ...] | None = None

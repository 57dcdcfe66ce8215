"""What a user wants to hear of, and over which channel."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Literal, NamedTuple

ANY: Final = "*"
MESSAGE: Final = "message"
"""The type of notifications of messages."""

DIGEST: Final = "digest"
"""The type of what was gathered; preferences for it are those of messages."""

Scope = Literal["conversation", "user"]


class Preference(NamedTuple):
    """
    One line of what somebody wants.

    Attributes:
        scope: Of one conversation, or of all that the user gets.
        type: A type, a family such as ``billing.*``, or ``*``.
        channel: A channel or ``*``.
        enabled: Whether it is wanted.
        digest: Gathered for a while and sent together.
    """

    scope: Scope
    type: str
    channel: str
    enabled: bool
    digest: bool


class Choice(NamedTuple):
    """
    What the preferences come to for one type and channel.

    Attributes:
        enabled: Whether it is wanted.
        digest: Gathered for a while and sent together.
    """

    enabled: bool
    digest: bool = False


def choose(
    own: Iterable[Preference], defaults: Iterable[Preference], *, type_: str, channel: str
) -> Choice:
    """
    Find the preference that counts: the most specific one of those who have one.

    A conversation's comes before the user's, and theirs before the tenant's. Within one of them
    the type counts first: one for a type and any channel comes before one for a channel and any
    type.

    Args:
        own: The user's preferences, those for the conversation among them.
        defaults: The tenant's.
        type_: The type of the notification.
        channel: The channel asked about.
    """
    sought = MESSAGE if type_ == DIGEST else type_
    for some in (list(own), list(defaults)):
        fitting = [each for each in some if _fits(each, sought, channel)]
        if fitting:
            best = max(fitting, key=_rank)
            return Choice(best.enabled, best.enabled and best.digest and channel != "in_app")
    return built_in(sought, channel)


def built_in(type_: str, channel: str) -> Choice:
    """
    What holds where nobody has said anything.

    Messages are pushed, and gathered for email; SMS costs money, so somebody has to ask for it.
    """
    return Choice(enabled=channel != "sms", digest=type_ == MESSAGE and channel == "email")


def is_of(type_: str, patterns: Sequence[str]) -> bool:
    """Say whether a type is one of these, or of a family such as ``security.*``."""
    return any(_covers(pattern, type_) for pattern in patterns)


def _fits(each: Preference, type_: str, channel: str) -> bool:
    return _covers(each.type, type_) and each.channel in (channel, ANY)


def _covers(pattern: str, type_: str) -> bool:
    if pattern.endswith(".*"):
        return type_.startswith(pattern[:-1])
    return pattern in (type_, ANY)


def _rank(each: Preference) -> tuple[bool, int, bool]:
    # An exact type is longer than any family that it belongs to, less the star.
    breadth = 0 if each.type == ANY else len(each.type.removesuffix("*"))
    return each.scope == "conversation", breadth, each.channel != ANY

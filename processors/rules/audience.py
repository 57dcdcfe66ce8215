"""Who is told of what, and over which ways, before each way is decided on for good."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple
from uuid import UUID

from processors.rules.preferences import MESSAGE, Choice, Preference, choose, is_of

OUTWARD: Final = ("push", "email", "sms")
LARGE: Final = 1_000
"""Members from which on a room counts as large."""


class Person(NamedTuple):
    """
    Somebody who may be told.

    Attributes:
        user_id: Who.
        targets: Their devices.
        has_email: An email address is known.
        has_phone: A number is known.
        preferences: What they want, that of the conversation included.
        hears_all: Of the conversation, and not only what mentions them.
        after_seq: They see messages above this one, and have read those up to it.
    """

    user_id: UUID
    targets: Sequence[UUID]
    has_email: bool
    has_phone: bool
    preferences: Sequence[Preference]
    hears_all: bool = True
    after_seq: int = 0


class News(NamedTuple):
    """
    Something to tell.

    Attributes:
        dedup_key: What a user hears of once.
        message_id: The message, if it is one.
        seq: Its place.
        sender_id: Who needs not be told.
        mentions: Whom it names.
    """

    dedup_key: str
    message_id: UUID | None = None
    seq: int | None = None
    sender_id: UUID | None = None
    mentions: frozenset[UUID] = frozenset()


class Way(NamedTuple):
    """
    One delivery.

    Attributes:
        user_id: To whom.
        dedup_key: Of what.
        channel: Over which channel.
        target_id: To which device, or the user's own id.
        delay_ms: Not before that.
    """

    user_id: UUID
    dedup_key: str
    channel: str
    target_id: UUID
    delay_ms: int


@dataclass(slots=True)
class Plan:
    """
    What is written for some people at once.

    Attributes:
        told: Person, news and whether the app lists it.
        ways: Deliveries.
        gathered: User, dedup key and channel of what goes into digests.
    """

    told: list[tuple[UUID, News, bool]] = field(default_factory=list)
    ways: list[Way] = field(default_factory=list)
    gathered: list[tuple[UUID, str, str]] = field(default_factory=list)


class Planner:
    """
    Plans notifications of one type.

    Args:
        type_: The type.
        defaults: The tenant's preferences.
        mandatory_types: Types that a user's preferences do not count for.
        channels: Over these at most.
        delay_ms: Draws how long a push waits.
    """

    def __init__(
        self,
        type_: str,
        defaults: Sequence[Preference],
        *,
        mandatory_types: Sequence[str],
        channels: Iterable[str] | None,
        delay_ms: Callable[[], int],
    ) -> None:
        self._type = type_
        self._defaults = defaults
        self._is_mandatory = is_of(type_, mandatory_types)
        self._channels = None if channels is None else frozenset(channels)
        self._delay_ms = delay_ms

    def plan(self, people: Iterable[Person], news: Sequence[News]) -> Plan:
        """Plan who is told what; in the order of people, then news."""
        plan = Plan()
        for person in people:
            due = [each for each in news if _concerns(each, person)]
            if due:
                self._plan_for(person, due, plan)
        return plan

    def _plan_for(self, person: Person, news: Sequence[News], plan: Plan) -> None:
        choices = self._choices(person)
        listed = choices["in_app"].enabled
        ways = [(name, target) for name in OUTWARD for target in _targets(person, name)
                if choices[name].enabled]  # fmt: skip
        direct = [way for way in ways if not self._gathers(choices[way[0]])]
        digests = {name for name, _ in ways} - {name for name, _ in direct}
        if not (listed or ways):
            return
        for each in news:
            plan.told.append((person.user_id, each, listed))
            for channel, target in direct:
                delay = self._delay_ms() if channel == "push" and self._type == MESSAGE else 0
                plan.ways.append(Way(person.user_id, each.dedup_key, channel, target, delay))
            for channel in sorted(digests):
                plan.gathered.append((person.user_id, each.dedup_key, channel))

    def _choices(self, person: Person) -> Mapping[str, Choice]:
        own = () if self._is_mandatory else person.preferences
        found = {}
        for channel in ("in_app", *OUTWARD):
            choice = choose(own, self._defaults, type_=self._type, channel=channel)
            if self._channels is not None and channel not in self._channels:
                choice = Choice(enabled=False)
            elif self._is_mandatory and self._channels is not None:
                # Who sends it says where it has to arrive.
                choice = Choice(enabled=True)
            found[channel] = choice
        return found

    def _gathers(self, choice: Choice) -> bool:
        return choice.digest and self._type == MESSAGE and not self._is_mandatory


def push_delay_ms(members: int, *, base_ms: int, spread_ms: int, draw: float) -> int:
    """Choose how long a push waits: a while, and longer where many leave at once."""
    return base_ms + round(spread_ms * draw * (10 if members > LARGE else 1))


def _concerns(news: News, person: Person) -> bool:
    if news.sender_id == person.user_id:
        return False
    if news.seq is not None and news.seq <= person.after_seq:
        return False
    return person.hears_all or person.user_id in news.mentions


def _targets(person: Person, channel: str) -> Sequence[UUID]:
    if channel == "push":
        return person.targets
    return (
        (person.user_id,) if {"email": person.has_email, "sms": person.has_phone}[channel] else ()
    )

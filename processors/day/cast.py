"""Who plays: people with addresses that work and some that do not, and their conversations."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID, uuid4

import orjson

from processors.database.pool import Database
from processors.database.statements import demo as statements
from processors.services.conversations import ConversationService

NAMES: Final = (
    *("ada", "bob", "cleo", "dan", "eve", "finn", "gita", "hugo", "iris", "jonas", "kim", "lea"),
)
TEAM, SECRET, CROWD = "team", "board (encrypted)", "crowd"


@dataclass(frozen=True)
class Person:
    """
    One who chats.

    Attributes:
        id: The user.
        name: As others see them.
        email: Addresses that begin with ``bounce`` are refused by the demo's mail server.
        phone: Numbers that end in 0009 have opted out at the demo's SMS provider.
    """

    id: UUID
    name: str
    email: str
    phone: str


@dataclass
class Cast:
    """
    The scene.

    Attributes:
        people: Those who chat.
        crowd: Recipients of the batch.
        places: Conversations by title.
        run: Tells this run's addresses from those of others.
    """

    people: list[Person]
    crowd: list[UUID]
    places: dict[str, UUID] = field(default_factory=dict)
    run: str = ""

    @property
    def everyone(self) -> list[UUID]:
        """All users of the run."""
        return [person.id for person in self.people] + self.crowd


@dataclass(frozen=True)
class Browser:
    """
    A web push subscription that the demo's push service can decrypt for.

    Attributes:
        endpoint: Where to push.
        p256dh: Its public key.
        auth: Its secret.
    """

    endpoint: str
    p256dh: str
    auth: str


async def raise_curtain(
    database: Database,
    conversations: ConversationService,
    *,
    crowd: int,
    topic: str,
    browser: Browser | None,
) -> Cast:
    """
    Put people, devices and conversations in place, new ones for every run.

    Args:
        database: Where.
        conversations: Makes conversations with their events.
        crowd: Recipients of the batch.
        topic: The app that devices belong to at APNs.
        browser: What Ada's browser is reached by; None where web push is off.
    """
    run = secrets.token_hex(3)
    people = [_person(number, name, run) for number, name in enumerate(NAMES)]
    cast = Cast(people, [uuid4() for _ in range(crowd)], run=run)
    await database.execute(
        statements.PEOPLE,
        cast.everyone,
        [person.name for person in people] + [f"reader {n}" for n in range(crowd)],
        [person.email for person in people] + [None] * crowd,
        [person.phone for person in people] + [None] * crowd,
        ["de" if n % 4 == 3 else "en" for n in range(len(cast.everyone))],
    )
    for title, members in ((TEAM, people), (SECRET, people[:4])):
        place = uuid4()
        cast.places[title] = place
        await database.execute(
            statements.CONVERSATION, place, f"{title} {run}", title == SECRET, None
        )
        for person in members:
            await conversations.add_member(place, person.id)
    await _devices(database, people, topic=topic, browser=browser, run=run)
    return cast


def _person(number: int, name: str, run: str) -> Person:
    mailbox = {"dan": f"bounce.{run}", "eve": f"busy.{run}"}.get(name, f"{name}.{run}")
    digits = int(run, 16) % 100
    last = 9 if name == "finn" else 1_000 + number
    return Person(uuid4(), name, f"{mailbox}@example.org", f"+4915123{digits:02}{last:04}")


async def _devices(
    database: Database, people: Sequence[Person], *, topic: str, browser: Browser | None, run: str
) -> None:
    rows: list[tuple[UUID, str, str, str, str, str]] = []
    for number, person in enumerate(people):
        gone = "gone" if person.name in {"gita", "hugo"} else ""
        if number % 2 == 0:
            rows.append((person.id, "apns", "token", f"{gone}{secrets.token_hex(32)}", "{}", topic))
        else:
            rows.append(
                (person.id, "fcm", "token", f"{gone}{run}-{secrets.token_hex(60)}", "{}", "")
            )
    if browser is not None:
        keys = orjson.dumps({"p256dh": browser.p256dh, "auth": browser.auth}).decode()
        endpoint = f"{browser.endpoint}?run={run}"
        rows.append((people[0].id, "webpush", "subscription", endpoint, keys, ""))
    await database.execute(statements.TARGETS, *map(list, zip(*rows, strict=True)))

"""The acts of the day, one after the other, each with its bar."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import uuid4

import aiohttp
from rich.progress import Progress, TaskID

from engine import Client, NewJob
from processors.database.statements import demo as statements
from processors.day.cast import SECRET, TEAM, Cast, Person
from processors.day.clients import Connected, connected
from processors.errors import ProcessorError
from processors.services.bundle import Services

ONLINE: Final = 6
PATH: Final = "/ws"
POLL_S: Final = 0.25
WORDS: Final = (
    *("Who brings the cake?", "The train is late again.", "Meeting at noon, room seven."),
    *("I found the bug.", "Coffee?", "The harbour looks wonderful today.", "On my way."),
)
NEEDLE: Final = "harbour"
PHOTO: Final = bytes(range(256)) * 64

Bar = Callable[[int], None]


@dataclass
class Stage:
    """
    What acts are played with.

    Attributes:
        services: The services of the app.
        client: Enqueues jobs.
        cast: Who plays.
        gateway: The gateway's address.
        progress: Where bars are drawn.
        give_up_s: How long an act waits for its effects.
        is_idle: Says whether no queue has anything to do now.
        clients: Who is connected.
        told: What the acts found, for the closing table.
    """

    services: Services
    client: Client
    cast: Cast
    gateway: str
    progress: Progress
    give_up_s: float
    is_idle: Callable[[], Awaitable[bool]]
    clients: list[Connected] = field(default_factory=list)
    told: dict[str, str] = field(default_factory=dict)

    async def until(self, title: str, total: int, count: Callable[[], Awaitable[int]]) -> int:
        """Draw a bar until so many are counted, or for as long as is waited; returns the count."""
        bar = self.bar(title, total)
        done = 0
        try:
            async with asyncio.timeout(self.give_up_s):
                while done < total:
                    done = await count()
                    self.progress.update(bar, completed=min(done, total))
                    if done < total:
                        await asyncio.sleep(POLL_S)
        except TimeoutError:
            self.told[title] = f"{done} of {total} after {self.give_up_s:g} s"
        return done

    def bar(self, title: str, total: int) -> TaskID:
        """Begin a bar."""
        return self.progress.add_task(title, total=total)


async def play(stage: Stage, *, messages: int, lines: random.Random) -> None:
    """Play the whole day."""
    async with AsyncExitStack() as stack:
        seen = await connect(stage, stack, messages)
        await chat(stage, messages, lines)
        await share_photo(stage)
        await stage.until("messages at the clients", seen.total, seen.count)
        await search(stage)
        await warn_everyone(stage)
        await rotate_keys(stage)
        await batch(stage)
        await tidy(stage)
        await fail(stage)
        await stage.until("notifications delivered or given up", 1, lambda: _settled(stage))


class Seen:
    """Counts messages that arrived at clients, over all of them."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.arrived = 0

    def one(self) -> None:
        """Count one."""
        self.arrived += 1

    async def count(self) -> int:
        """Say how many there were."""
        return self.arrived


async def connect(stage: Stage, stack: AsyncExitStack, messages: int) -> Seen:
    """Let half of the people come online."""
    online = stage.cast.people[:ONLINE]
    members = {TEAM: len(online), SECRET: 4}
    share = messages // 4
    seen = Seen(members[TEAM] * (messages - share + 1) + members[SECRET] * share)
    session = await stack.enter_async_context(aiohttp.ClientSession())
    bar = stage.bar("people come online", len(online))
    for person in online:
        ticket = await stage.services.tickets.issue_ticket(person.id)
        places = [stage.cast.places[TEAM]]
        if person in stage.cast.people[: members[SECRET]]:
            places.append(stage.cast.places[SECRET])
        url = f"ws://{stage.gateway}{PATH}"
        client = connected(session, url, person, ticket=ticket, places=places, on_message=seen.one)
        stage.clients.append(await stack.enter_async_context(client))
        stage.progress.advance(bar)
    await stage.clients[0].say("active", conversationId=str(stage.cast.places[TEAM]))
    return seen


async def chat(stage: Stage, messages: int, lines: random.Random) -> None:
    """Let those online write over their sockets and the others from elsewhere."""
    bar = stage.bar("messages written", messages)
    for number in range(messages):
        secret = number % 4 == 3
        people = stage.cast.people[:4] if secret else stage.cast.people
        author = people[number % len(people)]
        message = {
            "conversationId": str(stage.cast.places[SECRET if secret else TEAM]),
            "content": lines.choice(WORDS),
            "clientMessageId": f"{stage.cast.run}-{number}",
        }
        await _write(stage, author, message)
        stage.progress.advance(bar)


async def _write(stage: Stage, author: Person, message: dict[str, Any]) -> None:
    for client in stage.clients:
        if client.person == author:
            await client.say("send", message=message)
            return
    await stage.client.enqueue("send-message", {**message, "senderId": str(author.id)})


async def share_photo(stage: Stage) -> None:
    """Upload a photo and send it."""
    ada = stage.cast.people[0]
    bar = stage.bar("a photo is uploaded and sent", 1)
    store = stage.services.attachments
    upload = await store.begin_upload(ada.id, "image/png", len(PHOTO))
    await store.put(upload.attachment_id, ada.id, PHOTO)
    message = {
        "conversationId": str(stage.cast.places[TEAM]),
        "clientMessageId": f"{stage.cast.run}-photo",
        "attachments": [str(upload.attachment_id)],
    }
    await _write(stage, ada, message)
    stage.progress.advance(bar)


async def search(stage: Stage) -> None:
    """Wait for the index, and look for a word, among encrypted messages too."""
    places = list(stage.cast.places.values())

    async def indexed() -> int:
        return await _value(stage, statements.INDEXED, places)

    (row,) = await stage.services.database.fetch(statements.MESSAGES, places)
    await stage.until("messages indexed", row["sent"], indexed)
    found = await stage.services.search.service.search(stage.cast.people[0].id, NEEDLE, limit=100)
    stage.told["search"] = f"“{NEEDLE}” is in {len(found.hits)} messages that Ada can see"


async def warn_everyone(stage: Stage) -> None:
    """Tell all people of a sign-in, over every channel."""
    bar = stage.bar("a security notice goes out", 1)
    await stage.client.enqueue(
        "notification",
        {
            "action": "event",
            "type": "security.login",
            "userIds": [str(person.id) for person in stage.cast.people],
            "dedupKey": f"login-{stage.cast.run}",
            "title": "New sign-in",
            "body": "Somebody signed in from a new device. Was it you?",
            # Of a type that must arrive, whoever sends it says where; texts are not sent unasked.
            "channels": ["push", "email", "sms", "in_app"],
        },
        lane="high",
    )
    stage.progress.advance(bar)


async def rotate_keys(stage: Stage) -> None:
    """Give the encrypted conversation a new key."""
    bar = stage.bar("keys are rotated", 1)
    place = str(stage.cast.places[SECRET])
    await stage.client.enqueue("encryption", {"action": "rotate", "conversationId": place})
    stage.progress.advance(bar)


async def batch(stage: Stage) -> None:
    """Write to the crowd."""
    batch_id = uuid4()
    crowd = stage.cast.crowd
    await stage.client.enqueue(
        "batch-message",
        {
            "action": "start",
            "batchId": str(batch_id),
            "senderId": str(stage.cast.people[0].id),
            # Somebody who does not exist fails alone.
            "recipientIds": [*map(str, crowd), str(uuid4())],
            "content": "The harbour festival begins tonight!",
        },
    )

    async def ended() -> int:
        try:
            found = await stage.services.batches.progress(batch_id)
        except ProcessorError:
            return 0  # not begun
        stage.told["batch"] = (
            f"{found.sent} sent, {found.failed} failed {found.errors or ''}: {found.state}"
        )
        return found.sent + found.failed

    await stage.until(f"a batch to {len(crowd):,} readers", len(crowd) + 1, ended)


async def tidy(stage: Stage) -> None:
    """Clean up: what nobody needs, and a dry run of the retention."""
    bar = stage.bar("cleaning up", 3)
    for payload in (
        {"action": "cleanup_expired_attachments"},
        {"action": "cleanup_old_messages", "dryRun": True},
        {"action": "housekeeping"},
    ):
        await stage.client.enqueue("cleanup", payload)
        stage.progress.advance(bar)


async def fail(stage: Stage) -> None:
    """Let a stranger write, whose job ends dead."""
    job = NewJob(
        "send-message",
        {
            "conversationId": str(stage.cast.places[TEAM]),
            "senderId": str(uuid4()),
            "content": "let me in",
            "clientMessageId": f"{stage.cast.run}-stranger",
        },
        id=f"stranger-{stage.cast.run}",
    )
    bar = stage.bar("a stranger writes", 1)
    await stage.client.enqueue_many([job])
    stage.told["dead"] = f"python -m engine job stranger-{stage.cast.run}"
    stage.progress.advance(bar)


async def _settled(stage: Stage) -> int:
    people = [person.id for person in stage.cast.people]
    if not await stage.is_idle():
        return 0
    return int(await _value(stage, statements.OPEN_DELIVERIES, people) == 0)


async def _value(stage: Stage, statement: str, *arguments: Any) -> int:
    row = await stage.services.database.fetchrow(statement, *arguments)
    assert row is not None
    return int(row[0])

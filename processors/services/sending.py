"""
Sending: many messages in one transaction, each with an outcome of its own.

Messages of one call share their round trips whatever their conversations, which is what makes
sending fast. A message that may not be sent does not keep the others from it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg

from engine import Clock, Retry
from processors.database.pool import Database
from processors.database.statements import attachments
from processors.database.statements import conversations as people
from processors.database.statements import messages as statements
from processors.errors import Refused, ServiceUnavailable
from processors.rules.content import body_hash, client_id_fault, content_fault
from processors.rules.sqlstate import is_contention, is_permanent
from processors.services.conversations import ConversationService
from processors.services.drafts import Draft, Sealing, Stuck, by_conversation, text_of
from processors.services.protocols import Sealer
from processors.settings import ProcessorSettings
from schemas.messages import SendMessage, SendResult

if TYPE_CHECKING:
    from processors.database.pool import Connection

SendOutcome = SendResult | Exception
REFUSALS = (asyncpg.PostgresError, asyncpg.exceptions.DataError)


@dataclass(slots=True)
class Sent:
    """
    What one transaction did.

    Attributes:
        results: By draft.
        encrypted: The conversations among those locked that are encrypted.
        unclaimable: Places of drafts with attachments that the sender may not use.
    """

    results: dict[int, SendResult] = field(default_factory=dict)
    encrypted: set[UUID] = field(default_factory=set)
    unclaimable: set[int] = field(default_factory=set)


class SendingService:
    """
    Puts messages into conversations.

    Args:
        database: Where messages are.
        conversations: Who may send to what.
        sealer: Encrypts what goes into encrypted conversations, before it is written.
        settings: How many delivery rows a message has at most, and which jobs follow.
        clock: Time, for ids.
        committed: Called after each commit that left something in the outbox.
    """

    def __init__(
        self,
        database: Database,
        conversations: ConversationService,
        *,
        sealer: Sealer,
        settings: ProcessorSettings,
        clock: Clock,
        committed: Callable[[], None],
    ) -> None:
        self._database = database
        self._conversations = conversations
        self._settings = settings
        self._clock = clock
        self._committed = committed
        self._sealing = Sealing(sealer, clock)
        self._stuck = Stuck()
        # Encryption is never turned off, so this stays true; it is known again after a restart.
        self._encrypted: set[UUID] = set()

    async def send_many(self, messages: Sequence[SendMessage]) -> list[SendOutcome]:
        """
        Send messages and return one outcome each, in their order: a result or an error.

        Messages of one conversation get their numbers in the order given. Sending one again
        returns the first result: the sender's client message id is the key.
        """
        outcomes: dict[int, SendOutcome] = {}
        wanted: list[tuple[int, SendMessage]] = []
        for place, message in enumerate(messages):
            fault = _fault(message)
            if fault:
                outcomes[place] = Refused("invalid-content", fault)
            else:
                wanted.append((place, message))
        outcomes |= await self._send(wanted)
        return [outcomes[place] for place in range(len(messages))]

    async def validate_user(self, user_id: UUID) -> None:
        """
        Insist on a user who exists and is not disabled.

        Raises:
            Refused: There is none.
        """
        row = await self._database.fetchrow(people.USER, user_id)
        if row is None:
            raise Refused("unknown-user", f"there is no user {user_id}")
        if row["is_disabled"]:
            raise Refused("user-disabled", f"user {user_id} is disabled")

    async def _send(self, wanted: Sequence[tuple[int, SendMessage]]) -> dict[int, SendOutcome]:
        """Send what is plain, and what has to be sealed; neither waits for the other."""
        sealed = [each for each in wanted if each[1].conversation_id in self._encrypted]
        plain = [
            Draft(place, message, (body_hash(text_of(message)),))
            for place, message in wanted
            if message.conversation_id not in self._encrypted
        ]
        return await merged([self._send_apart(plain), self._send_sealed(sealed)])

    async def _send_sealed(
        self, wanted: Sequence[tuple[int, SendMessage]]
    ) -> dict[int, SendOutcome]:
        if not wanted:
            return {}
        drafts, outcomes = await self._sealing.drafts(wanted)
        return outcomes | await self._send_apart(drafts)

    async def _send_apart(self, drafts: Sequence[Draft]) -> dict[int, SendOutcome]:
        """Send together what can be; what is in the way of others is sent by itself."""
        groups = self._stuck.groups(drafts, self._clock.monotonic())
        return await merged([self._send_group(group) for group in groups])

    async def _send_group(self, drafts: Sequence[Draft]) -> dict[int, SendOutcome]:
        try:
            return await self._send_drafts(drafts)
        except REFUSALS as error:
            conversations = {draft.message.conversation_id for draft in drafts}
            if is_permanent(error) and len(drafts) > 1:
                return await self._each([[draft] for draft in drafts])
            if is_permanent(error):
                return {draft.place: error for draft in drafts}
            if not is_contention(error):
                raise
            if len(conversations) > 1:
                # One of them is in the way of the others.
                return await self._each(by_conversation(drafts))
            self._stuck.note(conversations.pop(), self._clock.monotonic())
            away = ServiceUnavailable("conversation", "other work keeps it locked")
            return {draft.place: away for draft in drafts}

    async def _each(self, groups: Sequence[Sequence[Draft]]) -> dict[int, SendOutcome]:
        return await merged([self._send_group(group) for group in groups])

    async def _send_drafts(self, drafts: Sequence[Draft]) -> dict[int, SendOutcome]:
        """Send in one transaction."""
        firsts = {draft.key: draft for draft in reversed(drafts)}
        sent = await self._insert(sorted(firsts.values(), key=lambda draft: draft.place))
        outcomes: dict[int, SendOutcome] = dict(sent.results)
        # Only now is it known that these conversations are encrypted: their messages have to be
        # sealed, and are compared with earlier ones by another hash.
        self._encrypted |= sent.encrypted
        rest = [draft for draft in drafts if draft.place not in outcomes]
        again = [
            draft
            for draft in rest
            if draft.envelope is None and draft.message.conversation_id in sent.encrypted
        ]
        if again:
            outcomes |= await self._send([(draft.place, draft.message) for draft in again])
            rest = [draft for draft in rest if draft.place not in outcomes]
        if rest:
            outcomes |= await self._sent_before(rest)
        for draft in rest:
            if draft.place in outcomes:
                continue
            if draft.place in sent.unclaimable:
                outcomes[draft.place] = Refused(
                    "attachment-unavailable",
                    f"user {draft.message.sender_id} may not use all of the attachments, "
                    "or not all of them are uploaded",
                )
            else:
                outcomes[draft.place] = await self._why_not(draft.message)
        return outcomes

    async def _insert(self, drafts: Sequence[Draft]) -> Sent:
        sent = Sent()
        if not drafts:
            return sent
        async with self._database.transaction() as connection:
            found = await connection.fetch(
                statements.LOCK, {draft.message.conversation_id for draft in drafts}
            )
            sent.encrypted = {row["id"] for row in found if row["encrypted"]}
            sent.unclaimable = await _unclaimable(connection, drafts)
            ready = [draft for draft in drafts if draft.place not in sent.unclaimable]
            rows = await connection.fetch(
                statements.INSERT,
                *_columns(ready),
                self._settings.delivery_rows_max,
                self._settings.index_messages,
                self._settings.notify_messages,
            )
            for row in rows:
                sent.results[ready[row["place"] - 1].place] = SendResult(
                    message_id=row["id"],
                    seq=row["seq"],
                    duplicate=False,
                    recipients=row["n_recipients"],
                )
            await _attach(connection, ready, sent.results)
        if sent.results:
            self._committed()
        return sent

    async def _sent_before(self, drafts: Sequence[Draft]) -> dict[int, SendOutcome]:
        """Find the messages that client ids stand for already."""
        keys = _transposed([draft.key for draft in drafts], 3)
        rows = await self._database.fetch(statements.FIND_SENT, *keys)
        return {
            drafts[row["place"] - 1].place: _again(drafts[row["place"] - 1], row) for row in rows
        }

    async def _why_not(self, message: SendMessage) -> Exception:
        """Say why a message cannot be sent that was not sent before."""
        try:
            await self._conversations.require_member(message.conversation_id, message.sender_id)
            await self.validate_user(message.sender_id)
        except Refused as refusal:
            return refusal
        # Allowed by now: the membership came between the two looks.
        return Retry(0, reason="the sender's membership changed meanwhile")


async def merged(
    parts: Sequence[Coroutine[Any, Any, dict[int, SendOutcome]]],
) -> dict[int, SendOutcome]:
    """Run parts side by side to their ends; raises what the first of them that failed raised."""
    outcomes: dict[int, SendOutcome] = {}
    for part in await asyncio.gather(*parts, return_exceptions=True):
        if isinstance(part, BaseException):
            raise part
        outcomes |= part
    return outcomes


def _fault(message: SendMessage) -> str:
    fault = client_id_fault(message.client_message_id)
    if message.content or not message.attachments:
        fault = content_fault(message.content) or fault
    return fault


def _again(draft: Draft, row: asyncpg.Record) -> SendOutcome:
    # What was deleted has lost its hash with its contents.
    if row["body_hash"] not in draft.fingerprints and not row["is_deleted"]:
        return Refused(
            "client-message-id-reused",
            f"clientMessageId stands for message {row['id']} with another content",
        )
    return SendResult(
        message_id=row["id"], seq=row["seq"], duplicate=True, recipients=row["n_recipients"]
    )


def _columns(drafts: Sequence[Draft]) -> list[list[Any]]:
    """Arrange drafts as the statement takes them, one array per column."""
    return _transposed(
        [
            (
                draft.id,
                draft.message.conversation_id,
                draft.message.sender_id,
                draft.message.client_message_id,
                draft.fingerprints[0],
                draft.message.kind.value,
                draft.message.content if draft.envelope is None else None,
                draft.envelope.ciphertext if draft.envelope else None,
                draft.envelope.key_id if draft.envelope else None,
                _literal(draft.message.mentions),
                _literal(draft.message.attachments),
            )
            for draft in drafts
        ],
        11,
    )


def _transposed(rows: Sequence[tuple[Any, ...]], width: int) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[]] * width


def _literal(ids: Iterable[UUID]) -> str:
    """Write an array of ids as text: arrays of arrays of different lengths cannot be sent."""
    return "{" + ",".join(map(str, ids)) + "}"


async def _unclaimable(connection: Connection, drafts: Sequence[Draft]) -> set[int]:
    """Lock the attachments of drafts, and tell which drafts name some that may not be used."""
    wanted = {
        (draft.place, attachment, draft.message.sender_id)
        for draft in drafts
        for attachment in draft.message.attachments
    }
    if not wanted:
        return set()
    rows = await connection.fetch(attachments.CLAIMABLE, *_transposed(sorted(wanted), 3))
    found = {(row["place"], row["id"]) for row in rows}
    return {place for place, attachment, _ in wanted if (place, attachment) not in found}


async def _attach(
    connection: Connection, drafts: Sequence[Draft], results: dict[int, SendResult]
) -> None:
    links = [
        (results[draft.place].message_id, attachment, position)
        for draft in drafts
        if draft.place in results
        for position, attachment in enumerate(draft.message.attachments)
    ]
    if links:
        await connection.execute(attachments.ATTACH, *_transposed(links, 3))

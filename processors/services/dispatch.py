"""
Makes one delivery: decide, claim, ask the provider, record.

The row is claimed just before the provider is asked, and no transaction spans the request. Whoever
finds a claim that has run out knows that the request may have left: push and email are sent again
under the same delivery id, which the provider or the reader's program folds; the sender of SMS is
told of the earlier try and asks the provider first.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final, Protocol
from uuid import UUID

import structlog

from engine import Clock, Retry, Snooze
from processors.database.pool import Database
from processors.database.statements import notification_deliveries as statements
from processors.rules.answers import Answer, Kind
from processors.rules.decision import Decision, Defer, Digest, Drop, Send, decide
from processors.rules.pauses import LogGate
from processors.rules.statuses import suppression
from processors.senders.bundle import Senders
from processors.services.composing import Unsubscribe, compose_mail, compose_push, compose_sms
from processors.services.deliveries import OPEN, Case, moment, ms_until
from processors.services.previews import Previews
from processors.services.protocols import Presence
from processors.settings.notification import NotificationSettings
from schemas.messages import DeliveryResult

log = structlog.get_logger("processors.notifications")

PROVIDERS: Final = ("fcm", "apns", "webpush", "email", "sms")
"""What limits of the queue are called, one for each provider."""

LOG_EVERY_S: Final = 60.0


class Limiter(Protocol):
    """Asks a named limit whether the job may go on, or shuts it; the job's own ``limit``."""

    async def __call__(self, name: str, *, retry_after_ms: int = 0) -> None: ...


class Dispatcher:
    """
    Makes deliveries.

    Args:
        database: Where they are.
        senders: The ways out.
        presence: Who looks at what.
        previews: Reads what there is to tell.
        settings: What the operator says.
        clock: Tells the time.
        unsubscribe: Makes the address by which a user stops email of one type.
        committed: Called after each commit that left a job in the outbox.
    """

    def __init__(
        self,
        database: Database,
        senders: Senders,
        presence: Presence,
        previews: Previews,
        settings: NotificationSettings,
        *,
        clock: Clock,
        unsubscribe: Unsubscribe,
        committed: Callable[[], None],
    ) -> None:
        self._database = database
        self._senders = senders
        self._presence = presence
        self._previews = previews
        self._settings = settings
        self._clock = clock
        self._unsubscribe = unsubscribe
        self._committed = committed
        self._gates = {name: LogGate(LOG_EVERY_S) for name in PROVIDERS}

    async def dispatch(self, delivery_id: UUID, *, limit: Limiter) -> DeliveryResult:
        """
        Make one delivery, unless it has been made or is not wanted.

        Args:
            delivery_id: The delivery.
            limit: Asks or shuts the provider's limit; what it raises ends the attempt.

        Raises:
            Snooze: It is not its time yet, or another job has it.
            Retry: The provider is in trouble.
        """
        row = await self._database.fetchrow(statements.LOAD, delivery_id)
        if row is None:
            return DeliveryResult(state="gone")
        case = Case(row, self._settings)
        if row["state"] not in OPEN:
            return DeliveryResult(state=row["state"], code=row["error_code"] or "")
        now = self._now()
        for waits_for, reason in (("lease_until", "another job has it"), ("next_at", "not yet")):
            if row[waits_for] is not None and row[waits_for] > now:
                raise Snooze(ms_until(row[waits_for], now), reason=reason)
        decision = await self._decide(case, now)
        if decision == Send():
            return await self._send(case, limit)
        return await self._settle(case, decision, now)

    async def _decide(self, case: Case, now: datetime) -> Decision:
        suppressed = False
        if case.address_hash is not None:
            found = await self._database.fetchrow(
                statements.SUPPRESSED, case.channel, case.address_hash, now
            )
            suppressed = found is not None
        is_set_up = self._is_set_up(case)
        first = decide(case.facts(now, is_set_up=is_set_up, suppressed=suppressed, active=False))
        if isinstance(first, Drop | Defer) or case.is_mandatory or not case.is_of_messages:
            return first
        # Asked last, since it is asked elsewhere, and most are settled without it.
        user_id, conversation_id = case.row["user_id"], case.row["conversation_id"]
        there = (await self._presence.look([user_id], conversation_id)).get(user_id)
        active = there is not None and there.is_active
        return decide(case.facts(now, is_set_up=is_set_up, suppressed=suppressed, active=active))

    def _is_set_up(self, case: Case) -> bool:
        if case.channel == "push":
            return case.row["provider"] is None or case.row["provider"] in self._senders.push
        return (self._senders.email if case.channel == "email" else self._senders.sms) is not None

    async def _settle(self, case: Case, decision: Decision, now: datetime) -> DeliveryResult:
        """Record a decision other than to send."""
        if case.row["state"] == "sending":
            # It may have been sent, and is not to be sent again.
            return await self._close(case, "unknown", "interrupted", attempts=case.row["attempts"])
        match decision:
            case Drop(code=code):
                return await self._close(case, "dropped", code, attempts=case.row["attempts"])
            case Digest(due=due):
                return await self._gather(case, due, now)
            case Defer(until=until):
                await self._database.fetchrow(
                    statements.DEFER, case.id, now, until, case.row["attempts"], "deferred"
                )
                raise Snooze(ms_until(until, now), reason="the user is to be left alone until then")
        raise AssertionError(f"{decision} is not settled here")

    async def _gather(self, case: Case, due: datetime, now: datetime) -> DeliveryResult:
        row = case.row
        await self._database.fetchrow(
            statements.GATHER,
            case.id,
            now,
            row["attempts"],
            row["conversation_id"],
            due,
            case.gathered,
            case.first_seq,
            row["seq"],
        )
        self._committed()
        return DeliveryResult(state="digested")

    async def _send(self, case: Case, limit: Limiter) -> DeliveryResult:
        news = await self._previews.of(case) if case.is_of_messages else None
        if case.is_of_messages and news is None:
            return await self._settle(case, Drop("already-read"), self._now())
        await limit(case.provider)
        now = self._now()
        claimed = await self._database.fetchrow(
            statements.CLAIM,
            case.id,
            now,
            now + timedelta(milliseconds=self._settings.claim_ms),
            case.row["attempts"],
            case.address_hash,
            case.row["conversation_id"],
            case.gap_after(now) // timedelta(milliseconds=1),
            case.row["pace_sent_at"],
            case.row["pace_delivery_id"],
        )
        if claimed is None:
            # It was cancelled, or another was faster, or took the turn: the next look tells.
            return await self.dispatch(case.id, limit=limit)
        if case.channel == "push":
            push = compose_push(case, news, now)
            answer = await self._senders.push[case.target.provider].send(case.target, push)
        elif case.channel == "email":
            assert self._senders.email is not None
            answer = await self._senders.email.send(compose_mail(case, news, self._unsubscribe))
        else:
            assert self._senders.sms is not None
            answer = await self._senders.sms.send(compose_sms(case, news))
        return await self._record(case, claimed["attempts"], answer, limit)

    async def _record(
        self, case: Case, attempts: int, answer: Answer, limit: Limiter
    ) -> DeliveryResult:
        """Write down what the provider said, and choose what follows for the job."""
        code = answer.code[:64]
        match answer.kind:
            case Kind.SENT:
                return await self._sent(case, answer)
            case Kind.TARGET_GONE:
                return await self._target_gone(case, attempts, answer, code)
            case Kind.REFUSED:
                self._log(case, answer, "notification_refused")
                return await self._close(case, "failed", code or "refused", attempts=attempts)
            case Kind.UNKNOWN if answer.retry_after_ms:
                await self._leave_open(case, attempts, answer)
                raise Snooze(answer.retry_after_ms, reason="nobody knows yet whether it was sent")
            case Kind.UNKNOWN:
                self._log(case, answer, "notification_unknown")
                return await self._close(case, "unknown", code or "unknown", attempts=attempts)
        raise await self._put_off(case, attempts, answer, limit)

    async def _put_off(
        self, case: Case, attempts: int, answer: Answer, limit: Limiter
    ) -> Retry | Snooze:
        """Give the delivery back for when the provider serves again; returns what to raise."""
        pause_ms = answer.retry_after_ms
        if answer.kind is not Kind.LATER:
            pause_ms = pause_ms or self._settings.limited_pause_ms
        if answer.kind is Kind.MISCONFIGURED:
            pause_ms = max(pause_ms, self._settings.misconfigured_pause_ms)
        await self._release(case, attempts, answer, pause_ms)
        reason = f"{case.provider}: {answer.code[:64] or answer.kind.value}"
        if answer.kind is Kind.LATER:
            return Retry(pause_ms or None, reason=reason)
        if answer.kind is Kind.MISCONFIGURED:
            self._misconfigured(case, answer.code[:64], pause_ms)
        if answer.kind is Kind.MISCONFIGURED or answer.scope == "provider":
            await limit(case.provider, retry_after_ms=pause_ms)
        return Snooze(pause_ms, reason=reason)

    async def _sent(self, case: Case, answer: Answer) -> DeliveryResult:
        row = await self._database.fetchrow(
            statements.SENT, case.id, self._now(), answer.provider_id[:200]
        )
        return DeliveryResult(state="gone" if row is None else row["state"])

    async def _target_gone(
        self, case: Case, attempts: int, answer: Answer, code: str
    ) -> DeliveryResult:
        now = self._now()
        gone_since = moment(answer.gone_since_ms) if answer.gone_since_ms else None
        async with self._database.transaction() as connection:
            await connection.execute(
                statements.CLOSE, case.id, now, "failed", attempts, code or "target-gone"
            )
            if case.channel == "push":
                target = case.target
                await connection.execute(
                    statements.TARGET_GONE, target.id, now, target.token, code, gone_since
                )
            else:
                reason = suppression(case.channel, "failed", code) or "bounce"
                await connection.execute(
                    statements.SUPPRESS, case.channel, case.address_hash, reason, now
                )
        self._log(case, answer, "notification_target_gone")
        return DeliveryResult(state="failed", code=code or "target-gone")

    async def _release(self, case: Case, attempts: int, answer: Answer, pause_ms: int) -> None:
        """Give the claim back: the provider surely has not got it."""
        now = self._now()
        # Also where the job alone knows when it tries again: what has no time would seem lost.
        next_at = now + timedelta(milliseconds=pause_ms)
        code = answer.code[:64] or answer.kind.value
        await self._database.execute(
            statements.RELEASE,
            case.id,
            now,
            next_at,
            attempts,
            f"configuration: {code}" if answer.kind is Kind.MISCONFIGURED else code,
            case.row["first_tried_at"],
            case.row["last_tried_at"],
            case.row["conversation_id"],
            case.row["pace_sent_at"],
            case.row["pace_delivery_id"],
            case.row["pace_gap_ms"],
        )

    async def _leave_open(self, case: Case, attempts: int, answer: Answer) -> None:
        """Keep it as one that may have left, until the provider can be asked."""
        now = self._now()
        until = now + timedelta(milliseconds=answer.retry_after_ms)
        code = answer.code[:64] or "unknown"
        await self._database.execute(statements.LEAVE_OPEN, case.id, now, until, attempts, code)

    async def _close(self, case: Case, state: str, code: str, *, attempts: int) -> DeliveryResult:
        await self._database.fetchrow(statements.CLOSE, case.id, self._now(), state, attempts, code)
        return DeliveryResult(state=state, code=code)

    def _misconfigured(self, case: Case, code: str, pause_ms: int) -> None:
        if self._gates[case.provider].passes(self._clock.monotonic()):
            log.error(
                "notification_channel_misconfigured",
                provider=case.provider,
                code=code,
                tried_again_in_ms=pause_ms,
                advice="check its settings; its jobs wait, those of other channels go on",
            )

    def _log(self, case: Case, answer: Answer, event: str) -> None:
        log.warning(event, delivery_id=str(case.id), provider=case.provider, code=answer.code[:64])

    def _now(self) -> datetime:
        return moment(self._clock.now_ms())

"""One delivery as it is read from the database, and what decides about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from processors.rules.addresses import address_hash
from processors.rules.decision import Facts
from processors.rules.preferences import DIGEST, MESSAGE, Choice, Preference, choose, is_of
from processors.rules.quiet_hours import Window, quiet_until
from processors.rules.receipts import DELIVERED, READ
from processors.rules.throttle import NONE, Pace, Throttle, gap_after, held_until
from processors.senders.base import PushTarget
from processors.settings.notification import NotificationSettings

if TYPE_CHECKING:
    import asyncpg

FACTOR: Final = 6
"""By how much a gap between two emails is longer than the one before."""

OPEN: Final = frozenset({"pending", "sending"})


def moment(now_ms: int) -> datetime:
    """Turn Unix ms into a time with zone."""
    return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=now_ms)


def ms_until(later: datetime, now: datetime) -> int:
    """Milliseconds until then, rounded up; at least one."""
    return max(1, -((now - later) // timedelta(milliseconds=1)))


def preferences_of(rows: Iterable[Any]) -> list[Preference]:
    """Read preferences from what the database aggregates."""
    return [Preference(*row) for row in rows]


def defaults_of(rows: Iterable[Any]) -> list[Preference]:
    """Read a tenant's defaults."""
    return [Preference("user", *row) for row in rows]


def target_of(row: asyncpg.Record, *, id_: UUID, kind: str) -> PushTarget:
    """Read a device."""
    return PushTarget(
        id=id_,
        provider=row["provider"],
        kind=row[kind],
        token=row["token"],
        keys=row["keys"],
        app_id=row["app_id"],
        environment=row["environment"],
        registered_at_ms=int(row["registered_at"].timestamp() * 1000),
    )


@dataclass(frozen=True, slots=True)
class Case:
    """
    A delivery with all that its decision depends on.

    Attributes:
        row: What the database knows, by the names of ``statements.notification_deliveries.LOAD``.
        settings: What the operator says.
    """

    row: asyncpg.Record
    settings: NotificationSettings

    @property
    def id(self) -> UUID:
        """The delivery."""
        found: UUID = self.row["id"]
        return found

    @property
    def channel(self) -> Any:
        """The channel."""
        return self.row["channel"]

    @property
    def provider(self) -> str:
        """Through whom, as limits and logs name it."""
        return (self.row["provider"] or "push") if self.channel == "push" else str(self.channel)

    @property
    def is_of_messages(self) -> bool:
        """Whether it tells of messages, one or several."""
        return self.row["type"] in (MESSAGE, DIGEST) and self.row["conversation_id"] is not None

    @property
    def is_mandatory(self) -> bool:
        """Whether the user cannot do without it."""
        return is_of(self.row["type"], self.settings.mandatory_types)

    @property
    def first_seq(self) -> int:
        """The first message that it tells of."""
        first: int = self.row["payload"].get("firstSeq", self.row["seq"])
        return first

    @property
    def gathered(self) -> int:
        """How many notifications it stands for."""
        n: int = self.row["payload"].get("n", 1)
        return n

    @property
    def address(self) -> str:
        """The address that it goes to; empty for a device, and where there is none."""
        field = {"email": "email", "sms": "phone"}.get(self.channel)
        return (self.row[field] or "") if field else ""

    @property
    def address_hash(self) -> bytes | None:
        """How suppressions know the address."""
        return address_hash(self.channel, self.address) if self.address else None

    @property
    def target(self) -> PushTarget:
        """The device."""
        return target_of(self.row, id_=self.row["target_id"], kind="target_kind")

    @property
    def throttle(self) -> Throttle:
        """How often this channel may be used for one conversation."""
        if self.channel == "push" or not self.is_of_messages:
            return NONE
        return Throttle(
            first=timedelta(seconds=self.settings.throttle_first_s),
            cap=timedelta(seconds=self.settings.throttle_cap_s),
            factor=FACTOR,
            reset=timedelta(seconds=self.settings.throttle_reset_s),
        )

    @property
    def pace(self) -> Pace | None:
        """How often it was used lately."""
        if self.row["pace_sent_at"] is None:
            return None
        return Pace(
            sent_at=self.row["pace_sent_at"],
            told_at=self.row["pace_told_at"],
            gap=timedelta(milliseconds=self.row["pace_gap_ms"]),
        )

    @property
    def has_turn(self) -> bool:
        """Whether the last sending was an attempt of this very delivery, whose end is not known."""
        return bool(self.row["pace_delivery_id"] == self.id)

    def held_until(self, now: datetime) -> datetime | None:
        """Say until when the conversation has written often enough; it waits not for itself."""
        return None if self.has_turn else held_until(self.pace, self.throttle, now)

    def gap_after(self, now: datetime) -> timedelta:
        """Return the gap after a sending now; a repetition does not make it longer."""
        if self.has_turn and self.pace is not None:
            return self.pace.gap
        return gap_after(self.pace, self.throttle, now)

    def choice(self) -> Choice:
        """Return what the preferences come to."""
        own = () if self.is_mandatory else preferences_of(self.row["preferences"])
        defaults = defaults_of(self.row["defaults"])
        found = choose(own, defaults, type_=self.row["type"], channel=self.channel)
        # What was gathered once is not gathered for its own sake again.
        return found._replace(digest=found.digest and self.row["type"] == MESSAGE)

    def facts(self, now: datetime, *, is_set_up: bool, suppressed: bool, active: bool) -> Facts:
        """Put together what the decision asks for."""
        row = self.row
        windows = [
            Window(time.fromisoformat(starts), time.fromisoformat(ends), days, tz)
            for starts, ends, days, tz in row["quiet_hours"]
        ]
        due = now + timedelta(seconds=self.settings.digest_delay_s)
        return Facts(
            now=now,
            choice=self.choice(),
            gone=self._gone(is_set_up=is_set_up),
            expires_at=row["expires_at"],
            suppressed=suppressed,
            mandatory=self.is_mandatory,
            level=row["notify_level"] or "all",
            muted_until=row["muted_until"],
            # What was gathered had passed this question before.
            mentioned=bool(row["is_mentioned"])
            or row["type"] == DIGEST
            or row["conversation_kind"] == "direct",
            digest_due=due if self.is_of_messages else None,
            quiet_until=quiet_until(now, windows),
            read=self._is_read(),
            reached=self._is_reached(),
            active=active,
            throttled_until=self.held_until(now),
        )

    def _gone(self, *, is_set_up: bool) -> str:
        row = self.row
        reasons: tuple[tuple[Callable[[], object], str], ...] = (
            (lambda: row["user_is_disabled"], "user-disabled"),
            (lambda: row["conversation_is_deleted"], "conversation-deleted"),
            (lambda: self.is_of_messages and not row["is_member"], "not-a-member"),
            (lambda: row["message_is_deleted"], "message-deleted"),
            (lambda: self.channel == "push" and not row["has_target"], "target-gone"),
            (lambda: self.channel in ("email", "sms") and not self.address, "no-address"),
            (lambda: not is_set_up, "channel-off"),
        )
        return next((code for holds, code in reasons if holds()), "")

    def _is_read(self) -> bool:
        row = self.row
        by_mark = self.is_of_messages and (row["last_read_seq"] or 0) >= row["seq"]
        return row["read_at"] is not None or by_mark or (row["receipt"] or 0) >= READ

    def _is_reached(self) -> bool:
        if self.channel != "push" or self.settings.push_cancelled_by != "delivered":
            return False
        row = self.row
        by_mark = self.is_of_messages and (row["last_delivered_seq"] or 0) >= row["seq"]
        return by_mark or (row["receipt"] or 0) >= DELIVERED

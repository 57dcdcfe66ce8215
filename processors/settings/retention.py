"""Settings of retention and housekeeping."""

from __future__ import annotations

from typing import Annotated

import msgspec

Days = Annotated[int, msgspec.Meta(ge=1, le=36_500)]
DaysOrNone = Annotated[int, msgspec.Meta(ge=0, le=36_500)]
Hours = Annotated[int, msgspec.Meta(ge=0, le=87_600)]
EverySeconds = Annotated[int, msgspec.Meta(ge=0, le=604_800)]


class RetentionSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    Settings of retention and housekeeping, ``PROCESSORS_RETENTION_*``.

    Attributes:
        days: Days that messages are kept where neither conversation nor tenant says otherwise;
            0 for ever. Default 0.
        days_min: No policy removes messages earlier. Default 1.
        days_max: No policy keeps messages longer; 0 for no bound. Default 0.
        grace_hours: Hours between the clearing of a message's content and the removal of its row
            and attachments. Default 7 days.
        conversation_grace_hours: Hours between the deletion of a conversation and the removal of
            what is in it. Default 30 days.
        inbox_days: Days that results of jobs are kept, by which a repeated job is known.
            Default 7.
        outbox_failed_days: Days that outbox rows are kept which could not be brought anywhere.
            Default 30.
        notifications_days: Days that notifications are kept. Default 90.
        notifications_read_days: Days that notifications are kept which were read or expired.
            Default 30.
        targets_days: Days that devices are kept which cannot be pushed to any more. Default 30.
        batches_days: Days that batches to many recipients are kept once they ended. Default 30.
        audit_days: Days that the audit log is kept; 0 for ever. Default 730.
        overdue_s: A notification, digest or batch that late has lost its job, which is then put
            anew. More than the 30 min that a job may wait between two attempts. Default 45 min.
        batch_rows: Messages that one transaction removes at most. Default 500.
        job_rows_max: Rows that one job removes at most; a further job goes on. Default 20,000.
        job_ms_max: Time after which a job leaves the rest to a further one. Default 15 s.
        pause_ms: Rest between two transactions of a job. Default 10.
        messages_cron: When old messages are removed, as a cron expression; empty for never.
            Default ``17 3 * * *``.
        reconcile_cron: When the object store is compared with the database; empty for never.
            Default ``41 4 * * 0``.
        tz: Time zone of the cron expressions. Default ``UTC``.
        conversations_every_s: How often deleted conversations are removed; 0 for never.
            Default 1 h.
        attachments_every_s: How often unclaimed uploads and unneeded objects are removed; 0 for
            never. Default 1 h.
        housekeeping_every_s: How often housekeeping runs; 0 for never. Default 5 min.
    """

    days: DaysOrNone = 0
    days_min: Days = 1
    days_max: DaysOrNone = 0
    grace_hours: Hours = 168
    conversation_grace_hours: Hours = 720
    inbox_days: Days = 7
    outbox_failed_days: Days = 30
    notifications_days: Days = 90
    notifications_read_days: Days = 30
    targets_days: Days = 30
    batches_days: Days = 30
    audit_days: DaysOrNone = 730
    overdue_s: Annotated[int, msgspec.Meta(ge=1_801, le=86_400)] = 2_700
    batch_rows: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 500
    job_rows_max: Annotated[int, msgspec.Meta(ge=1, le=10_000_000)] = 20_000
    job_ms_max: Annotated[int, msgspec.Meta(ge=1, le=60_000)] = 15_000
    pause_ms: Annotated[int, msgspec.Meta(ge=0, le=10_000)] = 10
    messages_cron: str = "17 3 * * *"
    reconcile_cron: str = "41 4 * * 0"
    tz: str = "UTC"
    conversations_every_s: EverySeconds = 3_600
    attachments_every_s: EverySeconds = 3_600
    housekeeping_every_s: EverySeconds = 300

    def __post_init__(self) -> None:
        if self.days_max and self.days_max < self.days_min:
            raise ValueError("days_max must be at least days_min")

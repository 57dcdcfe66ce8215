"""``notification``: tell people, over the channels that they want."""

from __future__ import annotations

from typing import assert_never

from engine import Exponential, Job, Registry
from processors.services.bundle import Services
from processors.settings.notification import NotificationSettings
from schemas.messages import (
    DeliverNotification,
    FlushDigest,
    Notification,
    NotificationResult,
    NotifyEvent,
    NotifyMessages,
    RecordStatus,
    UpdateBadge,
)

QUEUE = "notification"


def register(types: Registry, settings: NotificationSettings) -> None:
    """
    Register the type, and a limit for each provider.

    One provider's limit, or its trouble, holds back none of the others: a delivery asks for the
    limit of its own provider once it is known, and waits behind that alone.
    """
    types.job(
        "notification",
        queue=QUEUE,
        timeout_s=60,
        # A provider's bad hour is lived through: about two and a half hours, spread by chance.
        retry=Exponential(attempts=20, base_s=2, cap_s=1_800),
    )(notification)
    for provider, rate in (
        ("fcm", settings.fcm_rate),
        ("apns", settings.apns_rate),
        ("webpush", settings.webpush_rate),
        ("email", settings.email_rate),
        ("sms", settings.sms_rate),
    ):
        types.limit(QUEUE, provider, rate=rate)


async def notification(job: Job, payload: Notification, services: Services) -> NotificationResult:
    """
    Do what the action says.

    Safe to run twice: a user hears of one key once, a delivery is claimed before its provider is
    asked, a digest's row is taken away by who flushes it, states only move forward, and a badge
    says what holds when it is set.
    """
    notifications = services.notifications
    match payload:
        case NotifyMessages():
            return await notifications.notify.notify_messages(payload)
        case NotifyEvent():
            return await notifications.notify.notify_event(payload)
        case DeliverNotification(delivery_id=delivery_id):
            return await notifications.dispatcher.dispatch(delivery_id, limit=job.limit)
        case FlushDigest():
            return await notifications.digests.flush(payload)
        case UpdateBadge():
            return await notifications.badges.update(payload, job_id=job.id, limit=job.limit)
        case RecordStatus():
            return await notifications.statuses.record(payload, attempt=job.attempt)
    assert_never(payload)

"""All that belongs to notifications, put together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from engine import Clock, SystemClock
from processors.database.pool import Database
from processors.senders.bundle import Senders, open_senders
from processors.services.badges import BadgeService
from processors.services.composing import Unsubscribe, unsubscribe_links
from processors.services.digests import DigestService
from processors.services.dispatch import Dispatcher
from processors.services.notifications import NotificationService
from processors.services.preferences import PreferenceService
from processors.services.previews import Previews
from processors.services.protocols import Presence, Sealer
from processors.services.statuses import StatusService, texts_of_others
from processors.services.targets import TargetService
from processors.settings import ProcessorSettings
from processors.settings.notification import NotificationSettings


@dataclass(frozen=True, slots=True)
class Notifications:
    """
    The services of notifications.

    Attributes:
        notify: Tells users of messages and events.
        dispatcher: Makes deliveries.
        digests: Sends together what was gathered.
        badges: Sets the number on icons.
        statuses: Records what providers tell later.
        preferences: What users say.
        targets: Their devices.
    """

    notify: NotificationService
    dispatcher: Dispatcher
    digests: DigestService
    badges: BadgeService
    statuses: StatusService
    preferences: PreferenceService
    targets: TargetService


def put_together(
    database: Database,
    settings: NotificationSettings,
    senders: Senders,
    *,
    presence: Presence,
    sealer: Sealer | None,
    unsubscribe: Unsubscribe,
    clock: Clock,
    draw: Callable[[], float],
    committed: Callable[[], None],
) -> Notifications:
    """
    Put the services of notifications together.

    Args:
        database: Where everything is.
        settings: What the operator says.
        senders: The ways out.
        presence: Who looks at what.
        sealer: Opens encrypted messages, where notifications may quote them.
        unsubscribe: Makes the address by which a user stops email of one type.
        clock: Tells the time.
        draw: Gives uniform numbers in [0, 1).
        committed: Called after each commit that left something in the outbox.
    """
    dispatcher = Dispatcher(
        database,
        senders,
        presence,
        Previews(database, settings, sealer),
        settings,
        clock=clock,
        unsubscribe=unsubscribe,
        committed=committed,
    )
    return Notifications(
        notify=NotificationService(database, settings, clock=clock, draw=draw, committed=committed),
        dispatcher=dispatcher,
        digests=DigestService(database, settings, clock=clock, committed=committed),
        badges=BadgeService(database, senders, settings, clock=clock),
        statuses=StatusService(database, clock=clock),
        preferences=PreferenceService(database),
        targets=TargetService(database, clock=clock),
    )


@asynccontextmanager
async def open_notifications(
    database: Database,
    settings: ProcessorSettings,
    presence: Presence,
    sealer: Sealer,
    committed: Callable[[], None],
) -> AsyncIterator[Notifications]:
    """
    Open the senders that the settings ask for, and put everything together around them.

    Raises:
        ConfigurationError: A setting is at fault, or a library is not installed.
    """
    clock = SystemClock()
    async with open_senders(settings, clock=clock, others=texts_of_others(database)) as senders:
        yield put_together(
            database,
            settings.notification,
            senders,
            presence=presence,
            sealer=sealer,
            unsubscribe=unsubscribe_links(settings.email),
            clock=clock,
            draw=clock.draw,
            committed=committed,
        )

"""What got lost is put anew, what merely waits is not, and nothing is kept that serves nobody."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest

from engine import Retry
from processors.rules.answers import Answer, Kind
from processors.settings.retention import RetentionSettings
from tests.integration.processors.keeper import Keeper
from tests.integration.processors.notified import Notified

pytestmark = pytest.mark.servers

BACKOFF_S = 1_800
"""The longest time that a job waits between two attempts."""


async def delivery_of(notified: Notified) -> UUID:
    """Have an event told of by push."""
    _, (ada,) = await notified.people(1)
    await notified.device(ada)
    await notified.event(ada, channels=("push",))
    return await notified.delivery()


async def put_anew(keeper: Keeper) -> int:
    """Keep house; returns how many deliveries were put anew."""
    return (await keeper.kept_house()).counts.get("deliveriesPutAnew", 0)


async def test_a_delivery_that_waits_for_its_next_attempt_is_not_lost(
    notified: Notified, keeper: Keeper
) -> None:
    """Goal: an outage of a provider does not multiply jobs."""
    delivery = await delivery_of(notified)
    await notified.world.database.execute(
        "UPDATE notification_deliveries SET created_at = $1", notified.now - timedelta(days=1)
    )
    notified.fcm.answers.append(Answer(Kind.LATER, "UNAVAILABLE"))
    with pytest.raises(Retry):
        await notified.dispatch(delivery)
    keeper.clock = notified.clock
    overdue_s = RetentionSettings().overdue_s
    keeper.set(overdue_s=overdue_s)
    found = []

    for seconds in (0, BACKOFF_S, overdue_s - BACKOFF_S, 1):
        await notified.clock.advance(seconds)
        found.append(await put_anew(keeper))

    assert found == [0, 0, 0, 1]


async def test_paces_and_dead_devices_do_not_stay_for_ever(
    notified: Notified, keeper: Keeper
) -> None:
    conversation, users = await notified.people(2)
    now = notified.now
    keeper.clock = notified.clock
    for user, days in zip(users, (30, 28), strict=True):
        await notified.world.database.execute(
            "INSERT INTO notification_paces"
            " (user_id, channel, conversation_id, sent_at, told_at, gap_ms)"
            " VALUES ($1, 'email', $2, $3, $3, 1)",
            user,
            conversation,
            now - timedelta(days=days),
        )
    tokens = [await notified.device(users[0]) for _ in range(3)]
    for token, disabled_days in zip(tokens, (31, 29), strict=False):
        await notified.world.database.execute(
            "UPDATE push_targets SET disabled_at = $2 WHERE token = $1",
            token,
            now - timedelta(days=disabled_days),
        )

    planned = await keeper.kept_house(dry_run=True)
    done = await keeper.kept_house()

    for result in (planned, done):
        assert (result.counts["pacesRemoved"], result.counts["targetsRemoved"]) == (1, 1)
    assert await notified.world.values("SELECT user_id FROM notification_paces") == users[1:]
    kept = await notified.world.values("SELECT token FROM push_targets")
    assert sorted(kept) == sorted(tokens[1:])

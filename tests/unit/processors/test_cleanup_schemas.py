"""What a cleanup job may ask for."""

from __future__ import annotations

import msgspec
import pytest

from processors.cleanup import declare_schedules
from processors.errors import ConfigurationError
from processors.services.cleanup_run import Record
from processors.services.object_cleanup import Differences, Place
from processors.settings import from_env
from processors.settings.retention import RetentionSettings
from schemas.messages import (
    Cleanup,
    CleanupDeletedConversations,
    CleanupExpiredAttachments,
    CleanupOldMessages,
    CleanupResult,
    Housekeeping,
    ReconcileObjects,
)


@pytest.mark.parametrize(
    ("action", "kind"),
    [
        ("cleanup_old_messages", CleanupOldMessages),
        ("cleanup_deleted_conversations", CleanupDeletedConversations),
        ("cleanup_expired_attachments", CleanupExpiredAttachments),
        ("reconcile_objects", ReconcileObjects),
        ("housekeeping", Housekeeping),
    ],
)
def test_an_action_alone_is_an_order(action: str, kind: type) -> None:
    order = msgspec.json.decode(f'{{"action": "{action}", "dryRun": true}}', type=Cleanup)

    assert order == kind(dry_run=True)


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        ('{"action": "vacuum"}', "Invalid value 'vacuum'"),
        ("{}", "missing required field `action`"),
        ('{"action": "housekeeping", "olderThanDays": 3}', "unknown field `olderThanDays`"),
        ('{"action": "cleanup_old_messages", "olderThanDays": 0}', ">= 1"),
        ('{"action": "cleanup_old_messages", "rowsMax": 0}', ">= 1"),
        ('{"action": "cleanup_old_messages", "after": "DROP TABLE"}', "regex"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(payload: str, words: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=words):
        msgspec.json.decode(payload, type=Cleanup)


def test_a_record_survives_the_inbox() -> None:
    record = Record(
        counts={"messagesCleared": 3},
        changed=3,
        after="pages:x",
        samples={"objectsWithoutRow": ["k"]},
        result=CleanupResult(action="housekeeping", complete=True),
    )

    assert msgspec.convert(msgspec.to_builtins(record), Record) == record


def test_a_place_of_the_comparison_survives_its_record() -> None:
    found = Differences(10, ["a"] * 3, {}, set())
    place = Place.read("").after(found).after(found)

    assert Place.read(place.written()) == place == Place(True, 2, 20, 6)
    order = {"action": "reconcile_objects", "after": place.written()}
    assert msgspec.convert(order, ReconcileObjects).after == "count:2:20:6"


class Schedules:
    """Takes schedules as a registry does."""

    def __init__(self) -> None:
        from engine import Registry
        from processors.cleanup import cleanup

        self.registry = Registry()
        self.registry.job("cleanup", queue="cleanup")(cleanup)

    def declared(self, **settings: object) -> dict[str, str]:
        declare_schedules(self.registry, msgspec.convert(settings, RetentionSettings))
        return {
            name: each.cron or f"{each.every_ms} ms"
            for name, each in self.registry.schedules.items()
        }


def test_everything_is_scheduled_unless_it_is_switched_off() -> None:
    assert Schedules().declared() == {
        "messages-cleanup": "17 3 * * *",
        "objects-reconcile": "41 4 * * 0",
        "conversations-cleanup": "3600000 ms",
        "attachments-cleanup": "3600000 ms",
        "housekeeping": "300000 ms",
    }
    assert (
        Schedules().declared(
            messages_cron="",
            reconcile_cron="",
            conversations_every_s=0,
            attachments_every_s=0,
            housekeeping_every_s=0,
        )
        == {}
    )


@pytest.mark.parametrize("wrong", [{"messages_cron": "at night"}, {"tz": "Mars/Olympus"}])
def test_a_time_that_is_none_is_a_setting_at_fault(wrong: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="PROCESSORS_RETENTION"):
        Schedules().declared(**wrong)


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"PROCESSORS_RETENTION_DAYS_MIN": "9", "PROCESSORS_RETENTION_DAYS_MAX": "8"}, "days_max"),
        (
            {"PROCESSORS_OBJECTS_UPLOAD_URL_S": "7200", "PROCESSORS_OBJECTS_UNCLAIMED_HOURS": "1"},
            "upload_url_s",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    environ: dict[str, str], words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words):
        from_env(environ)

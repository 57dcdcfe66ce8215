"""What was changed stands in the audit, or at least in the log."""

from __future__ import annotations

from typing import Any

import pytest

from engine.admin import Admin
from engine.errors import StoreUnavailable


class Server:
    """Takes records, except for the first few times."""

    def __init__(self, away: int) -> None:
        self.away = away
        self.taken: list[dict[str, Any]] = []

    async def record(self, **told: Any) -> None:
        if self.away:
            self.away -= 1
            raise StoreUnavailable("connection", "gone")
        self.taken.append(told)


@pytest.fixture
def admin() -> Admin:
    return Admin("redis://127.0.0.1:1", who="ada")


async def test_a_record_that_does_not_get_through_is_sent_again(
    admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(away=1)
    monkeypatch.setattr(admin._store, "control", server)

    await admin._record("q", "pause", {"before": ""}, "why")

    assert [(each["who"], each["what"], each["reason"]) for each in server.taken] == [
        ("ada", "pause", "why")
    ]


async def test_a_change_that_the_audit_cannot_take_is_logged_without_payloads(
    admin: Admin, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(admin._store, "control", Server(away=2))

    with caplog.at_level("ERROR"), pytest.raises(StoreUnavailable):
        await admin._record("q", "cancel", {"id": "j1", "after": {"data": "s3cret"}}, "why")

    (said,) = [each.message for each in caplog.records if "change_not_audited" in each.message]
    assert "who=ada what=cancel queue=q reason=why id=j1" in said
    assert "s3cret" not in said

"""Tokens come and go with their file, without a restart."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from engine.dashboard.tokens_file import EVERY_S
from engine.testing import ManualClock
from engine.tokens import new_token, setting_of
from tests.support.page import Open, Visited
from tests.support.waiting import eventually

ALICE, BOB, SCRAPER = new_token(), new_token(), new_token()
ALICES = f"alice={setting_of(ALICE, 'operate')}\n"
BOBS = f"bob={setting_of(BOB, 'admin')}\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    path.write_text(ALICES)
    return path


def write(file: Path, text: str | None) -> None:
    """Let the file hold a text, or be gone."""
    if text is None:
        file.unlink()
    else:
        file.write_text(text)


async def scope_of(opened: Visited, token: str) -> str:
    """Ask with a token; tells the scope, or why it is not let in."""
    answer, text = await opened.ask("/api/me", headers={"Authorization": f"Bearer {token}"})
    return str(msgspec.json.decode(text)["scope"]) if answer.status == 200 else str(answer.status)


async def wrong(opened: Visited) -> list[str]:
    """Tell what the page says of the file."""
    _, text = await opened.ask("/api/overview", headers={"Authorization": f"Bearer {ALICE}"})
    troubles = msgspec.json.decode(text)["troubles"]
    return [f"{each['what']} {each['action']}" for each in troubles if each["check"] == "tokens"]


async def test_who_is_added_is_let_in_and_told_of(
    site: Open, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    opened = await site(tokens_file=str(file), tokens={"prometheus": f"metrics:{SCRAPER}"})
    assert await scope_of(opened, BOB) == "401"

    write(file, ALICES + BOBS)
    await opened.server._tokens.look()

    assert await scope_of(opened, BOB) == "admin"
    assert await scope_of(opened, ALICE) == "operate"
    (said,) = [each.message for each in caplog.records if "http_tokens_changed" in each.message]
    assert "bob" in said
    assert "alice" not in said


async def test_the_file_is_looked_at_every_few_seconds(site: Open, file: Path) -> None:
    clock = ManualClock()
    opened = await site(tokens_file=str(file), clock=clock)

    write(file, ALICES + BOBS)
    await clock.advance(EVERY_S)

    assert await eventually(lambda: opened.server._guard.token(BOB), "the file is read again")


async def test_a_session_ends_when_its_token_is_removed_and_follows_its_scope(
    site: Open, file: Path
) -> None:
    write(file, ALICES + BOBS)
    opened = await site(tokens_file=str(file))
    answer, _ = await opened.ask("/api/session", "POST", json={"token": ALICE})
    (cookie,) = answer.cookies.values()
    browser = {"Cookie": f"{cookie.key}={cookie.value}"}

    write(file, f"alice={setting_of(ALICE, 'read')}\n" + BOBS)
    await opened.server._tokens.look()
    _, text = await opened.ask("/api/me", headers=browser)
    assert msgspec.json.decode(text)["scope"] == "read"

    write(file, BOBS)
    await opened.server._tokens.look()
    assert (await opened.ask("/api/me", headers=browser))[0].status == 401


@pytest.mark.parametrize(
    "text",
    ["", "# nobody\n", "alice\n", f"alice=root:{ALICE}\n", None],
    ids=["empty", "nobody", "no token", "no such scope", "no file"],
)
async def test_what_holds_no_tokens_changes_none_and_the_page_says_so(
    text: str | None, site: Open, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    opened = await site(tokens_file=str(file))

    write(file, text)
    await opened.server._tokens.look()
    await opened.server._tokens.look()

    assert await scope_of(opened, ALICE) == "operate"
    assert await scope_of(opened, BOB) == "401"
    (told,) = await wrong(opened)
    assert str(file) in told
    said = [each.message for each in caplog.records if "http_tokens_refused" in each.message]
    assert len(said) == 1, "once for each new reason"
    assert ALICE not in told + said[0]


async def test_a_mended_file_is_taken_and_the_trouble_goes(site: Open, file: Path) -> None:
    clock = ManualClock()
    opened = await site(tokens_file=str(file), clock=clock)
    write(file, "")
    await opened.server._tokens.look()
    assert await wrong(opened)

    write(file, ALICES + BOBS)
    await opened.server._tokens.look()
    clock.move(5)

    assert await wrong(opened) == []
    assert await scope_of(opened, BOB) == "admin"

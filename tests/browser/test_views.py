"""Every view: what it shows, on a desk and on a phone, for everybody."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.async_api import Page

from tests.browser.conftest import OpenTab
from tests.browser.legible import FAINT, KINDS, SIGHTS, UNTOLD, shape_of, states_seen
from tests.browser.views import VIEWS, View
from tests.support.chromium import DESKTOP, PHONE

pytestmark = pytest.mark.asyncio(loop_scope="session")

RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa")
COLOURS = ("color-contrast",)
"""What a theme alone can break, where all else was looked at in the other one."""
PICTURES = os.environ.get("SCREENSHOTS", "")
MOVING = "document.getAnimations().filter((each) => each.playState === 'running').length"
each_view = pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)


async def broken_rules(page: Page, rules: Sequence[str] = RULES) -> list[str]:
    """Name what axe finds: the rule, and where."""
    if not await page.evaluate("Boolean(window.axe)"):
        await page.evaluate(AXE_SCRIPT)
    found: dict[str, Any] = await page.evaluate(
        "(tags) => axe.run({runOnly: tags, resultTypes: ['violations']})", list(rules)
    )
    return [
        f"{rule['id']}: {node['target']} {node['html'][:160]}"
        for rule in found["violations"]
        for node in rule["nodes"][:3]
    ]


async def picture(page: Page, name: str) -> None:
    """Keep a picture, where ``SCREENSHOTS`` says so."""
    if PICTURES:
        await page.screenshot(path=Path(PICTURES) / f"{name}.png", full_page=True)


async def sideways(page: Page) -> list[str]:
    """Name what sticks out at the right, beyond the width of the screen."""
    wide: list[str] = await page.evaluate(
        """() => document.documentElement.scrollWidth <= innerWidth ? [] :
        [...document.querySelectorAll('body *')]
        .filter((each) => each.getBoundingClientRect().right > innerWidth + 1)
        .map((each) => `${each.tagName} ${each.className}`)"""
    )
    return wide


@each_view
async def test_a_view_is_whole_on_desk_and_phone_in_dark_and_light_for_everybody(
    view: View, tab: OpenTab
) -> None:
    opened = await tab(view.path)
    page = opened.page
    await page.get_by_text(view.shows).first.wait_for()

    await picture(page, f"{view.name}-dark")
    assert await broken_rules(page) == []
    await page.emulate_media(color_scheme="light")
    assert await broken_rules(page, COLOURS) == []
    await page.set_viewport_size(PHONE)
    await picture(page, f"{view.name}-phone-light")
    assert await sideways(page) == []
    assert await broken_rules(page) == []
    await page.emulate_media(color_scheme="dark")
    assert await broken_rules(page, COLOURS) == []

    await page.set_viewport_size(DESKTOP)
    await page.emulate_media(forced_colors="active", reduced_motion="reduce")
    await picture(page, f"{view.name}-forced")
    assert await page.evaluate(MOVING) == 0
    assert await page.evaluate(FAINT) == []
    assert await page.evaluate(UNTOLD) == []


async def test_states_are_told_apart_and_read_by_people_who_see_fewer_colours(
    tab: OpenTab,
) -> None:
    """
    Goal: no state is told by its colour alone, and each is legible.

    Method: Chromium simulates each kind of sight; signs and words are judged by their pixels.
    """
    page = (await tab("/about")).page
    for scheme in ("dark", "light"):
        await page.emulate_media(color_scheme=scheme)
        for sight in SIGHTS:
            seen = await states_seen(page, sight)
            assert [each["kind"] for each in seen] == KINDS
            for each in seen:
                assert each["sign"] >= 3, (scheme, sight, each["kind"])
                assert each["word"] >= 3, (scheme, sight, each["kind"])
            for one, other in itertools.combinations(seen, 2):
                apart = shape_of(one) ^ shape_of(other)
                assert len(apart) >= 8, (scheme, sight, one["kind"], other["kind"])

"""Every view: what it shows, on a desk and on a phone, for everybody."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.async_api import Page

from tests.browser.conftest import OpenTab
from tests.browser.views import VIEWS, View
from tests.support.chromium import PHONE

pytestmark = pytest.mark.asyncio(loop_scope="session")

RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa")
PICTURES = os.environ.get("SCREENSHOTS", "")
MOVING = "document.getAnimations().filter((each) => each.playState === 'running').length"
each_view = pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)


async def broken_rules(page: Page) -> list[str]:
    """Name what axe finds: the rule, and where."""
    await page.evaluate(AXE_SCRIPT)
    found: dict[str, Any] = await page.evaluate(
        "(tags) => axe.run({runOnly: tags, resultTypes: ['violations']})", list(RULES)
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
async def test_a_view_is_whole_on_a_desk_in_the_dark_and_on_a_phone_in_the_light_for_everybody(
    view: View, tab: OpenTab
) -> None:
    opened = await tab(view.path)
    page = opened.page
    await page.get_by_text(view.shows).first.wait_for()

    await picture(page, f"{view.name}-dark")
    assert await broken_rules(page) == []
    await page.set_viewport_size(PHONE)
    await page.emulate_media(color_scheme="light")
    await picture(page, f"{view.name}-phone-light")
    assert await sideways(page) == []
    assert await broken_rules(page) == []

    await page.emulate_media(forced_colors="active", reduced_motion="reduce")
    await picture(page, f"{view.name}-forced")
    assert await page.evaluate(MOVING) == 0

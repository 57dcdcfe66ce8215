"""What is pressed on the page happens in the queues, and the audit tells of it."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Callable

import msgspec
import pytest
from playwright.async_api import Page as Shown
from playwright.async_api import expect

from tests.browser.conftest import OpenTab
from tests.support.chromium import WAIT_MS
from tests.support.page_world import Page

pytestmark = pytest.mark.asyncio(loop_scope="session")

QUEUE = "steering"
numbers = itertools.count(1)


async def happens(so: Callable[[], bool]) -> None:
    """Wait until something is so in the queues."""
    async with asyncio.timeout(WAIT_MS / 1_000):
        while not so():  # noqa: ASYNC110 - the queues tell nobody
            await asyncio.sleep(0.02)


def control(world: Page, field: str) -> bytes | None:
    queue = world.queues[QUEUE]
    found: bytes | None = queue.call("HGET", queue.keys.control, field)
    return found


def dead_ids(world: Page) -> list[str]:
    return [entry.partition("-")[0] for entry, _ in world.queues[QUEUE].dead()]


def done(world: Page) -> int:
    queue = world.queues[QUEUE]
    return int(queue.call("HGET", queue.keys.stats, "done:steered") or 0)


async def press(shown: Shown, name: str, *, then: str = "", reason: str = "") -> None:
    """Press a button, and answer its question where it asks one."""
    await shown.locator("main").get_by_role("button", name=name, exact=True).first.click()
    if then:
        box = shown.get_by_role("dialog")
        if reason:
            await box.get_by_label("Reason").fill(reason)
        await box.get_by_role("button", name=then, exact=True).click()


async def test_a_queue_is_paused_and_that_is_taken_back(tab: OpenTab, world: Page) -> None:
    page = (await tab(f"/queues/{QUEUE}")).page

    await press(page, "Pause")
    await happens(lambda: control(world, "paused") == b"1")
    await page.get_by_role("log").get_by_role("button", name="Undo").click()
    await happens(lambda: not control(world, "paused"))

    # What somebody else did before is not taken back by the way, from a page that is old.
    await page.keyboard.press("p")
    await expect(page.get_by_role("button", name="Paused")).to_be_visible()
    queue = world.queues[QUEUE]
    queue.call("HSET", queue.keys.control, "paused", "1")
    await press(page, "Pause")
    log = page.get_by_role("log")
    await expect(log).to_contain_text("is paused")
    assert await log.get_by_role("button", name="Undo").count() == 0
    queue.call("HDEL", queue.keys.control, "paused")

    await page.goto(f"{world.address}/audit?queue={QUEUE}")
    main = page.locator("main")
    await expect(main).to_contain_text("resume")
    await expect(main).to_contain_text("pause")


async def test_concurrency_is_set_with_a_reason(tab: OpenTab, world: Page) -> None:
    page = (await tab(f"/queues/{QUEUE}")).page

    await page.locator("main").get_by_role("button", name="Concurrency").first.click()
    box = page.get_by_role("dialog")
    await box.get_by_label("Jobs at a time").fill("7")
    await box.get_by_label("Reason").fill("a quiet night")
    await box.get_by_role("button", name="Set", exact=True).click()
    await happens(lambda: control(world, "concurrency") == b"7")

    await page.goto(f"{world.address}/audit?queue={QUEUE}")
    await expect(page.locator("main")).to_contain_text("a quiet night")


async def test_a_type_is_held_and_released(tab: OpenTab, world: Page) -> None:
    page = (await tab(f"/queues/{QUEUE}")).page
    named = page.get_by_role("rowheader", name="other", exact=True)
    row = page.get_by_role("row").filter(has=named).first

    await row.get_by_role("button", name="Hold", exact=True).click()
    box = page.get_by_role("dialog")
    await expect(box.get_by_role("button", name="Hold it")).to_be_disabled()
    await box.get_by_label("Reason").fill("its provider is away")
    await box.get_by_role("button", name="Hold it").click()
    await happens(lambda: b"its provider is away" in (control(world, "hold:other") or b""))
    await row.get_by_role("button", name="Release", exact=True).click()
    await happens(lambda: not control(world, "hold:other"))


async def test_a_delayed_job_runs_now(tab: OpenTab, world: Page) -> None:
    job_id = f"later-{next(numbers)}"
    before = done(world)
    queue = world.queues[QUEUE]
    world.enqueue(QUEUE, "steered", id=job_id, delay=3_600_000)
    await happens(lambda: queue.call("ZCARD", queue.keys.delayed) == 1)
    page = (await tab(f"/jobs/{QUEUE}/{job_id}")).page

    await press(page, "Run now")

    await happens(lambda: done(world) == before + 1)
    assert queue.call("ZCARD", queue.keys.delayed) == 0
    await expect(page.locator("main")).to_contain_text("done")


async def test_a_job_is_cancelled_with_a_reason(tab: OpenTab, world: Page) -> None:
    job_id = f"cancelled-{next(numbers)}"
    world.enqueue(QUEUE, "steered", id=job_id, payload={"do": "hang"})
    page = (await tab(f"/jobs/{QUEUE}/{job_id}")).page

    await press(page, "Cancel…", then="Cancel the job", reason="sent twice")

    dead = world.queues[QUEUE].dead
    await happens(lambda: any(job_id.encode() in fields[1] for _, fields in dead()))
    await expect(page.locator("main")).to_contain_text("cancelled")


async def test_a_dead_job_is_retried_and_another_discarded(tab: OpenTab, world: Page) -> None:
    queue = world.queues[QUEUE]
    number = next(numbers)
    for name in ("retried", "discarded"):
        payload = {"do": "raise", "say": f"{name} {number}"}
        world.enqueue(QUEUE, "steered", id=f"{name}-{number}", payload=payload)
    found = lambda name: any(f"{name}-{number}".encode() in f[1] for _, f in queue.dead())  # noqa: E731
    await happens(lambda: found("retried") and found("discarded"))

    page = (await tab(f"/jobs/{QUEUE}/retried-{number}")).page
    await press(page, "Retry")
    redriven = b'"redrives":1'
    await happens(lambda: any(redriven in fields[1] for _, fields in queue.dead()))
    await page.goto(f"{world.address}/jobs/{QUEUE}/discarded-{number}")
    await page.locator("main").get_by_role("button", name="More steps").click()
    await page.get_by_role("menuitem", name="Discard…").click()
    await page.get_by_role("dialog").get_by_role("button", name="Discard the job").click()

    await happens(lambda: not found("discarded"))


async def test_a_group_is_discarded_by_its_queue_s_typed_name(tab: OpenTab, world: Page) -> None:
    """
    Goal: what drops many dead letters asks for a word that nobody types by accident.

    Method: nobody waits for the ten seconds in which it can be undone: their end comes sooner.
    """
    queue = world.queues[QUEUE]
    for number in range(101):
        payload = {"do": "raise", "say": "nobody wants this"}
        world.enqueue(QUEUE, "other", id=f"unwanted-{number}", payload=payload)
    unwanted = lambda: sum(b'"unwanted-' in fields[1] for _, fields in queue.dead())  # noqa: E731
    await happens(lambda: unwanted() == 101)
    page = (await tab(f"/dead?queue={QUEUE}&type=other")).page

    await page.get_by_role("link", name="nobody wants this").click()
    await page.get_by_role("button", name="Discard…").click()
    box = page.get_by_role("dialog")
    button = box.get_by_role("button", name="Discard 101")
    await expect(box).to_contain_text("101 jobs are dropped for good")
    await expect(button).to_be_disabled()
    await box.get_by_label(f"Type {QUEUE} to go on").fill(QUEUE.upper())
    await expect(button).to_be_disabled()
    await box.get_by_label(f"Type {QUEUE} to go on").fill(QUEUE)
    await box.get_by_label("Reason").fill("sent by a trial")
    await button.click()
    await expect(page).to_have_url(re.compile(rf"/operations/{QUEUE}/[\w-]+$"))
    await expect(page.get_by_role("button", name="Undo")).to_be_visible()
    assert unwanted() == 101
    name = page.url.rpartition("/")[2]
    record = msgspec.json.decode(queue.call("HGET", queue.keys.operations, name))
    assert record["commitMs"] > queue.now_ms()
    sooner = msgspec.json.encode({**record, "commitMs": queue.now_ms()})
    queue.call("HSET", queue.keys.operations, name, sooner)

    await happens(lambda: unwanted() == 0)
    await expect(page.locator("main")).to_contain_text("finished")
    await expect(page.get_by_role("img", name="101 dropped").first).to_be_visible()


async def test_a_schedule_is_run_paused_and_resumed(tab: OpenTab, world: Page) -> None:
    page = (await tab("/schedules")).page
    queue = world.queues["cleanup"]
    row = page.locator("main [data-row]").filter(has_text="daily-sweep").first
    waiting = queue.call("XLEN", queue.keys.lane("normal"))

    def paused() -> bool:
        return b'"paused":true' in queue.call("HGET", queue.keys.schedules, "daily-sweep")

    await row.get_by_role("button", name="Run now", exact=True).click()
    await happens(lambda: queue.call("XLEN", queue.keys.lane("normal")) == waiting + 1)
    await row.get_by_role("button", name="Pause", exact=True).click()
    await happens(paused)
    await row.get_by_role("button", name="Resume", exact=True).click()
    await happens(lambda: not paused())

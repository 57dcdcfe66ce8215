"""
How soon a browser that knows nothing of the page yet shows each of its main views.

    python -m benchmarks.first_load [--waiting 1000000] [--dead 100000] [--engines 50]
                                    [--others 100000] [--rounds 20] [--only PART] [--json FILE]

The server and the engine of ``benchmarks.page``, and a real Chromium with an empty cache for each
load. ``paint`` is when anything is seen, ``data`` when the first values stand on the page, both
from the call of the address; charts come later and are no part of it. Chromium shares the cores
with server and engine, and much of the time is its own: on a machine that others use, too, the CPU
time says more than the clock. It counts until one second after the first values.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
from playwright.async_api import Browser

from benchmarks.page import Api, add_sizes, filled, write_down
from benchmarks.scaling.app import QUEUE
from benchmarks.scaling.rig import Engine, cpu_us, engine, percentile, table
from benchmarks.suite.results import begun
from tests.support.chromium import MISSING, chromium, new_tab, running

TARGET_MS = 300.0
TARGET_BYTES = 150_000
SETTLED_MS = 1_000
"""What has not moved for so long after the first values does not move by itself."""

VIEWS = {
    "overview": ("/", "main .figures dd b"),
    "queue": (f"/queues/{QUEUE}", "main .figures dd b"),
    "job": ("", "main #payload"),
    "dead letters": ("/dead", "main td.d-jobs"),
}
"""Address of each view, and what there is once its first values are."""

SEEN = """
window.data = 0;
const watcher = new MutationObserver(() => {
  if (!window.data && document.querySelector(%r)) {
    requestAnimationFrame(() => { window.data = performance.now(); });
    watcher.disconnect();
  }
});
watcher.observe(document, {childList: true, subtree: true});
"""

UNTIL_DATA = """() => new Promise((done) => {
  const look = () => (window.data ? done() : setTimeout(look, 20));
  look();
})"""

TOLD = """() => {
  const all = ['navigation', 'resource'].flatMap((kind) => performance.getEntriesByType(kind))
    .filter((each) => !each.name.includes('/api/live'));
  const later = (each) => /uplot|chart|\\/api\\/series/.test(each.name);
  const first = all.filter((each) => !later(each));
  const sum = (list, name) => list.reduce((added, each) => added + each[name], 0);
  const paint = performance.getEntriesByName('first-contentful-paint')[0];
  return {
    paint: paint ? paint.startTime : 0, data: window.data, shift: window.seen.shift,
    requests: first.length, plain: sum(first, 'decodedBodySize'), sent: sum(first, 'transferSize'),
    later: sum(all.filter(later), 'decodedBodySize'),
  };
}"""


async def load(browser: Browser, served: Engine, path: str, sign: str) -> dict[str, float]:
    """Load a view once, with an empty cache, and tell what was seen of it."""
    tab = await new_tab(browser, f"http://{served.address}")
    try:
        # Another page of the address is open, so that to start a tab's process is not measured.
        await tab.page.goto(tab.base + "/live")
        engine_us, browser_us = served.cpu_us(), browser_cpu_us()
        await tab.page.add_init_script(SEEN % sign)
        await tab.page.goto(tab.base + path, wait_until="commit")
        await tab.page.evaluate(UNTIL_DATA)
        await tab.page.wait_for_timeout(SETTLED_MS)
        told: dict[str, float] = await tab.page.evaluate(TOLD)
        return told | {
            "engine": (served.cpu_us() - engine_us) / 1_000,
            "browser": (browser_cpu_us() - browser_us) / 1_000,
        }
    finally:
        await tab.page.context.close()


def browser_cpu_us() -> float:
    """CPU time that the processes of the browser have used."""
    used = 0.0
    for each in psutil.Process().children(recursive=True):
        # Those that end meanwhile are passed over.
        with suppress(psutil.NoSuchProcess):
            used += cpu_us(each) if "chrom" in each.name() else 0.0
    return used


async def measure(served: Engine, rounds: int, only: str) -> list[dict[str, Any]]:
    """Load every view so many times, by turns."""
    views = {name: view for name, view in VIEWS.items() if only in name}
    loads: dict[str, list[dict[str, float]]] = {name: [] for name in views}
    async with running() as browser:
        # The first of all starts processes of the browser, and fills caches of the engine.
        for number in range(rounds + 1):
            for name, (path, sign) in views.items():
                told = await load(browser, served, path or job_path(served.address), sign)
                if number:
                    loads[name].append(told)
    return [row(name, each) for name, each in loads.items()]


def job_path(address: str) -> str:
    """Return the address of a job's view, as the link of its list has it."""
    _, _, told = Api(address).ask(f"/api/queues/{QUEUE}/jobs?state=waiting&limit=1")
    found = told["jobs"][0]
    return f"/jobs/{QUEUE}/{quote(found['id'], safe='')}?at={quote(found['hint'], safe='')}"


def row(name: str, loads: list[dict[str, float]]) -> dict[str, Any]:
    """Say how a view loaded."""
    paint, data = [each["paint"] for each in loads], [each["data"] for each in loads]
    plain, shift = max(each["plain"] for each in loads), max(each["shift"] for each in loads)
    sent = max(each["sent"] for each in loads)
    met = percentile(data, 0.5) < TARGET_MS and sent < TARGET_BYTES and not shift
    return {
        "view": name,
        "loads": len(loads),
        "paint p50 ms": round(percentile(paint, 0.5)),
        "paint p95 ms": round(percentile(paint, 0.95)),
        "data p50 ms": round(percentile(data, 0.5)),
        "data p95 ms": round(percentile(data, 0.95)),
        "browser CPU ms": round(percentile([each["browser"] for each in loads], 0.5)),
        "engine CPU ms": round(percentile([each["engine"] for each in loads], 0.5)),
        "shift": round(shift, 4),
        "requests": round(max(each["requests"] for each in loads)),
        "kB plain": round(plain / 1_000, 1),
        "kB sent": round(sent / 1_000, 1),
        "kB later": round(max(each["later"] for each in loads) / 1_000, 1),
        "within 300 ms, 150 kB, no shift": "yes" if met else "NO",
    }


def main() -> None:
    """Fill, load, print, write down."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    add_sizes(parser)
    parser.add_argument("--rounds", type=int, default=20, help="loads of each view")
    parser.add_argument("--only", default="", help="a part of a view's name")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    if chromium() is None:
        parser.error(MISSING)
    settings = {name: str(value) for name, value in vars(asked).items() if name != "json"}
    document = begun(" ".join(["python -m benchmarks.first_load", *sys.argv[1:]]), settings)
    with filled(asked) as backend, engine(backend.url, cores={0, 1}) as served:
        rows = asyncio.run(measure(served, asked.rounds, asked.only))
    if not rows:
        parser.error(f"no view has {asked.only!r} in its name")
    table(f"{asked.waiting:,} waiting, {asked.dead:,} dead, {asked.engines} engines", rows)
    write_down(document, asked.json, {"first load": rows})


if __name__ == "__main__":
    main()

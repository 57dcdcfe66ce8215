"""The status page, as text."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest

from engine.admin.health import engine_findings, queue_findings, server_findings
from engine.dashboard.markup import Html, tag
from engine.dashboard.overview import Overview, Seen
from engine.dashboard.views import number, page, rate
from schemas.stats import (
    Beat,
    EngineStats,
    HeldType,
    LaneStats,
    PausedBy,
    QueueLoad,
    QueueStats,
    Server,
)

HOSTILE = "\"><script>alert(1)</script><img src=x onerror=alert(2)>\u202e\x00\x1b[2J&'`"


def queue(name: str = "message-delivery", **changes: Any) -> QueueStats:
    lanes = {
        lane: LaneStats(waiting=waiting, active=0, oldest_ms=0)
        for lane, waiting in (("critical", 0), ("high", 1), ("normal", 20), ("low", 300))
    }
    values: dict[str, Any] = {
        "queue": name,
        "paused": False,
        "paused_by": None,
        "concurrency": None,
        "lanes": lanes,
        "waiting": 321,
        "active": 7,
        "delayed": 12_512,
        "overdue": 0,
        "held": [],
        "dead": 0,
        "done_kept": 0,
        "oldest_ms": 400,
        "totals": {},
        "recent": {"done": 3_000},
        "engines": ["eng-1"],
    }
    return QueueStats(**{**values, **changes})


def engine(name: str = "eng-1", *, host: str = "host", live: bool = True) -> EngineStats:
    beat = Beat(
        name=name,
        host=host,
        pid=1,
        version="0.1.0",
        state="running",
        http="127.0.0.1:8787",
        started_ms=1,
        beat_ms=1,
        loop_lag_ms=2,
        rss_bytes=1 << 26,
        queues={"q": QueueLoad(running=3, buffered=0, concurrency=100, types=["t"])},
    )
    return EngineStats(beat=beat, silent_ms=500, live=live)


def server(**changes: Any) -> Server:
    values: dict[str, Any] = {
        "version": "valkey 9.1.2",
        "time_ms": 1,
        "memory_bytes": 1,
        "memory_bytes_max": 0,
        "eviction": "noeviction",
        "aof": True,
        "role": "master",
    }
    return Server(**{**values, **changes})


def seen(*queues: QueueStats, engines: tuple[EngineStats, ...] = (), trouble: str = "") -> Seen:
    findings = server_findings(server())
    for each in engines:
        findings += engine_findings(each)
    for each_queue in queues:
        findings += queue_findings(each_queue, must=True, backlog_age_ms_max=60_000)
    overview = Overview(
        at_ms=1, findings=findings, queues=list(queues), engines=list(engines), server=server()
    )
    return Seen(overview=overview, age_ms=4_200, trouble=trouble)


def shown(what: Seen) -> str:
    return page(what, engine="eng-1", version="0.1.0")


class Elements(HTMLParser):
    """Collects what a browser would make of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "link"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_says_that_all_is_well() -> None:
    text = shown(seen(queue(), queue("indexing"), engines=(engine(),)))

    assert "All 2 queues are well" in Elements(text).text
    assert "<title>✔ All 2 queues are well" in text


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"engines": []}, "no engine"),
        ({"oldest_ms": 61_000}, "behind"),
        ({"held": [HeldType(type="t", jobs=9, held=True, reason="403")]}, "held type"),
        ({"recent": {"dead": 3}}, "jobs die"),
    ],
)
def test_the_page_says_what_is_wrong(changes: dict[str, Any], word: str) -> None:
    text = Elements(shown(seen(queue(**changes), engines=(engine(),)))).text

    assert "1 thing needs attention" in text
    assert word in text


def test_a_pause_is_stated_without_alarm() -> None:
    paused = queue(paused=True, paused_by=PausedBy(who="on-call"), oldest_ms=10**9)
    text = Elements(shown(seen(paused, engines=(engine(),)))).text

    assert "The queue is well" in text
    assert "paused by on-call" in text


def test_without_the_server_the_old_numbers_stay_with_their_age() -> None:
    text = Elements(shown(seen(queue(), engines=(engine(),), trouble="connection: refused"))).text

    assert "Redis is away" in text
    assert "connection: refused" in text
    assert "4.2 s old" in text
    assert "message-delivery" in text


def test_before_the_first_overview_the_page_says_so() -> None:
    text = Elements(shown(Seen(overview=None, age_ms=0, trouble="no way"))).text

    assert "Nothing is known yet" in text


def test_an_empty_engine_shows_how_to_begin() -> None:
    assert "XADD mq:{my-queue}:normal" in Elements(shown(seen())).text


def test_strangers_names_are_text_and_nothing_else() -> None:
    """
    Goal: no name, reason or version becomes markup or turns the text's direction.

    Method: put hostile text in every field that comes from outside, and compare the page's
    elements with those of a harmless one.
    """

    def elements(text: str) -> Elements:
        held = HeldType(type=text, jobs=1, held=True, reason=text)
        hostile = queue(
            text,
            held=[held],
            engines=[text],
            paused=True,
            paused_by=PausedBy(who=text, reason=text),
        )
        engines = (engine(text, host=text), engine(text, live=False))
        what = seen(hostile, engines=engines, trouble=text)
        return Elements(page(what, engine=text, version=text))

    hostile, harmless = elements(HOSTILE), elements("harmless")
    assert [name for name, _ in hostile.tags] == [name for name, _ in harmless.tags]
    assert [set(attributes) for _, attributes in hostile.tags] == [
        set(attributes) for _, attributes in harmless.tags
    ]
    assert "<script>alert(1)</script>" in hostile.text
    assert hostile.text.replace("\n", "").isprintable()


def test_the_page_needs_nothing_that_its_policy_forbids() -> None:
    text = shown(seen(queue(), engines=(engine(),)))

    for name, attributes in Elements(text).tags:
        assert "style" not in attributes
        assert not any(attribute.startswith("on") for attribute in attributes)
        for attribute in ("src", "href"):
            value = attributes.get(attribute)
            assert value is None or re.match(r"/(?!/)", value), (name, value)
    assert re.search(r"<script[^>]*>[^<]", text) is None


def test_markup_escapes_all_that_it_did_not_build() -> None:
    assert tag("b", "<i>", Html("<i></i>"), title='"') == '<b title="&quot;">&lt;i&gt;<i></i></b>'


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (9_999, "9,999"),
        (10_000, "10.0k"),
        (12_512, "12.5k"),
        (999_400, "999k"),
        (999_600, "1.00M"),
        (1_240_000, "1.24M"),
        (3_000_000_000, "3.00G"),
    ],
)
def test_large_numbers_are_short(value: int, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("per_s", "text"),
    [(0, "0/s"), (2_310, "2,310/s"), (1.5, "1.5/s"), (0.1, "6.0/min"), (0.001, "3.6/h")],
)
def test_small_rates_have_larger_units(per_s: float, text: str) -> None:
    assert rate(per_s) == text

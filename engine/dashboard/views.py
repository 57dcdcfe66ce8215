"""An overview as a page. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from engine.admin.explain import span
from engine.admin.health import state_of
from engine.dashboard.markup import Child, Html, join, tag
from engine.dashboard.overview import Overview, Seen
from schemas.stats import EngineStats, Finding, LaneStats, QueueStats

RECENT_S = 300
BAR_WIDTH = 96

_SIGNS = {"bad": "✖", "warn": "▲", "well": "✔", "paused": "‖"}


def page(seen: Seen, *, engine: str, version: str) -> str:
    """Return the whole page."""
    overview = seen.overview
    title, kind = _verdict(seen)
    sections = [_trouble(seen), _findings(overview)]
    if overview is not None:
        sections += [_figures(overview), _queues(overview), _engines(overview)]
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{_SIGNS[kind]} {title} · Streamlane"),
        tag("link", rel="icon", href="/static/icon.svg", type="image/svg+xml"),
        tag("link", rel="stylesheet", href="/static/page.css"),
        tag("script", src="/static/page.js", defer=True),
        tag("noscript", Html('<meta http-equiv="refresh" content="10">')),
    )
    body = tag(
        "body",
        _header(engine, version),
        tag(
            "main",
            tag("h1", _sign(kind), " ", title, class_=f"verdict {kind}", role="status"),
            tag("div", *sections, id="live"),
        ),
        _footer(),
    )
    return f"<!doctype html>{tag('html', head, body, lang='en')}"


def _verdict(seen: Seen) -> tuple[str, str]:
    overview = seen.overview
    if overview is None or seen.trouble:
        return "Redis is away", "bad"
    bad = {finding.queue or finding.check for finding in _of(overview, "error")}
    if bad:
        return _needs(len(bad)), "bad"
    warned = [each for each in _of(overview, "warning") if each.check != "paused"]
    if warned:
        return _needs(len({each.queue or each.check for each in warned})), "warn"
    count = len(overview.queues)
    if not count:
        return "Nothing is queued yet", "well"
    return ("The queue is well" if count == 1 else f"All {count} queues are well"), "well"


def _needs(count: int) -> str:
    return "1 thing needs attention" if count == 1 else f"{count} things need attention"


def _of(overview: Overview, severity: str) -> list[Finding]:
    return [finding for finding in overview.findings if finding.severity == severity]


def _header(engine: str, version: str) -> Html:
    logo = tag(
        "svg",
        *(
            tag("rect", x=0, y=y, width=width, height=3, rx=1)
            for y, width in ((1, 18), (6, 14), (11, 9))
        ),
        viewBox="0 0 18 15",
        width=18,
        height=15,
        aria_hidden="true",
    )
    who = tag("span", f"{engine} · {version}", class_="muted mono")
    return tag("header", tag("span", logo, "Streamlane", class_="brand"), who)


def _footer() -> Html:
    places = (
        ("/api/overview", "JSON"),
        ("/metrics", "metrics"),
        ("/schemas", "schemas"),
        ("/ready", "readiness"),
        ("/sd", "service discovery"),
    )
    links: list[Child] = [tag("a", name, href=path) for path, name in places]
    return tag("footer", *links)


def _trouble(seen: Seen) -> Html | None:
    if not seen.trouble:
        return None
    age = f"What follows is {span(seen.age_ms)} old." if seen.overview else "Nothing is known yet."
    return tag("p", tag("b", "No news from Redis: "), seen.trouble, ". ", age, class_="banner bad")


def _findings(overview: Overview | None) -> Html | None:
    if overview is None or not overview.findings:
        return None
    rows = [
        tag(
            "li",
            _sign("bad" if finding.severity == "error" else "warn"),
            tag("span", finding.message, class_="what"),
            tag("code", finding.action),
        )
        for finding in overview.findings
    ]
    return tag("ul", *rows, class_="findings card", aria_label="What needs attention")


def _figures(overview: Overview) -> Html:
    queues = overview.queues
    oldest = max(queues, key=lambda queue: queue.oldest_ms, default=None)
    live = sum(engine.live for engine in overview.engines)
    dead_recent = sum(queue.recent.get("dead", 0) for queue in queues)
    silent = len(overview.engines) - live
    figures = [
        (
            "Oldest waiting",
            span(oldest.oldest_ms) if oldest and oldest.waiting else "none",
            oldest.queue if oldest and oldest.waiting else "",
        ),
        ("Waiting", _number(sum(queue.waiting for queue in queues)), _running(queues)),
        (
            "Done",
            rate(sum(queue.recent.get("done", 0) for queue in queues) / RECENT_S),
            "over 5 min",
        ),
        ("Dead", _number(sum(queue.dead for queue in queues)), f"{dead_recent} in 5 min"),
        ("Engines", _number(live), f"{silent} silent" if silent else "all beating" if live else ""),
    ]
    return tag(
        "dl",
        *(
            tag("div", tag("dt", name), tag("dd", tag("b", value), " ", tag("span", rest)))
            for name, value, rest in figures
        ),
        class_="figures card",
    )


def _running(queues: Sequence[QueueStats]) -> Html:
    return join(_number(sum(queue.active for queue in queues)), " running")


def _queues(overview: Overview) -> Html:
    if not overview.queues:
        example = "XADD mq:{my-queue}:normal * type my-type data '{}'"
        return tag(
            "section",
            tag("h2", "Queues"),
            tag(
                "p",
                "A queue appears with its first engine or job. A job is one line, from any client:",
                class_="muted",
            ),
            tag("pre", example, class_="card"),
        )
    rows = [_queue_row(queue, overview) for queue in overview.queues]
    names = ("Queue", "State", ">Oldest", ">Waiting", "By lane", ">Running", ">Delayed", ">Held")
    return _table("Queues", "worst first", (*names, ">Dead", ">Done", ">Retried"), rows)


def _queue_row(queue: QueueStats, overview: Overview) -> Html:
    _, kind, word = state_of(queue.queue, overview.findings)
    held = sum(each.jobs for each in queue.held)
    cells = (
        tag("th", queue.queue, scope="row"),
        tag("td", _sign(kind), " ", word, class_=kind),
        _right(span(queue.oldest_ms) if queue.waiting else "—"),
        _right(_number(queue.waiting)),
        tag("td", _bar(queue.lanes)),
        _right(_number(queue.active)),
        _right(_number(queue.delayed)),
        _right(_number(held)),
        _right(_number(queue.dead), "bad" if queue.dead else ""),
        _right(rate(queue.recent.get("done", 0) / RECENT_S)),
        _right(rate(queue.recent.get("retried", 0) / RECENT_S)),
    )
    return tag("tr", *cells)


def _bar(lanes: Mapping[str, LaneStats]) -> Html:
    """Show how waiting jobs share out over the lanes; the order of segments is that of lanes."""
    total = sum(lane.waiting for lane in lanes.values())
    if not total:
        return tag("span", "—", class_="muted")
    told = ", ".join(f"{name} {lane.waiting}" for name, lane in lanes.items() if lane.waiting)
    parts = []
    at = 0.0
    for name, lane in lanes.items():
        width = lane.waiting / total * BAR_WIDTH
        if width:
            shown = f"{max(width - 1.5, 1):.1f}"
            parts.append(
                tag("rect", x=f"{at:.1f}", y=0, width=shown, height=10, class_=f"lane-{name}")
            )
        at += width
    return tag(
        "svg",
        tag("title", told),
        *parts,
        viewBox=f"0 0 {BAR_WIDTH} 10",
        width=BAR_WIDTH,
        height=10,
        role="img",
        aria_label=told,
    )


def _engines(overview: Overview) -> Html:
    if not overview.engines:
        return tag(
            "section",
            tag("h2", "Engines"),
            tag("p", "No engine has been heard of.", class_="muted"),
        )
    names = ("Engine", "State", ">Running", ">Loop lag", ">Memory", ">Last beat", "Host", "Version")
    rows = [_engine_row(engine) for engine in overview.engines]
    return _table("Engines", "", names, rows)


def _engine_row(engine: EngineStats) -> Html:
    beat = engine.beat
    running = sum(load.running for load in beat.queues.values())
    slots = sum(load.concurrency for load in beat.queues.values())
    kind, word = ("well", beat.state) if engine.live else ("warn", "silent")
    return tag(
        "tr",
        tag("th", beat.name, scope="row"),
        tag("td", _sign(kind), " ", word, class_=kind),
        _right(f"{running} of {slots}"),
        _right(span(beat.loop_lag_ms)),
        _right(f"{beat.rss_bytes / 1_048_576:.0f} MiB"),
        _right(f"{span(engine.silent_ms)} ago"),
        tag("td", beat.host),
        tag("td", beat.version),
    )


def _table(name: str, note: str, columns: Sequence[str], rows: Sequence[Html]) -> Html:
    heads = [
        tag("th", column.lstrip(">"), scope="col", class_="num" if column[0] == ">" else None)
        for column in columns
    ]
    table = tag("table", tag("thead", tag("tr", *heads)), tag("tbody", *rows))
    # The frame scrolls sideways on narrow screens, so keyboards must be able to reach it.
    frame = tag("div", table, class_="card scroll", tabindex=0, role="region", aria_label=name)
    title = tag("h2", name, " ", tag("small", note) if note else None)
    return tag("section", title, frame)


def _right(value: Child, kind: str = "") -> Html:
    return tag("td", value, class_=f"num {kind}".strip())


def _sign(kind: str) -> Html:
    return tag("span", _SIGNS[kind], class_=f"sign {kind}", aria_hidden="true")


def _number(value: int) -> Html:
    return tag("span", number(value), title=str(value) if value > 9_999 else None)


def number(value: int) -> str:
    """Write a count: exact to 9,999, then three digits and a unit."""
    if value <= 9_999:
        return f"{value:,}"
    for size, unit in ((1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")):
        # What would be rounded up to a thousand of a unit belongs to the next one.
        if value >= size * 0.9995:
            scaled = value / size
            digits = 2 if scaled < 9.995 else 1 if scaled < 99.95 else 0
            return f"{scaled:.{digits}f}{unit}"
    return str(value)


def rate(per_s: float) -> str:
    """Write jobs per second, small rates per minute or hour."""
    if per_s == 0:
        return "0/s"
    for size, unit in ((1, "s"), (60, "min"), (3_600, "h")):
        if per_s * size >= 1:
            scaled = per_s * size
            return f"{scaled:.1f}/{unit}" if scaled < 10 else f"{number(round(scaled))}/{unit}"
    return "<1/h"

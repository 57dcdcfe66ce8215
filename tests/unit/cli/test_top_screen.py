"""What ``top`` draws."""

from __future__ import annotations

import io
from typing import Any

import msgspec
import pytest
from rich.console import Console

from engine.admin.health import queue_findings
from engine.cli.top import note_rates
from engine.cli.top_fit import fitted
from engine.cli.top_screen import BAR_CELLS, Screen, Seen, draw, lane_bar, trend
from schemas.stats import Audited, DeadGroup, LaneStats
from tests.support.page import HOSTILE, engine, queue, server


def seen(**changes: Any) -> Seen:
    queues = [queue("sick", paused=False, oldest_ms=120_000, dead=3), queue("well")]
    findings = []
    for each in queues:
        findings += queue_findings(each, must=True, backlog_age_ms_max=60_000)
    values: dict[str, Any] = {
        "at_ms": 1_795_359_661_437,
        "server": server(),
        "engines": [engine()],
        "queues": queues,
        "findings": findings,
        "audit": [
            Audited(at=1, who="ada", what="pause", queue="well", detail={}, reason="index rebuild")
        ],
    }
    return Seen(**{**values, **changes})


def drawn(what: Seen, screen: Screen, *, width: int = 140) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    console.print(draw(what, screen))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_everything_is_there_at_a_glance() -> None:
    text = drawn(seen(), Screen(every_s=1, rates={"well": [10.0, 20.0]}))

    for told in ("valkey 9.1.2", "▲ behind", "✔ well", "eng-1", "ada", "index rebuild", "20/s"):
        assert told in text
    assert "120,000" not in text
    assert text.index("sick") < text.index("well")


def test_details_show_lanes_types_and_groups_of_the_chosen_queue() -> None:
    group = DeadGroup(
        fingerprint="0123456789ab",
        jobs=3,
        first_ms=1,
        last_ms=2,
        type="greet",
        reason="exhausted",
        kind="ValueError",
        message="no luck",
        sample="x",
    )

    text = drawn(seen(groups=[group]), Screen(every_s=1, chosen="sick", details=True))

    for told in ("critical", "0123456789ab", "ValueError: no luck"):
        assert told in text
    assert "eng-1" not in text


def test_trouble_stands_above_what_was_known() -> None:
    text = drawn(seen(), Screen(every_s=1, trouble="connection refused"))

    assert "no news: connection refused" in text
    assert "sick" in text


def test_names_of_strangers_have_no_power_over_the_terminal() -> None:
    text = drawn(seen(engines=[engine(HOSTILE, host=HOSTILE)]), Screen(every_s=1), width=400)

    assert "\x1b" not in text
    assert "\u202e" not in text


@pytest.mark.parametrize("width", [60, 80, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    text = drawn(seen(), Screen(every_s=1, rates={"sick": [1.0] * 40}), width=width)

    assert max(map(len, text.splitlines())) <= width


def test_each_lane_that_waits_has_its_part_of_the_bar() -> None:
    lanes = {
        name: LaneStats(waiting=waiting, active=0, oldest_ms=0)
        for name, waiting in (("critical", 1), ("high", 0), ("normal", 10_000), ("low", 0))
    }

    bar = lane_bar(queue(lanes=lanes))

    assert [span.style for span in bar.spans] == ["white", "blue"]
    assert len(bar.plain) == BAR_CELLS + 1


@pytest.mark.parametrize(
    ("values", "shown"), [([], ""), ([0, 0], "▁▁"), ([0, 5, 10], "▁▅█"), ([1] * 30, "█" * 20)]
)
def test_a_trend_begins_at_zero(values: list[float], shown: str) -> None:
    assert trend(values) == shown


def test_rates_are_taken_by_the_server_s_clock() -> None:
    rates: dict[str, list[float]] = {}
    before = seen(queues=[queue("q", totals={"done": {"t": 100}})])
    after = seen(queues=[queue("q", totals={"done": {"t": 400, "u": 20}}), queue("new")])

    note_rates(rates, before, msgspec.structs.replace(after, at_ms=before.at_ms + 2_000))
    note_rates(rates, after, after)

    assert rates == {"q": [160.0]}


@pytest.mark.parametrize(("width", "height"), [(140, 40), (100, 24), (60, 12), (40, 8), (30, 6)])
@pytest.mark.parametrize("details", [False, True])
def test_whatever_the_window_the_chosen_queue_and_the_keys_are_in_it(
    width: int, height: int, details: bool
) -> None:
    queues = [queue(f"q-{number:02}", oldest_ms=120_000) for number in range(50)]
    findings = queue_findings(queues[0], must=True, backlog_age_ms_max=60_000) * 9
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=False)
    for chosen in ("q-00", "q-27", "q-49"):
        screen = Screen(every_s=1, chosen=chosen, details=details)

        told = console.render_lines(
            fitted(seen(queues=queues, findings=findings), screen, console), pad=False
        )

        lines = ["".join(part.text for part in line) for line in told]
        assert len(lines) <= height
        assert any(f"▶ {chosen[:3]}" in line for line in lines)
        assert lines[-1].startswith("↑↓ queue")
        assert lines[0].startswith("Streamlane")

"""How answers are printed."""

from __future__ import annotations

import io
import shutil
import sys
from os import terminal_size

import pytest

from engine.cli.output import age, clean, clock_time, moment_ms, print_table, size
from engine.clock import SystemClock


def test_piped_tables_are_aligned_and_bare(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["NAME", ">N", "LAST"], [["a", ("1", "red"), "x"], ["long name", "22", ""]])

    assert capsys.readouterr().out == ("NAME        N  LAST\na           1  x\nlong name  22\n")


class Terminal(io.StringIO):
    """A standard output that is a terminal."""

    def isatty(self) -> bool:
        return True


def test_terminals_get_colour_and_a_wrapped_last_column(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(shutil, "get_terminal_size", lambda: terminal_size((40, 20)))
    monkeypatch.delenv("NO_COLOR", raising=False)

    print_table(["NAME", "TEXT"], [[("bad", "red"), "word " * 10]])

    lines = screen.getvalue().splitlines()
    assert "\x1b[31mbad\x1b[0m" in lines[1]
    assert lines[2].startswith("      word")
    assert all(len(line) <= 40 + len("\x1b[31m\x1b[0m") for line in lines[1:])


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("NO_COLOR", "1")

    print_table(["NAME"], [[("bad", "red")]])

    assert "\x1b" not in screen.getvalue()


@pytest.mark.parametrize(
    ("text", "shown"),
    [("plain ü", "plain ü"), ("\x1b[2J", "\\x1b[2J"), ("a\nb", "a\\nb"), ("\u202ex", "\\u202ex")],
)
def test_strangers_text_has_no_power(text: str, shown: str) -> None:
    assert clean(text) == shown


def test_moments_are_durations_or_iso_times() -> None:
    now_ms = SystemClock().now_ms()

    assert abs(now_ms - 900_000 - moment_ms("15m")) < 5_000
    assert moment_ms("2026-01-02T03:04:05Z") == 1_767_323_045_000
    assert moment_ms("2026-01-02") == 1_767_312_000_000
    with pytest.raises(ValueError, match="isoformat"):
        moment_ms("soon")


def test_times_and_sizes_are_for_people() -> None:
    assert age(90_000, 100_000) == "10 s ago"
    assert age(110_000, 100_000) == "in 10 s"
    assert age(0) == ""
    assert clock_time(1_767_323_045_006) == "2026-01-02 03:04:05.006 UTC"
    assert clock_time(10**17) == "100000000000000000"
    assert [size(10), size(2048), size(3 * 1_048_576)] == ["10 B", "2.0 KiB", "3.0 MiB"]

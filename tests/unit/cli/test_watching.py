"""Answers that are shown again and again."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner
from rich.text import Text

from engine.cli import watching
from engine.cli.keyboard import named
from engine.cli.watching import watch_for_ever, watchable
from engine.errors import StoreUnavailable


class Times:
    """Sleeps that end with Ctrl-C after some."""

    def __init__(self, times: int) -> None:
        self.left = times

    def __call__(self, _: float) -> None:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


def test_without_a_terminal_answers_follow_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    answers = iter("abc")

    watch_for_ever(lambda: click.echo(next(answers)), 1, sleep=Times(3))

    assert capsys.readouterr().out == "a\nb\nc\n"


def test_what_fails_is_told_and_looked_at_again(capsys: pytest.CaptureFixture[str]) -> None:
    answers = iter([StoreUnavailable("connection", "refused"), None])

    def look() -> None:
        error = next(answers)
        if error:
            raise error
        click.echo("well")

    watch_for_ever(look, 1, sleep=Times(2))

    told = capsys.readouterr()
    assert told.out == "well\n"
    assert "error: " in told.err
    assert "refused" in told.err


def test_on_a_terminal_the_answer_is_drawn_in_place_with_its_colours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: list[Text] = []

    class Live:
        def __enter__(self) -> Live:
            return self

        def __exit__(self, *_: object) -> None: ...

        def update(self, text: Text, *, refresh: bool) -> None:
            drawn.append(text)

    def look() -> None:
        click.secho("well", fg="green")
        click.echo("a note", err=True)

    monkeypatch.setattr(watching, "is_terminal", lambda: True)
    monkeypatch.setattr(watching, "_drawing", Live)

    watch_for_ever(look, 1, sleep=Times(2))

    assert len(drawn) == 2
    assert drawn[0].plain.endswith("well\na note\n")
    assert [span for span in drawn[0].spans if drawn[0].plain[span.start : span.end] == "well"]


def test_a_watchable_command_runs_once_if_not_told_otherwise() -> None:
    @click.command()
    @watchable
    def look() -> int:
        click.echo("once")
        return 3

    found = CliRunner().invoke(look, [], standalone_mode=False)

    assert (found.output, found.return_value) == ("once\n", 3)


@pytest.mark.parametrize(
    ("sent", "keys"),
    [
        ("q", ["q"]),
        ("\x1b[A\x1b[B", ["up", "down"]),
        ("\x1b", ["escape"]),
        ("j k\r", ["j", "space", "k", "enter"]),
        ("\x03", ["q"]),
        ("", []),
    ],
)
def test_keys_are_named(sent: str, keys: list[str]) -> None:
    assert named(sent) == keys

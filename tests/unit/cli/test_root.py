"""What the command says to words that it does not know, and where some are missing."""

from __future__ import annotations

import pytest
from click.testing import CliRunner, Result

from engine.cli import main


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def test_a_group_without_a_command_shows_its_help() -> None:
    ran = run("dead")

    assert ran.exit_code == 2
    assert "Commands:\n" in ran.stderr
    assert "analyse" in ran.stderr


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("queus", "did you mean 'queues'?"),
        ("operation", "did you mean 'operations'?"),
        ("xyzzy", "No such command 'xyzzy'. (see `"),
    ],
)
def test_a_misspelled_command_is_told_its_name(word: str, told: str) -> None:
    ran = run(word)

    assert ran.exit_code == 2
    assert told in ran.stderr
    assert len(ran.stderr.splitlines()) == 1


def test_a_server_that_is_away_is_told_with_where_its_address_comes_from() -> None:
    ran = run("--redis-url", "redis://127.0.0.1:1", "queues", "orders")

    assert ran.exit_code == 3
    assert "cannot reach the server" in ran.stderr
    assert "ENGINE_REDIS_URL or --redis-url" in ran.stderr


def test_one_state_is_listed_at_a_time() -> None:
    ran = run("jobs", "orders", "dead", "--state", "done")

    assert ran.exit_code == 2
    assert "one state at a time, not dead and done" in ran.stderr


def test_a_state_that_there_is_not_is_told_those_there_are() -> None:
    ran = run("jobs", "orders", "nowhere")

    assert ran.exit_code == 2
    assert "'waiting-children'" in ran.stderr

"""A fresh token, and what settings keep of it."""

from __future__ import annotations

import msgspec
from click.testing import CliRunner

from engine.cli import main
from engine.settings import load_engine
from engine.tokens import read_tokens


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["token", *arguments])
    return result.exit_code, result.output


def test_a_token_opens_what_the_line_of_settings_says() -> None:
    code, output = run("alice", "--scope", "operate", "--json")
    made = msgspec.json.decode(output)

    loaded = load_engine({"ENGINE_HTTP_TOKENS": f"alice={made['setting']}"}).settings
    (token,) = read_tokens("", loaded.http_tokens)
    (plain,) = read_tokens("", {"alice": f"operate:{made['token']}"})

    assert code == 0
    assert token == plain
    assert made["token"] not in made["setting"]


def test_no_token_is_made_twice_and_the_hash_stands_beside_it() -> None:
    first, second = run("alice")[1], run("alice")[1]

    assert first.splitlines()[0] != second.splitlines()[0]
    assert first.splitlines()[-1].startswith("alice=read:sha256:")


def test_a_name_that_settings_refuse_is_refused() -> None:
    code, output = run("a b")

    assert code == 2
    assert "'a b' is no name" in output

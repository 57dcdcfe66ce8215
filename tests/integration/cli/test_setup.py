"""Commands about settings, schemas, migrations, and the frame around all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner

from engine.cli import main
from engine.cli.root import Commands
from tests.integration.cli.conftest import Cli

DEAD = [("dead", name) for name in ("list", "show", "analyse", "retry", "discard")]


@pytest.mark.parametrize("command", [(), *((name,) for name in Commands.places), *DEAD])
def test_every_command_explains_itself(command: tuple[str, ...]) -> None:
    found = CliRunner().invoke(main, [*command, "--help"])

    assert found.exit_code == 0, found.output
    assert "Usage:" in found.stdout
    if command != ("dead",):
        assert "Example" in found.stdout


def test_help_tells_the_exit_codes() -> None:
    shown = CliRunner().invoke(main, ["--help"]).stdout

    assert "Exit codes:" in shown
    assert "3  the server cannot be reached" in shown
    assert "_STREAMLANE_COMPLETE" in shown


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("nope",), "No such command 'nope'"),
        (("jobs",), "Missing argument 'QUEUE'"),
        (("jobs", "q", "--state", "odd"), "'odd' is not one of"),
        (("jobs", "q", "--limit", "0"), "not in the range"),
        (("dead", "list", "q", "--since", "soon"), "neither a duration"),
        (("--config", "missing.toml", "queues"), "does not exist"),
        (("run", "--processes", "0"), "not in the range"),
    ],
)
def test_wrong_usage_exits_with_2_in_one_line(cli: Cli, args: tuple[str, ...], told: str) -> None:
    found = cli(*args)

    assert found.exit_code == 2
    assert found.stderr.startswith("error: ")
    assert told in found.stderr
    assert len(found.stderr.splitlines()) == 1


def test_a_wrong_setting_exits_with_2(cli: Cli) -> None:
    found = cli("queues", ENGINE_CONCURENCY="3")

    assert found.exit_code == 2
    assert "did you mean ENGINE_CONCURRENCY" in found.stderr


def test_settings_show_sources_and_mask_secrets(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "engine.toml"
    file.write_text('concurrency = 20\npostgres_url = "postgresql://u:hunter2@h/db"\n')

    shown = cli("--config", str(file), "settings", ENGINE_LOG_LEVEL="debug")
    rows = {row["name"]: row for row in cli.json("--config", str(file), "settings")}

    assert "hunter2" not in shown.output
    assert "postgresql://u:***@h/db" in shown.stdout
    assert rows["concurrency"] == {
        "name": "concurrency",
        "variable": "ENGINE_CONCURRENCY",
        "value": "20",
        "source": "file",
        "meaning": rows["concurrency"]["meaning"],
    }
    assert all(row["meaning"] for row in rows.values())
    assert rows["redis_url"]["source"] == "environment"


def test_schemas_are_printed_or_written(cli: Cli, tmp_path: Path) -> None:
    one = orjson.loads(cli("schema", "send-message").stdout)
    every = orjson.loads(cli("schema").stdout)
    written = cli("schema", "--output", str(tmp_path / "out"))

    assert one["title"] == "send-message"
    assert one["x-queue"] == "message-delivery"
    assert one["$defs"]["Payload"]["properties"] == {"userId": {"type": "integer"}}
    assert every == {"send-message": one}
    file = tmp_path / "out" / "send-message.json"
    assert written.stdout.strip() == str(file)
    assert orjson.loads(file.read_bytes()) == one
    assert cli("schema", "nope").exit_code == 1


def test_migrate_applies_what_the_app_has(cli: Cli) -> None:
    assert cli("migrate").stdout == "applied 0001_first.sql\n"
    assert cli.json("migrate") == {"applied": ["0001_first.sql"]}
    assert cli("migrate", "--app", "cliapp:build").stdout == "nothing to do\n"


@pytest.mark.parametrize(
    ("app", "told"),
    [
        ("cliapp", "must be module:object"),
        ("cliapp:missing", "cliapp has no missing"),
        ("cliapp:number", "is a int; it must be"),
        ("cliapp:broken", "cannot be built: the key is missing"),
        ("nowhere.at.all:app", "there is no module nowhere"),
    ],
)
def test_an_app_that_cannot_be_loaded_is_told_clearly(cli: Cli, app: str, told: str) -> None:
    found = cli("migrate", ENGINE_APP=app)

    assert found.exit_code == 1
    assert told in found.stderr
    assert len(found.stderr.splitlines()) == 1


def test_debug_shows_where_an_error_came_from(cli: Cli) -> None:
    found = cli("--debug", "migrate", ENGINE_APP="cliapp:broken")

    assert "Traceback" in found.stderr
    assert "ValueError: the key is missing" in found.stderr


def test_the_module_runs_as_a_program() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "engine", "--version"], capture_output=True, text=True, check=True
    )

    assert ran.stdout.startswith("streamlane ")

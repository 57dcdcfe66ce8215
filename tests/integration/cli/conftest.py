"""The command line as a function, and a queue to look at."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result

from engine.cli import main
from tests.support.queue_writer import QueueWriter

APP = """
import msgspec
from engine import App, Registry

registry = Registry()

class Payload(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    user_id: int

@registry.job("send-message", queue="message-delivery")
async def send(job, payload: Payload) -> None: ...

async def migrate():
    return ["0001_first.sql"]

app = App(registry, migrate=migrate)
number = 7
nothing = App(Registry())

def build(settings):
    return registry

def broken(settings):
    raise ValueError("the key is missing")
"""


class Cli:
    """Runs commands in this process."""

    def __init__(self, environ: dict[str, str]) -> None:
        self.environ = environ

    def __call__(self, *args: str, **environ: str) -> Result:
        """Run one command; a bug in it is raised."""
        found = CliRunner().invoke(main, list(args), env={**self.environ, **environ})
        if found.exception is not None and not isinstance(found.exception, SystemExit):
            raise found.exception
        return found

    def json(self, *args: str) -> Any:
        """Run a command that must go well and return its JSON."""
        found = self(*args, "--json")
        assert found.exit_code == 0, found.output
        return orjson.loads(found.stdout)


@pytest.fixture
def clean_environ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take settings of whoever runs the tests away, and put an app into the directory."""
    for name in os.environ:
        if name.startswith("ENGINE_"):
            monkeypatch.delenv(name)
    (tmp_path / "cliapp.py").write_text(APP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.fixture
def cli(redis_url: str, clean_environ: None) -> Cli:
    """Give the command line, pointed at an empty server and a small app."""
    return Cli({"ENGINE_REDIS_URL": redis_url, "ENGINE_APP": "cliapp:app"})


@pytest.fixture
def queue(redis_url: str) -> Iterator[QueueWriter]:
    """Give a queue whose lanes are open."""
    writer = QueueWriter(redis_url)
    writer.open()
    yield writer
    writer.close()

"""What every command stands on: settings, the app, and an admin for the length of one call."""

from __future__ import annotations

import asyncio
import getpass
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from engine.admin import Admin
from engine.cli.completing import fingerprints, queue_names, type_names
from engine.errors import RegistryError
from engine.registry import App
from engine.settings import EngineSettings, Loaded, load_engine

Result = TypeVar("Result")

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
queue_argument = click.argument("queue", shell_complete=queue_names)


class Frame:
    """
    The global options, and what follows from them.

    Args:
        config: A TOML file.
        redis_url: Where the queues live, if said on the command line.
        debug: Show where errors came from.
    """

    def __init__(self, *, config: Path | None, redis_url: str | None, debug: bool) -> None:
        self.config = config
        self.redis_url = redis_url
        self.debug = debug

    def load(self, **overrides: Any) -> Loaded:
        """
        Read the settings; overrides that are None are left out.

        Raises:
            SettingsError: Something is unknown, cannot be read, or fails its check.
        """
        said = {"redis_url": self.redis_url, **overrides}
        given = {name: value for name, value in said.items() if value is not None}
        return load_engine(os.environ, file=self.config, overrides=given)

    @property
    def settings(self) -> EngineSettings:
        """The settings as they are without a command's own options."""
        return self.load().settings

    def arguments(self) -> list[str]:
        """Return the global options as they were given, for another process; no secrets."""
        return ["--config", str(self.config)] if self.config else []

    def environ(self) -> dict[str, str]:
        """Return the rest of them as variables, which other users of the machine cannot read."""
        return {"ENGINE_REDIS_URL": self.redis_url} if self.redis_url else {}

    def app(self, name: str | None = None) -> App:
        """
        Load the app that the settings name, or the one given.

        Raises:
            RegistryError: It cannot be found, fails to load, or is something else.
        """
        from engine.runtime.loading import load_app

        return load_app(self.load(app=name).settings)

    def types(self) -> dict[str, list[str]]:
        """Return the app's types by queue; where it does not load, a note on stderr says why."""
        try:
            registry = self.app().registry
        except RegistryError as error:
            note(f"only queues of running engines are known, since {error}")
            return {}
        return {queue: list(registry.in_queue(queue)) for queue in registry.queues()}

    def operate(self, verb: Callable[[Admin], Awaitable[Result]], *, known: bool = True) -> Result:
        """
        Call a verb on an admin.

        Args:
            verb: What to do.
            known: Whether the queues of the app have to be known.
        """
        settings = self.settings
        types = self.types() if known else {}

        async def call() -> Result:
            async with Admin(settings.redis_url, who=whoami(), types=types) as admin:
                return await verb(admin)

        return asyncio.run(call())


def whoami() -> str:
    """Name the person who acts, as the audit stream shows it."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        # A container's user need not have a name.
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def note(text: str) -> None:
    """Tell something beside the answer."""
    click.echo(f"note: {text}", err=True)


def filters(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that choose dead letters."""
    for option in reversed(
        [
            click.option(
                "--type",
                "job_type",
                default="",
                metavar="TYPE",
                shell_complete=type_names,
                help="Job type.",
            ),
            click.option("--reason", default="", help="Why they are dead, such as exhausted."),
            click.option(
                "--fingerprint",
                default="",
                shell_complete=fingerprints,
                help="Group, as `dead analyse` names it.",
            ),
            click.option("--text", default="", help="Text in id, error or fields, any case."),
            click.option("--since", type=Moment(), help="Died since: 15m, 2h, 1d or ISO time."),
            click.option("--before", type=Moment(), help="Died before: likewise."),
        ]
    ):
        function = option(function)
    return function


class Moment(click.ParamType[int]):
    """A time as Unix ms: a duration back from now, or ISO 8601."""

    name = "moment"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read what was typed."""
        from engine.cli.output import moment_ms

        if isinstance(value, int):
            return value
        try:
            return moment_ms(value)
        except ValueError:
            self.fail(f"{value!r} is neither a duration such as 15m nor an ISO time", param, ctx)

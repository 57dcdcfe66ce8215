"""The command itself: global options, the list of commands, errors and exit codes."""

from __future__ import annotations

import difflib
import importlib
import sys
import traceback
from pathlib import Path
from typing import Any, ClassVar, cast

import click

from engine.cli.frame import Frame
from engine.errors import EngineError, SettingsError, StoreUnavailable

FAILED = 1
USAGE = 2
UNREACHABLE = 3
INTERRUPTED = 130


class Commands(click.Group):
    """Commands that are imported when they are called, so that the daemon starts small."""

    places: ClassVar[dict[str, str]] = {
        "run": "engine.cli.serve:run",
        "dev": "engine.cli.serve:dev",
        "migrate": "engine.cli.setup:migrate",
        "enqueue": "engine.cli.enqueue:enqueue",
        "top": "engine.cli.top:top",
        "queues": "engine.cli.queues:queues",
        "jobs": "engine.cli.jobs:jobs",
        "job": "engine.cli.jobs:job",
        "cancel": "engine.cli.orders:cancel",
        "reschedule": "engine.cli.orders:reschedule",
        "run-now": "engine.cli.orders:run_now",
        "priority": "engine.cli.orders:priority",
        "dead": "engine.cli.dead:dead",
        "operations": "engine.cli.operations:operations",
        "schedule": "engine.cli.schedule:schedule",
        "pause": "engine.cli.queues:pause",
        "resume": "engine.cli.queues:resume",
        "concurrency": "engine.cli.queues:concurrency",
        "bounds": "engine.cli.bounds:bounds",
        "limit": "engine.cli.gates:limit",
        "order": "engine.cli.gates:order",
        "health": "engine.cli.health:health",
        "token": "engine.cli.token:token",
        "schema": "engine.cli.setup:schema",
        "settings": "engine.cli.setup:settings",
    }

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """List the commands in the order of a working day."""
        return list(self.places)

    def get_command(
        self,
        ctx: click.Context,
        cmd_name: str,
    ) -> click.Command | None:
        """Import one command."""
        if cmd_name not in self.places:
            close = difflib.get_close_matches(cmd_name, self.places, 1)
            if close:
                ctx.fail(f"No such command {cmd_name!r}; did you mean {close[0]!r}?")
            return None
        module, _, name = self.places[cmd_name].partition(":")
        return cast(click.Command, getattr(importlib.import_module(module), name))

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run a command; every failure becomes one line on stderr and an exit code."""
        try:
            code = super().main(*args, **{**extra, "standalone_mode": False})
        except (click.ClickException, click.Abort, EngineError) as error:
            if "--debug" in (extra.get("args") or (args[0] if args else None) or sys.argv):
                traceback.print_exception(error)
            line, code = explain(error)
            if line:
                click.echo(line, err=True)
        sys.exit(code if isinstance(code, int) else 0)


def explain(error: BaseException) -> tuple[str, int]:
    """Turn an error into one line and an exit code."""
    match error:
        case click.exceptions.NoArgsIsHelpError():
            return error.format_message(), USAGE
        case click.UsageError():
            command = error.ctx.command_path if error.ctx else "python -m engine"
            told = " ".join(error.format_message().split())
            return f"error: {told} (see `{command} --help`)", USAGE
        case click.ClickException():
            return f"error: {error.format_message()}", error.exit_code
        case click.Abort():
            return "", INTERRUPTED
        case SettingsError():
            return f"error: {error}", USAGE
        case StoreUnavailable():
            where = "ENGINE_REDIS_URL or --redis-url says where it is"
            return f"error: cannot reach the server: {error} ({where})", UNREACHABLE
    return f"error: {' '.join(str(error).split())}", FAILED


@click.command(
    cls=Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="TOML file with settings; ENGINE_CONFIG names one too.",
)
@click.option("--redis-url", help="Where the queues live; wins over ENGINE_REDIS_URL.")
@click.option("--debug", is_flag=True, help="Show where an error came from.")
@click.version_option(package_name="streamlane", message="streamlane %(version)s")
@click.pass_context
def main(ctx: click.Context, config: Path | None, redis_url: str | None, debug: bool) -> Any:
    """
    Streamlane: a job engine on Redis Streams.

    Without a command it runs the daemon, as `run` does.

    \b
    Examples:
      python -m engine dev                     try it: servers, processors, page
      python -m engine queues                  state of every queue, worst first
      python -m engine job n-1763769600000-0   one job's whole story
      python -m engine dead analyse QUEUE      what dead letters have in common
      python -m engine health                  exit code for scripts and probes

    \b
    Exit codes:
      0  well
      1  failed, not found, or unhealthy
      2  wrong usage or settings
      3  the server cannot be reached
    130  interrupted

    \b
    Settings come from ENGINE_* variables and a TOML file; `settings` shows them.
    Completion of the installed command, for bash (zsh and fish likewise):
      eval "$(_STREAMLANE_COMPLETE=bash_source streamlane)"
    """  # noqa: D301 - click reads \b
    ctx.obj = Frame(config=config, redis_url=redis_url, debug=debug)
    if ctx.invoked_subcommand is None:
        from engine.cli.serve import run

        return ctx.invoke(run)
    return None

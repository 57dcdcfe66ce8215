"""The group of commands, and what they have in common."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click
import structlog

from engine import EngineError

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


COMMANDS = {
    "attachments": "retention",
    "bounce": "bounce",
    "bulk": "queues",
    "demo": "demo",
    "failed": "queues",
    "gateway": "gateway",
    "health": "queues",
    "keyring": "keyring",
    "reply-key": "reply_key",
    "retention": "retention",
    "retry-failed": "queues",
    "search": "search",
    "settings": "settings",
    "ticket": "gateway",
}
"""The module of each command, imported when it is asked for: a mail server waits for `bounce`."""


class Commands(click.Group):
    """A group whose errors are one line on stderr and exit code 1."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return sorted(COMMANDS)

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's signature
        cmd_name: str,
    ) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"processors.cli.{COMMANDS[cmd_name]}")
        command: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except EngineError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=Commands, context_settings=CONTEXT)
def main() -> None:
    """
    Run and look at what belongs to messaging alone.

    The engine's own commands are in `python -m engine`. PostgreSQL and Redis
    are found as there: ENGINE_POSTGRES_URL and ENGINE_REDIS_URL.
    """


def run(arguments: Sequence[str] | None = None) -> None:
    """Run the command line, and end the process."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")
    # What a command prints is its answer alone; what services tell beside it goes to stderr.
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    main(args=arguments, prog_name="python -m processors", standalone_mode=True, obj=os.environ)

"""The group of commands, and what they have in common."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from typing import Any

import click
import structlog

from engine import EngineError
from processors.cli.bounce import bounce
from processors.cli.demo import demo
from processors.cli.gateway import gateway, ticket
from processors.cli.keyring import keyring
from processors.cli.queues import bulk, failed, health, retry_failed
from processors.cli.reply_key import reply_key
from processors.cli.retention import attachments, retention
from processors.cli.search import search
from processors.cli.settings import settings

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class Commands(click.Group):
    """A group whose errors are one line on stderr and exit code 1."""

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


main.add_command(attachments)
main.add_command(bounce)
main.add_command(bulk)
main.add_command(failed)
main.add_command(gateway)
main.add_command(health)
main.add_command(demo)
main.add_command(keyring)
main.add_command(reply_key)
main.add_command(retention)
main.add_command(retry_failed)
main.add_command(search)
main.add_command(settings)
main.add_command(ticket)


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

"""``bounce``: what a mail server does with mail that comes back."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Final

import click

from engine import EngineError, SyncClient, load_engine
from processors.rules.bounces import Bounce, read_bounce
from processors.settings import from_env
from schemas.messages import RecordStatus

QUEUE: Final = "notification"
BYTES_MAX: Final = 4 * 1_048_576
CODE_CHARS_MAX: Final = 64

TRY_LATER: Final = 75
"""EX_TEMPFAIL of sysexits.h: the mail server keeps the report and tries again."""


@click.command()
@click.option("--recipient", multiple=True, help="Address that it came to; may be given again.")
@click.pass_obj
def bounce(environ: Mapping[str, str], /, *, recipient: tuple[str, ...]) -> None:
    """
    Read a bounce or a complaint from stdin, and have it recorded.

    For a mail server to run: with Postfix, recipient_delimiter = + in main.cf
    and this in /etc/aliases, in one line. What is no report, or not about our
    mail, is ignored. Exit code 75 asks the server to try again.

    \b
    Example:
      bounces: "|env ENGINE_REDIS_URL=... python -m processors bounce"
    """  # noqa: D301 - click reads \b
    # Postfix names the address that it came to in its variables.
    told = (environ.get(name, "") for name in ("ORIGINAL_RECIPIENT", "RECIPIENT"))
    data = sys.stdin.buffer.read(BYTES_MAX)
    try:
        template = from_env(environ).email.return_path
        found = read_bounce(data, template=template, recipients=[*recipient, *filter(None, told)])
        if found is None:
            click.echo("ignored: this is no report that ends a delivery of ours", err=True)
            return
        _enqueue(load_engine(environ).settings.redis_url, found)
    except EngineError as error:
        click.echo(str(error), err=True)
        sys.exit(TRY_LATER)
    click.echo(f"delivery {found.delivery_id} {found.state}: {found.code}", err=True)


def _enqueue(url: str, found: Bounce) -> None:
    status = RecordStatus(
        channel="email",
        state=found.state,
        delivery_id=found.delivery_id,
        code=found.code[:CODE_CHARS_MAX],
    )
    with SyncClient(url) as client:
        client.enqueue(
            QUEUE, status, queue=QUEUE, id=f"bounce-{found.delivery_id.hex}-{found.state}"
        )

"""``token``: a fresh token for the page and the API."""

from __future__ import annotations

import click

from engine.cli.frame import json_option
from engine.cli.output import print_json
from engine.errors import SettingsError
from engine.settings import PREFIX
from engine.tokens import TOKEN_SCOPES, TokenScope, new_token, read_tokens, setting_of
from schemas.stats import View


class FreshToken(View, frozen=True, kw_only=True):
    """
    A token that was just made; it is kept nowhere.

    Attributes:
        name: Who is to hold it.
        scope: The most that it allows.
        token: The token itself, for its holder.
        setting: What the engines' settings say of it: its hash.
    """

    name: str
    scope: str
    token: str
    setting: str


@click.command()
@click.argument("name")
@click.option(
    "--scope",
    type=click.Choice(TOKEN_SCOPES),
    default="read",
    show_default=True,
    help="What it allows: to scrape, to look, to act on jobs and queues, or everything.",
)
@json_option
def token(name: str, scope: TokenScope, as_json: bool) -> None:
    """
    Make a token for the page, the API or Prometheus.

    NAME stands in the audit stream beside whatever is done with it. Nothing is
    stored: give the token to its holder, and the hash to the engines.

    \b
    Examples:
      python -m engine token alice --scope operate
      python -m engine token prometheus --scope metrics --json
    """  # noqa: D301 - click reads \b
    made = new_token()
    setting = setting_of(made, scope)
    try:
        read_tokens("", {name: setting})
    except ValueError as error:
        raise SettingsError(str(error)) from None
    if as_json:
        print_json(FreshToken(name=name, scope=scope, token=made, setting=setting))
        return
    click.echo(made)
    click.echo(
        f"\nThis is {name}'s token; it is shown once. Engines keep its hash, as a line of the\n"
        f"file that {PREFIX}HTTP_TOKENS_FILE names, or behind a comma in {PREFIX}HTTP_TOKENS:\n\n"
        f"{name}={setting}"
    )

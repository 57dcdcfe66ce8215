"""``settings``, ``schema`` and ``migrate``."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click
import msgspec
import orjson

from engine.cli.frame import Frame, json_option
from engine.cli.output import print_json, print_table
from engine.configuration import describe
from engine.errors import EngineError, NotFound
from engine.registry import App
from engine.settings import PREFIX
from schemas.stats import View


class SettingRow(View, frozen=True, kw_only=True):
    """One setting as it is shown; see :class:`engine.settings.Described`."""

    name: str
    variable: str
    value: str
    source: str
    meaning: str


class Migrated(View, frozen=True, kw_only=True):
    """Migrations that were applied."""

    applied: list[str]


@click.command()
@json_option
@click.pass_obj
def settings(frame: Frame, as_json: bool) -> None:
    """
    Show every setting: its variable, value, source and meaning; secrets masked.

    The TOML file (--config or ENGINE_CONFIG) uses the names in the first column;
    variables win over it. VARIABLE_FILE reads a value from a file.

    \b
    Example:
      ENGINE_CONCURRENCY=20 python -m engine settings
    """  # noqa: D301 - click reads \b
    loaded = frame.load()
    rows = [
        SettingRow(**msgspec.structs.asdict(row))
        for row in describe(loaded.settings, loaded.sources, PREFIX)
    ]
    if as_json:
        print_json(rows)
        return
    print_table(
        ["NAME", "VARIABLE", "VALUE", "SOURCE", "MEANING"],
        [[row.name, row.variable, row.value, row.source, row.meaning] for row in rows],
    )


@click.command()
@click.argument("types", nargs=-1, metavar="[TYPE]...")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write one TYPE.json each into this directory; made when missing.",
)
@click.option("--app", help="The handlers, as module:object; wins over ENGINE_APP.")
@click.option("--json", "_", is_flag=True, help="As it does anyway.")
@click.pass_obj
def schema(
    frame: Frame, types: tuple[str, ...], output: Path | None, app: str | None, _: bool
) -> None:
    """
    Print JSON Schemas of the field `data` of job types, for producers.

    One TYPE prints its schema; several or none print an object by type.

    \b
    Examples:
      python -m engine schema send-message
      python -m engine schema --output schemas/
    """  # noqa: D301 - click reads \b
    from engine.admin.contracts import job_schemas

    found = job_schemas(frame.app(app).registry)
    for name in types:
        if name not in found:
            raise NotFound(f"no job type {name}; there are {', '.join(found) or 'none'}")
    wanted = {name: found[name] for name in types or found}
    if output is None:
        shown = wanted[types[0]] if len(types) == 1 else wanted
        click.echo(orjson.dumps(shown, option=orjson.OPT_INDENT_2))
        return
    try:
        output.mkdir(parents=True, exist_ok=True)
        for name, each in wanted.items():
            path = output / f"{name}.json"
            path.write_bytes(orjson.dumps(each, option=orjson.OPT_INDENT_2) + b"\n")
            click.echo(path)
    except OSError as error:
        raise EngineError(f"cannot write to {output}: {error.strerror}") from None


@click.command()
@click.option("--app", help="The handlers, as module:object; wins over ENGINE_APP.")
@json_option
@click.pass_obj
def migrate(frame: Frame, app: str | None, as_json: bool) -> None:
    """
    Apply the app's outstanding SQL migrations.

    Safe to run twice and from several places at once.

    \b
    Example:
      ENGINE_POSTGRES_URL=postgresql://… python -m engine migrate
    """  # noqa: D301 - click reads \b
    applied = run_migrations(frame.app(app))
    if as_json:
        print_json(Migrated(applied=applied))
        return
    for name in applied:
        click.echo(f"applied {name}")
    if not applied:
        click.echo("nothing to do")


def run_migrations(app: App) -> list[str]:
    """
    Apply an app's outstanding migrations and return their names.

    Raises:
        EngineError: One failed, or the database cannot be reached.
    """
    if app.migrate is None:
        return []
    try:
        return asyncio.run(_call(app))
    except Exception as error:
        unreachable = isinstance(error, OSError)
        told = f"{'cannot reach the database' if unreachable else 'migration failed'}: {error}"
        raise EngineError(told) from error


async def _call(app: App) -> list[str]:
    assert app.migrate is not None
    return await app.migrate()

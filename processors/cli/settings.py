"""``settings``: what the processors are set to."""

from __future__ import annotations

from collections.abc import Mapping

import click
import msgspec
import orjson
from rich.console import Console
from rich.table import Table

from processors.settings import described


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
def settings(environ: Mapping[str, str], /, *, as_json: bool) -> None:
    """
    Show every setting of the processors: variable, value, source and meaning; secrets masked.

    VARIABLE_FILE reads a value from a file.
    """
    rows = described(environ)
    if as_json:
        shown = [msgspec.structs.asdict(row) for row in rows]
        click.echo(orjson.dumps(shown, option=orjson.OPT_INDENT_2))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("VARIABLE", "VALUE", "SOURCE", "MEANING"):
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(row.variable, row.value, row.source, row.meaning)
    Console().print(table)

"""``keyring``: files of the keys that wrap data keys."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import click

from processors.errors import ConfigurationError
from processors.rules.envelope import KEY_BYTES, check_value
from processors.rules.keyring import first, key_id_fault
from processors.services.keyrings import FIRST_ID, read_keyring, write_keyring

FILE = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))


@click.group()
def keyring() -> None:
    """
    Make and look at keyring files; keys themselves are never shown.

    The first key of a file wraps new data keys, the others open what they wrapped. To change
    keys: add one everywhere, make it primary everywhere, run an `encryption` job
    {"action":"rewrap"}, and only then remove the old one. Keep a copy apart from the
    database's: without its key, a conversation cannot be read again.
    """


@keyring.command()
@FILE
@click.option("--id", "key_id", default=FIRST_ID, show_default=True, help="Id of its key.")
def new(*, file: Path, key_id: str) -> None:
    """Make a keyring with one key, which only its owner may read."""
    _check(key_id, ())
    try:
        write_keyring(file, {key_id: os.urandom(KEY_BYTES)}, replace=False)
    except FileExistsError:
        raise ConfigurationError(
            f"{file} is there already; `keyring add` puts a key into it"
        ) from None
    except OSError as error:
        raise ConfigurationError(f"cannot make {file}: {error.strerror}") from None
    click.echo(f"made {file} with key {key_id}; set PROCESSORS_ENCRYPTION_KEYRING_FILE={file}")


@keyring.command()
@FILE
@click.argument("key_id", metavar="ID")
@click.option("--primary", is_flag=True, help="Wrap new data keys with it at once.")
def add(*, file: Path, key_id: str, primary: bool) -> None:
    """Add a new key to a keyring, as one that opens alone unless --primary is given."""
    keys = read_keyring(file)
    _check(key_id, keys)
    keys = {**keys, key_id: os.urandom(KEY_BYTES)}
    _write(file, first(keys, key_id) if primary else keys)
    click.echo(f"added key {key_id} to {file}{' as the primary one' if primary else ''}")


@keyring.command()
@FILE
@click.argument("key_id", metavar="ID")
def primary(*, file: Path, key_id: str) -> None:
    """Wrap new data keys with another key of the keyring."""
    keys = read_keyring(file)
    if key_id not in keys:
        raise ConfigurationError(f"keyring {file} has no key {key_id}")
    _write(file, first(keys, key_id))
    click.echo(f"key {key_id} is the primary one of {file}")


@keyring.command("list")
@FILE
def list_(*, file: Path) -> None:
    """List the ids of a keyring's keys, the primary one first, each with a check value."""
    for number, (key_id, key) in enumerate(read_keyring(file).items()):
        click.echo(f"{key_id}  {check_value(key).hex()}{'  primary' if number == 0 else ''}")


def _check(key_id: str, known: Iterable[str]) -> None:
    fault = key_id_fault(key_id, known)
    if fault:
        raise ConfigurationError(fault)


def _write(file: Path, keys: dict[str, bytes]) -> None:
    try:
        write_keyring(file, keys, replace=True)
    except OSError as error:
        raise ConfigurationError(f"cannot write {file}: {error.strerror}") from None

"""``reply-key``: keys for those who may read what ``decrypt`` returns."""

from __future__ import annotations

import base64
import os
import stat
import sys
from pathlib import Path
from typing import Any

import click
import msgspec

from processors.errors import ConfigurationError
from processors.rules.replies import KEY_BYTES, BadReply, BadReplyKey, key_bytes, opened, public_of
from schemas.messages import DecryptResult

FILE = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))


@click.group("reply-key")
def reply_key() -> None:
    """
    Make a key that values are sealed to, and open them with it.

    The private key stays with whoever asks; the public one goes into
    PROCESSORS_ENCRYPTION_REPLY_KEYS.
    """


@reply_key.command()
@FILE
def new(*, file: Path) -> None:
    """Make a private key, which only its owner may read, and show its public one."""
    private = os.urandom(KEY_BYTES)
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise ConfigurationError(f"cannot make {file}: {error.strerror}") from None
    with os.fdopen(descriptor, "w") as made:
        made.write(base64.b64encode(private).decode() + "\n")
    click.echo(base64.b64encode(public_of(private)).decode())


@reply_key.command()
@FILE
def show(*, file: Path) -> None:
    """Show the public key of a private one."""
    click.echo(base64.b64encode(public_of(_read(file))).decode())


@reply_key.command("open")
@FILE
def open_(*, file: Path) -> None:
    """Open the result of a decrypt job, read as JSON from standard input; a line a message."""
    private = _read(file)
    try:
        result = msgspec.json.decode(sys.stdin.buffer.read(), type=DecryptResult)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"this is no result of a decrypt job: {error}") from None
    for value in result.values:
        message_id, version = value.message_id, value.version
        try:
            content = opened(private, value.sealed or "", message_id=message_id, version=version)
        except BadReply as error:
            raise ConfigurationError(str(error)) from None
        shown: dict[str, Any] = {"messageId": message_id, "version": version}
        click.echo(msgspec.json.encode({**shown, "content": content.decode()}))


def _read(file: Path) -> bytes:
    try:
        mode = stat.S_IMODE(file.stat().st_mode)
        text = file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot read {file}: {error}") from None
    if mode & 0o077:
        raise ConfigurationError(f"{file} has mode {mode:04o}: others may read it; chmod 600 it")
    try:
        return key_bytes(text)
    except BadReplyKey as error:
        raise ConfigurationError(f"{file}: {error}") from None

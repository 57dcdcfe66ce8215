"""The text of a keyring: one key per line, the first of which wraps what is new."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from typing import Final

from processors.rules.envelope import KEY_BYTES

KEY_ID: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
HEADER: Final = (
    "# Keys of Streamlane's encryption, as id=base64. The first one wraps new data keys.\n"
)


class BadKeyring(ValueError):
    """The text is not a keyring; the message quotes no key."""


def parse(text: str) -> dict[str, bytes]:
    """
    Read keys by their ids, in order; there is at least one.

    Lines hold ``id=base64``; what follows a ``#`` is a remark. Several may stand on one line,
    parted by spaces or commas, as environment variables have them.

    Raises:
        BadKeyring: An id or a key is malformed, or an id comes twice.
    """
    keys: dict[str, bytes] = {}
    for number, line in enumerate(text.splitlines(), 1):
        for entry in line.partition("#")[0].replace(",", " ").split():
            key_id, key = _entry(entry, f"line {number}")
            if key_id in keys:
                raise BadKeyring(f"line {number}: key {key_id} comes twice")
            keys[key_id] = key
    if not keys:
        raise BadKeyring("it holds no key")
    return keys


def written(keys: Mapping[str, bytes]) -> str:
    """Write a keyring down."""
    lines = (f"{key_id}={base64.b64encode(key).decode()}\n" for key_id, key in keys.items())
    return HEADER + "".join(lines)


def first(keys: Mapping[str, bytes], key_id: str) -> dict[str, bytes]:
    """Put one key before all others."""
    return {key_id: keys[key_id], **keys}


def key_id_fault(key_id: str, known: Iterable[str]) -> str:
    """Say why a new key cannot have this id, or return an empty string."""
    if not KEY_ID.fullmatch(key_id):
        return f"the id {key_id!r} must match ^{KEY_ID.pattern}$"
    return f"there is a key {key_id} already" if key_id in known else ""


def _entry(entry: str, where: str) -> tuple[str, bytes]:
    key_id, equals, text = entry.partition("=")
    if not equals or not KEY_ID.fullmatch(key_id):
        raise BadKeyring(f"{where}: an entry must be written id=base64, with a plain id")
    try:
        key = base64.b64decode(
            text, altchars=b"-_" if set("-_") & set(text) else None, validate=True
        )
    except binascii.Error:
        raise BadKeyring(f"{where}: key {key_id} is not base64") from None
    if len(key) != KEY_BYTES:
        raise BadKeyring(f"{where}: key {key_id} has {len(key)} bytes, not {KEY_BYTES}")
    return key_id, key

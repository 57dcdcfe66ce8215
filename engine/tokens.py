"""Tokens of the HTTP side: who holds one, what it allows, and how it is written in settings."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

import msgspec

TokenScope = Literal["metrics", "read", "operate", "admin"]
TOKEN_SCOPES: tuple[TokenScope, ...] = get_args(TokenScope)

TOKEN_BYTES = 24
"""What a fresh token is made of: 192 bits of chance."""
CHARS_MIN = 22
"""Letters that hold 128 bits, as base64url writes them."""
CHARS_MAX = 512

HASHED = "sha256:"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")
DIGEST = re.compile(r"[0-9a-f]{64}")

MAIN = "token"
"""The holder of ``http_token``."""
LOCAL = "local"
"""Whoever asks over loopback where no token is set."""


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """
    One token, as it is kept.

    Attributes:
        name: Who holds it; the audit stream shows it.
        scope: The most that it allows.
        digest: SHA-256 of it.
    """

    name: str
    scope: TokenScope
    digest: bytes


def read_tokens(main: str, named: Mapping[str, str]) -> list[Token]:
    """
    Read all tokens of the settings.

    Args:
        main: The one that may do everything; empty for none.
        named: ``scope:token`` or ``scope:sha256:hash`` by name.

    Raises:
        ValueError: One of them is none, or two are the same. The error quotes no token.
    """
    tokens = [Token(name=MAIN, scope="admin", digest=digest_of(main))] if main else []
    tokens += [_read(name, text) for name, text in named.items()]
    holders: dict[bytes, str] = {}
    for token in tokens:
        other = holders.setdefault(token.digest, token.name)
        if other != token.name:
            raise ValueError(f"http_tokens: {other} and {token.name} hold the same token")
    return tokens


def all_tokens(main: str, named: Mapping[str, str], file: str) -> list[Token]:
    """
    Read all tokens of the settings and of a file, which is read anew.

    Args:
        main: The one that may do everything; empty for none.
        named: ``scope:token`` or ``scope:sha256:hash`` by name.
        file: Path of a file with further ones, ``name=scope:...`` a line; empty for none.

    Raises:
        ValueError: One of them is none, two are the same, or the file cannot be read or names
            none. The error quotes no token.
    """
    if not file:
        return read_tokens(main, named)
    try:
        listed = _read_lines(Path(file).read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"http_tokens_file: cannot read {file}: {error}") from None
    except ValueError as error:
        raise ValueError(f"http_tokens_file {file}: {error}") from None
    if not listed:
        # Without any token everybody would be let in.
        raise ValueError(f"http_tokens_file {file} names no token")
    twice = sorted(named.keys() & listed.keys())
    if twice:
        raise ValueError(f"http_tokens_file {file} names {', '.join(twice)}, as http_tokens does")
    return read_tokens(main, {**named, **listed})


def _read_lines(text: str) -> dict[str, str]:
    """
    Read lines of ``name=scope:...``; those that begin with # are notes.

    Raises:
        ValueError: A line is none of these, or names somebody again.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip().startswith("#"):
            continue
        for part in filter(None, map(str.strip, line.split(","))):
            name, separator, told = part.partition("=")
            if not separator:
                raise ValueError(f"line {number} must be name=scope:token")
            if name.strip() in found:
                raise ValueError(f"line {number} names {name.strip()[:80]!r} again")
            found[name.strip()] = told.strip()
    return found


def _read(name: str, text: str) -> Token:
    if not NAME.fullmatch(name) or name in {MAIN, LOCAL}:
        raise ValueError(f"http_tokens: {name[:80]!r} is no name; it must match {NAME.pattern}")
    scope, _, secret = text.partition(":")
    known = next((each for each in TOKEN_SCOPES if each == scope.strip()), None)
    if known is None:
        raise ValueError(
            f"http_tokens: {name} must be scope:token, with one of the scopes "
            f"{', '.join(TOKEN_SCOPES)}"
        )
    secret = secret.strip()
    if secret.startswith(HASHED):
        given = secret.removeprefix(HASHED).lower()
        if not DIGEST.fullmatch(given):
            raise ValueError(f"http_tokens: the hash of {name} must have 64 hexadecimal digits")
        return Token(name=name, scope=known, digest=bytes.fromhex(given))
    if not CHARS_MIN <= len(secret) <= CHARS_MAX:
        raise ValueError(
            f"http_tokens: the token of {name} must have {CHARS_MIN} to {CHARS_MAX} characters, "
            f"not {len(secret)}; make one with `python -m engine token {name}`"
        )
    return Token(name=name, scope=known, digest=digest_of(secret))


def new_token() -> str:
    """Make a token."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def setting_of(token: str, scope: TokenScope) -> str:
    """Write a token as settings keep it: its scope and its hash."""
    return f"{scope}:{HASHED}{digest_of(token).hex()}"


def digest_of(text: str) -> bytes:
    """Hash, so that the comparison tells nothing of the length either."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()

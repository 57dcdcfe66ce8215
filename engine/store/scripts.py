"""
The Lua scripts, one verb each, loaded from ``lua/``.

A script is addressed by the hash of its text, so engines of two versions never run each other's.
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files

import msgspec


class Script(msgspec.Struct, frozen=True):
    """
    One script.

    Attributes:
        name: Its file's stem.
        text: Its source.
        sha: What EVALSHA takes.
    """

    name: str
    text: bytes
    sha: bytes


@cache
def script(name: str) -> Script:
    """Load one script by name."""
    text = files("engine.store").joinpath("lua", f"{name}.lua").read_bytes()
    sha = hashlib.sha1(text, usedforsecurity=False).hexdigest().encode()
    return Script(name=name, text=text, sha=sha)

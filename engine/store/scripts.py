"""
The Lua scripts, one verb each, loaded from ``lua/``.

A script whose header says ``needs: a, b`` is loaded with the rules of those files before it. One
that says ``may need`` exists in two forms, since rules that are not used would cost.

A script is addressed by the hash of its text, so engines of two versions never run each other's.
"""

from __future__ import annotations

import hashlib
import re
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


_NEEDS = re.compile(r"^-- (needs|may need): (.+)$", re.MULTILINE)


@cache
def script(name: str, *, gated: bool = False) -> Script:
    """
    Load one script by name.

    Args:
        gated: With the rules that it may need.
    """
    own = _text(name)
    needs = _NEEDS.search(own)
    rules = ""
    if needs and (gated or needs[1] == "needs"):
        rules = "".join(_text(part) + "\n" for part in needs[2].split(", "))
    elif needs:
        # A name that is declared nowhere is an error in the servers' Lua.
        rules = "local gates\n"
    text = (rules + own).encode()
    sha = hashlib.sha1(text, usedforsecurity=False).hexdigest().encode()
    return Script(name=name, text=text, sha=sha)


def _text(name: str) -> str:
    return files("engine.store").joinpath("lua", f"{name}.lua").read_text("utf-8")

"""Single keys from the terminal, without Enter."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

ARROWS = {"\x1b[A": "up", "\x1b[B": "down", "\x1b[C": "right", "\x1b[D": "left", "\x1b": "escape"}
NAMED = {"\r": "enter", "\n": "enter", " ": "space", "\x03": "q", "\x04": "q"}


@contextmanager
def keys() -> Iterator[asyncio.Queue[str]]:
    """
    Read keys while this is open; give the terminal back as it was.

    Yields:
        The keys, by name: ``up``, ``down``, ``enter``, ``escape``, ``space``, or the character.
        Nothing comes where stdin is no terminal.
    """
    pressed: asyncio.Queue[str] = asyncio.Queue()
    if not sys.stdin.isatty():
        yield pressed
        return
    import termios
    import tty

    number = sys.stdin.fileno()
    before = termios.tcgetattr(number)
    loop = asyncio.get_running_loop()
    tty.setcbreak(number)
    loop.add_reader(number, _read, number, pressed)
    try:
        yield pressed
    finally:
        loop.remove_reader(number)
        termios.tcsetattr(number, termios.TCSADRAIN, before)


def _read(number: int, pressed: asyncio.Queue[str]) -> None:
    for key in named(os.read(number, 64).decode("utf-8", "replace")):
        pressed.put_nowait(key)


def named(text: str) -> list[str]:
    """Name the keys in what a terminal sent."""
    found = []
    while text:
        sequence = next((known for known in ARROWS if text.startswith(known)), text[0])
        found.append(ARROWS.get(sequence) or NAMED.get(sequence) or sequence)
        text = text[len(sequence) :]
    return found

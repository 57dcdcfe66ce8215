"""Stands for systemd: the socket of ``NOTIFY_SOCKET``, and what daemons said to it."""

from __future__ import annotations

import socket
from pathlib import Path


class Notified:
    """
    A service manager's ear.

    Args:
        address: A path, or an abstract name that begins with ``@``.
    """

    def __init__(self, address: str | Path) -> None:
        self.address = str(address)
        self.said: list[dict[str, str]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address.replace("@", "\0", 1))
        self._socket.setblocking(False)

    def hear(self) -> list[dict[str, str]]:
        """Return everything said so far, message by message."""
        while True:
            try:
                text = self._socket.recv(65_536).decode()
            except BlockingIOError:
                return self.said
            self.said.append(dict(line.split("=", 1) for line in text.split("\n")))

    def has_said(self, **facts: str) -> bool:
        """Tell whether one message held all of this."""
        return any(facts.items() <= each.items() for each in self.hear())

    def count(self, name: str) -> int:
        """Count the messages that held a fact of this name."""
        return sum(name in each for each in self.hear())

    def forget(self) -> None:
        """Drop what was said so far."""
        self.hear()
        self.said.clear()

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()

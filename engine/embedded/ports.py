"""
Ports for servers that are about to be started.

Between finding a port free and listening there, another start may find the same one free, as when
two clones are started at once. So each claims the UDP port of the same number meanwhile, which
nothing else here uses and only one program can have; it is free again with its program's end.
"""

from __future__ import annotations

import socket

from engine.embedded.process import LOOPBACK, port_is_free, unused_port


class Ports:
    """
    Claims ports until it is closed.

    Attributes:
        notes: What is elsewhere than usual, as sentences for people.
    """

    def __init__(self) -> None:
        self.notes: list[str] = []
        self._claims: list[socket.socket] = []

    def near(self, port: int, *, what: str) -> int:
        """
        Claim a port, or where it is in use or claimed, any free one.

        Args:
            port: The usual one.
            what: What is to listen there, for people.
        """
        if self._claim(port):
            return port
        while not self._claim(other := unused_port()):
            pass
        self.notes.append(f"port {port} is in use, so {what} listens on port {other}")
        return other

    def close(self) -> None:
        """Let others have the ports."""
        while self._claims:
            self._claims.pop().close()

    def _claim(self, port: int) -> bool:
        claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            claim.bind((LOOPBACK, port))
        except OSError:
            claim.close()
            return False
        if not port_is_free(port):
            claim.close()
            return False
        self._claims.append(claim)
        return True

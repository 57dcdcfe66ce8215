"""Where a gateway listens within an engine."""

from __future__ import annotations

import socket
from typing import Final

from processors.errors import ConfigurationError
from processors.settings.gateway import address

DEFAULT: Final = "127.0.0.1:8788"


class Place:
    """
    An address, which may be taken before there is a gateway.

    Args:
        listen: The setting; empty for none.
    """

    def __init__(self, listen: str) -> None:
        self.listen = listen
        self._sock: socket.socket | None = None

    def take(self) -> str:
        """
        Bind the address set, else the default one or, where that is in use, any free one.

        Returns:
            The address, as host:port.

        Raises:
            ConfigurationError: The address set cannot be had.
        """
        host, port = address(self.listen or DEFAULT)
        try:
            self._sock = _bound(host, port)
        except OSError as error:
            if self.listen:
                why = error.strerror or str(error)
                raise ConfigurationError(
                    f"the gateway cannot listen on {self.listen} ({why}); "
                    "set PROCESSORS_GATEWAY_LISTEN to another address"
                ) from None
            self._sock = _bound(host, 0)
        bound = self._sock.getsockname()[1]
        self.listen = f"[{host}]:{bound}" if ":" in host else f"{host}:{bound}"
        return self.listen

    def hand_over(self) -> socket.socket | None:
        """Give the bound socket to a gateway, once; another one binds the address itself."""
        sock, self._sock = self._sock, None
        return sock


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        # Clients that come before the gateway wait for it.
        sock.listen(512)
    except OSError:
        sock.close()
        raise
    return sock

"""Settings of the WebSocket gateway."""

from __future__ import annotations

from typing import Annotated

import msgspec

Millis = Annotated[int, msgspec.Meta(ge=1, le=3_600_000)]
Sockets = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
TOKEN_CHARS_MIN = 16
DAY_MS = 86_400_000


class GatewaySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    Settings of the WebSocket gateway, ``PROCESSORS_GATEWAY_*``. Times are in ms.

    Attributes:
        listen: Where engines serve sockets, as host:port; port 0 picks one; empty for not at all.
        origins: Pages that may connect, as a,b of exact origins such as https://chat.example.com;
            clients that are no browsers send none and need none.
        token: What the application's back end shows at POST /tickets and /status, at least 16
            characters; empty turns POST /tickets off. [secret]
        ticket_ms: How long a ticket may be used. Default 30 s.
        ticket_in_query: Accept a ticket as ?ticket=, too, which servers before it may log.
        auth_ms: Time that a new socket has to show its ticket. Default 5 s.
        socket_ms_max: Age at which a socket has to come back with a new ticket. Default 24 h.
        recheck_ms: How often users, sessions and memberships are looked up again. Default 5 s.
        sockets_max: Sockets of one process, at most. Default 20,000.
        sockets_user_max: Those of one user. Default 20.
        sockets_ip_max: Those from one address. Default 200.
        proxies: Trusted proxies before it, each of which appends to X-Forwarded-For. Default 0.
        subscriptions_max: Conversations that one socket may follow. Default 500.
        frame_bytes_max: Longest frame from a client. Default 64 KiB.
        frames_per_s: Frames per second from one socket, over some seconds. Default 50.
        queue_max: Frames that may wait for a socket before it is closed as too slow. Default 256.
        queue_bytes_max: The same in bytes. Default 4 MiB.
        ping_ms: How often a silent client is asked whether it lives. Default 20 s.
        presence_ms: How long a socket counts as open after its gateway died. Default 60 s.
        confirm_ms: How long confirmations are gathered before they become a job. Default 200 ms.
        reorder_ms: How long a message may be overtaken before it is read from the database.
            Default 200 ms.
        resume_max: Missed messages of one conversation that are brought unasked. Default 1,000.
        reconnect_ms: Time over which clients spread when a gateway stops. Default 10 s.
    """

    listen: str = ""
    origins: tuple[str, ...] = ()
    token: str = ""
    ticket_ms: Annotated[int, msgspec.Meta(ge=1_000, le=300_000)] = 30_000
    ticket_in_query: bool = False
    auth_ms: Millis = 5_000
    socket_ms_max: Annotated[int, msgspec.Meta(ge=1_000, le=30 * DAY_MS)] = DAY_MS
    recheck_ms: Millis = 5_000
    sockets_max: Sockets = 20_000
    sockets_user_max: Sockets = 20
    sockets_ip_max: Sockets = 200
    proxies: Annotated[int, msgspec.Meta(ge=0, le=10)] = 0
    subscriptions_max: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 500
    frame_bytes_max: Annotated[int, msgspec.Meta(ge=1_024, le=1_048_576)] = 65_536
    frames_per_s: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 50
    queue_max: Annotated[int, msgspec.Meta(ge=8, le=100_000)] = 256
    queue_bytes_max: Annotated[int, msgspec.Meta(ge=1_048_576, le=1_073_741_824)] = 4_194_304
    ping_ms: Millis = 20_000
    presence_ms: Annotated[int, msgspec.Meta(ge=1_000, le=3_600_000)] = 60_000
    confirm_ms: Millis = 200
    reorder_ms: Millis = 200
    resume_max: Annotated[int, msgspec.Meta(ge=0, le=100_000)] = 1_000
    reconnect_ms: Millis = 10_000

    def __post_init__(self) -> None:
        if self.listen:
            address(self.listen)
        if self.token and len(self.token) < TOKEN_CHARS_MIN:
            raise ValueError(f"token must have at least {TOKEN_CHARS_MIN} characters")
        for origin in self.origins:
            scheme, mark, rest = origin.partition("://")
            if origin != "null" and (not scheme or not mark or not rest or "/" in rest):
                raise ValueError(f"origins: {origin!r} must be like https://chat.example.com")


def address(listen: str) -> tuple[str, int]:
    """
    Split ``host:port``.

    Raises:
        ValueError: It is not that.
    """
    host, _, port = listen.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise ValueError(f"listen must be host:port, not {listen!r}")
    return host.strip("[]"), int(port)

"""Settings of email."""

from __future__ import annotations

import re
from typing import Annotated, Literal

import msgspec

KEY_CHARS_MIN = 16
LOOPBACK = re.compile(r"localhost|127(\.\d{1,3}){3}|\[?::1\]?")
PORTS = {"starttls": 587, "tls": 465, "none": 25}

Millis = Annotated[int, msgspec.Meta(ge=1, le=3_600_000)]


class EmailSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    Settings of email, ``PROCESSORS_EMAIL_*``.

    Attributes:
        host: The mail server that takes our mail. Empty: no email is sent.
        port: Its port. Default 0: 587 with STARTTLS, 465 with TLS, 25 without.
        tls: starttls (default) turns to TLS before anything is told, tls begins with it, none
            does without.
        ca_file: Certificates to trust instead of the system's, as a PEM file.
        username: Who signs in there; empty for nobody.
        password: The password for that. [secret]
        sender: Who it is from, such as Chat <no-reply@example.com>.
        return_path: Address that bounces come to, with {id} where the delivery's id goes, such as
            bounces+{id}@example.com. Empty: bounces come to the sender's address.
        timeout_ms: Longest wait for one reply of the server. Default 30 s.
        dialogue_ms: Longest time for one mail from connecting to the last reply, at most 50 s: a
            job has a minute. Default 45 s.
        connections_max: Connections to the server, at most, kept open between mails. Default 4.
        connection_mails_max: Mails over one connection, at most. Default 100.
        idle_ms: How long a connection may rest before it is replaced. Default 20 s.
        unsubscribe_url: Public address under which the webhooks are served, such as
            https://chat.example.com; mail then has one-click unsubscription. Empty: it has not.
        unsubscribe_keys: Secrets that sign the links, separated by white space: the first signs,
            all are good. At least 16 characters each. [secret]
    """

    host: str = ""
    port: Annotated[int, msgspec.Meta(ge=0, le=65_535)] = 0
    tls: Literal["starttls", "tls", "none"] = "starttls"
    ca_file: str = ""
    username: str = ""
    password: str = ""
    sender: str = ""
    return_path: str = ""
    timeout_ms: Millis = 30_000
    dialogue_ms: Annotated[int, msgspec.Meta(ge=1, le=50_000)] = 45_000
    connections_max: Annotated[int, msgspec.Meta(ge=1, le=100)] = 4
    connection_mails_max: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 100
    idle_ms: Millis = 20_000
    unsubscribe_url: str = ""
    unsubscribe_keys: str = ""

    def __post_init__(self) -> None:
        if self.host and not self.sender:
            raise ValueError("sender must say who email is from")
        if self.password and self.tls == "none" and not LOOPBACK.fullmatch(self.host):
            raise ValueError("tls none would show the password to everybody on the way")
        if self.return_path and self.return_path.count("{id}") != 1:
            raise ValueError("return_path must have {id} once, where the delivery's id goes")
        if bool(self.unsubscribe_url) != bool(self.keys):
            raise ValueError("unsubscribe_url and unsubscribe_keys go together")
        if self.unsubscribe_url and not re.match(r"https?://[^/]", self.unsubscribe_url):
            raise ValueError("unsubscribe_url must begin with https://")
        if any(len(key) < KEY_CHARS_MIN for key in self.keys):
            raise ValueError(f"unsubscribe_keys must have {KEY_CHARS_MIN} characters each")

    @property
    def keys(self) -> tuple[str, ...]:
        """The secrets that sign links, the one that signs first."""
        return tuple(self.unsubscribe_keys.split())

    @property
    def server_port(self) -> int:
        """The port, also where it follows from the use of TLS."""
        return self.port or PORTS[self.tls]

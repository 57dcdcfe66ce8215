"""
All peers together, as the places where everything arrives that an engine sends.

Keys and ports are kept in a directory, so that what was registered with a sink stays good when it
starts again.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import sys
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import orjson
import trustme
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from engine.embedded import Ports
from engine.embedded.process import port_is_free
from tests.peers import apns, fcm, sms, smtp, web_push

BROWSER: Final = "ada"
GATEWAY_PORT: Final = 8788
VALUE_CHARS_MAX: Final = 200
ARRIVALS_BYTES_MAX: Final = 8 * 1_048_576

Key = TypeVar("Key", rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey)
Tell = Callable[[str], None]


class Peer(Protocol):
    """
    What a peer must have to be a sink.

    Attributes:
        port: Where it listens; set before it starts, it listens there.
    """

    port: int

    def environ(self) -> dict[str, str]:
        """Return the settings that make an engine send here."""

    async def __aenter__(self) -> Any:
        """Listen."""

    async def __aexit__(self, *error: object) -> None:
        """End."""


@dataclass(frozen=True)
class Factory:
    """
    Makes one peer.

    Attributes:
        name: Its name, short.
        make: Makes it from what is kept and from where it tells of arrivals.
        more: Further variables that show how to reach it.
    """

    name: str
    make: Callable[[Kept, Tell], Peer]
    more: Callable[[Any], dict[str, str]] = lambda _: {}


@dataclass(frozen=True)
class Kept:
    """
    Keys and ports that stay the same from one start to the next.

    Attributes:
        directory: Where they are; nobody else may read it.
    """

    directory: Path

    def __post_init__(self) -> None:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.directory.chmod(0o700)

    def file(self, name: str, text: str) -> Path:
        """Write a file that its owner alone may read, whole or not at all."""
        path = self.directory / name
        write_private(path, text)
        return path

    def key(self, name: str, make: Callable[[], Key]) -> Key:
        """Return the key of that name; a new one the first time."""
        path = self.directory / f"{name}.pem"
        if path.exists():
            return load_pem_private_key(path.read_bytes(), None)  # type: ignore[return-value]
        key = make()
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self.file(path.name, pem.decode())
        return key

    def secret(self, name: str) -> str:
        """Return the secret of that name; a new one the first time."""
        path = self.directory / f"{name}.secret"
        if not path.exists():
            self.file(path.name, secrets.token_urlsafe(32))
        return path.read_text()

    def authority(self, name: str) -> trustme.CA:
        """Return the certificate authority of that name; a new one the first time."""
        path = self.directory / f"{name}-authority.pem"
        if not path.exists():
            made = trustme.CA()
            pem = made.private_key_pem.bytes() + made.cert_pem.bytes()
            self.file(path.name, pem.decode())
        pem = path.read_bytes()
        start = pem.index(b"-----BEGIN CERTIFICATE")
        return trustme.CA.from_pem(pem[start:], pem[:start])

    def port(self, name: str) -> int:
        """Return the port of that name while it is free; else 0, for any."""
        path = self.directory / "ports.json"
        port = orjson.loads(path.read_bytes()).get(name, 0) if path.exists() else 0
        return port if port and port_is_free(port) else 0

    def keep_ports(self, ports: Mapping[str, int]) -> None:
        """Remember the ports for the next start."""
        self.file("ports.json", orjson.dumps(dict(ports)).decode())


@dataclass
class Arrivals:
    """
    Tells of each arrival in one line, and keeps it in a file.

    Attributes:
        path: The file, one JSON object per line; started afresh when it is over 8 MiB.
    """

    path: Path
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        if self.path.exists() and self.path.stat().st_size > ARRIVALS_BYTES_MAX:
            self.path.unlink()

    def teller(self, sink: str) -> Tell:
        """Return what a peer tells of arrivals; it may call from any thread."""

        def tell(line: str) -> None:
            # Whatever somebody writes into a message, it stays one line and no command.
            shown = "".join(char if char.isprintable() else "�" for char in line)
            at = datetime.now(UTC).isoformat(timespec="milliseconds")
            record = orjson.dumps({"at": at, "sink": sink, "line": shown}) + b"\n"
            with self._lock:
                # A terminal that was closed is no reason to take nothing more.
                with contextlib.suppress(OSError):
                    os.write(1, f"{shown}\n".encode())
                with self.path.open("ab", buffering=0) as file:
                    file.write(record)

        return tell


def _apns(kept: Kept, tell: Tell) -> Peer:
    return apns.ApnsPeer(
        kept.directory,
        answer=apns.by_token,
        key=kept.key("apns", _ec_key),
        ca=kept.authority("apns"),
        on_arrival=tell,
    )


def _fcm(kept: Kept, tell: Tell) -> Peer:
    def rsa_key() -> rsa.RSAPrivateKey:
        return rsa.generate_private_key(public_exponent=65_537, key_size=2_048)

    return fcm.FcmPeer(rule=fcm.by_token, key=kept.key("fcm", rsa_key), on_arrival=tell)


def _web_push(kept: Kept, tell: Tell) -> Peer:
    key = kept.key("webpush", _ec_key)
    return web_push.WebPushPeer(rule=web_push.by_browser, server_key=key, on_arrival=tell)


def _browser(peer: web_push.WebPushPeer) -> dict[str, str]:
    """Tell how to subscribe one browser, for whoever wants to see a push arrive in it."""
    keys = web_push.public_keys(BROWSER)
    return {
        "DEMO_WEBPUSH_ENDPOINT": peer.endpoint(BROWSER),
        "DEMO_WEBPUSH_P256DH": keys["p256dh"],
        "DEMO_WEBPUSH_AUTH": keys["auth"],
    }


FACTORIES: Final = (
    Factory("fcm", _fcm),
    Factory("apns", _apns),
    Factory("webpush", _web_push, _browser),
    Factory(
        "smtp",
        lambda _, tell: smtp.SmtpPeer(rule=smtp.by_address, on_arrival=tell),
    ),
    Factory(
        "sms",
        lambda _, tell: sms.SmsPeer(rule=sms.by_number, reports=True, on_arrival=tell),
    ),
)
"""Each peer that an engine sends to; further ones are added here."""


@asynccontextmanager
async def open_sinks(directory: Path, environ: Mapping[str, str]) -> AsyncIterator[dict[str, str]]:
    """
    Run all sinks and give the variables that make an engine send to them.

    Args:
        directory: Where ``sinks.jsonl``, ``sinks.env``, and keys in ``sinks/`` are kept.
        environ: The environment: a provider that it sets up otherwise keeps what it says.
    """
    kept = Kept(_absolute(directory) / "sinks")
    arrivals = Arrivals(directory / "sinks.jsonl")
    async with AsyncExitStack() as stack:
        variables: dict[str, str] = {}
        ports: dict[str, int] = {}
        for factory in FACTORIES:
            peer = factory.make(kept, arrivals.teller(factory.name))
            peer.port = kept.port(factory.name)
            await stack.enter_async_context(peer)
            ports[factory.name] = peer.port
            own = _in_files(kept, peer.environ()) | factory.more(peer)
            variables |= {} if _is_set_otherwise(own, environ) else own
        claims = Ports()
        stack.callback(claims.close)
        wished = kept.port("gateway") or GATEWAY_PORT
        ports["gateway"] = claims.near(wished, what="the gateway")
        for note in claims.notes:
            print(f"note: {note}", file=sys.stderr, flush=True)
        places = _places(kept, ports["gateway"], variables)
        variables |= {} if _is_set_otherwise(places, environ) else places
        kept.keep_ports(ports)
        exports = directory / "sinks.env"
        write_private(exports, "".join(f"{line}\n" for line in export_lines(variables)))
        try:
            yield variables
        finally:
            exports.unlink(missing_ok=True)


def _places(kept: Kept, gateway_port: int, providers: Mapping[str, str]) -> dict[str, str]:
    """Settings of what a back end needs besides providers: files, keys, and where it listens."""
    objects = kept.directory.parent / "objects"
    objects.mkdir(exist_ok=True)
    gateway = f"127.0.0.1:{gateway_port}"
    places = {
        "PROCESSORS_GATEWAY_LISTEN": gateway,
        "PROCESSORS_OBJECTS_URL": objects.as_uri(),
        "PROCESSORS_ENCRYPTION_KEYRING_FILE": str(kept.directory / "keyring"),
        "PROCESSORS_ENCRYPTION_KEYRING_CREATE": "true",
    }
    if "PROCESSORS_EMAIL_HOST" in providers:
        places["PROCESSORS_EMAIL_UNSUBSCRIBE_URL"] = f"http://{gateway}"
        places["PROCESSORS_EMAIL_UNSUBSCRIBE_KEYS"] = kept.secret("unsubscribe")
    if "PROCESSORS_SMS_URL" in providers:
        places["PROCESSORS_SMS_WEBHOOK_URL"] = f"http://{gateway}"
    return places


def export_lines(variables: Mapping[str, str]) -> list[str]:
    """Write variables as a shell takes them."""
    return [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]


def write_private(path: Path, text: str) -> None:
    """Write a file that its owner alone may read, whole or not at all."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)


def _in_files(kept: Kept, variables: Mapping[str, str]) -> dict[str, str]:
    """Put long values into files, as one does with keys."""
    return dict(
        (f"{name}_FILE", str(kept.file(name.lower(), value)))
        if len(value) > VALUE_CHARS_MAX or "\n" in value
        else (name, value)
        for name, value in variables.items()
    )


def _absolute(directory: Path) -> Path:
    # An engine may read the files from elsewhere.
    return directory.resolve()


def _is_set_otherwise(own: Mapping[str, str], environ: Mapping[str, str]) -> bool:
    """Say whether something that a sink would set is set to another value, or from a file."""
    names = {name.removesuffix("_FILE") for name in own}
    return any(
        value != own.get(name)
        for name, value in environ.items()
        if value and name.removesuffix("_FILE") in names
    )


def _ec_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())

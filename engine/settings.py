"""
Settings of one engine process.

They come from an optional TOML file (``ENGINE_CONFIG`` or ``--config``) and from ``ENGINE_*``
variables, which win. Every one has a meaning, a unit, a default and a check; secrets are masked
wherever settings are shown.
"""

from __future__ import annotations

import difflib
import re
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import msgspec

from engine.errors import SettingsError
from schemas.rules import DATA_BYTES_MAX, LANES

Millis = Annotated[int, msgspec.Meta(ge=1, le=31_622_400_000)]
Count = Annotated[int, msgspec.Meta(ge=1, le=100_000_000)]
Bound = Annotated[int, msgspec.Meta(ge=0, le=1_000_000_000_000)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]
PREFIX = "ENGINE_"
TOKEN_CHARS_MIN = 16
VALUE_CHARS_MAX = 60
RESERVED = frozenset({"config", "fail", "parent"})
"""Variables of the prefix that are no settings."""

LINKS = re.compile(
    r"([a-z0-9_]+_)?(service_(host|port(_[a-z0-9_]+)?)|port_\d+_(tcp|udp|sctp)(_(proto|port|addr))?)"
)
LINK_PORT = re.compile(r"([a-z0-9_]+_)?port")
LINK_URL = re.compile(r"(tcp|udp|sctp)://")
"""What Kubernetes sets in each pod for a service whose name begins with ``engine``."""

Settings = TypeVar("Settings", bound=msgspec.Struct)


class EngineSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    Settings of one engine process.

    Attributes:
        redis_url: Where the queues live: redis://, rediss:// or unix://. [url, secret]
        postgres_url: Where the app's data live; handed to the app alone. [url, secret]
        app: The handlers, as module:object.
        queues: Queues to serve; empty for all that the app names.
        name: Name of this engine in beats, logs and consumer names; empty for host and pid.
        concurrency: Jobs of one queue that run at the same time in this process.
        queue_concurrency: The same for single queues, as queue=number, which wins.
        jobs_max: Jobs that a queue may hold before producers have to wait; 0 for no bound.
        queue_jobs_max: The same for single queues, as queue=number, which wins.
        bytes_max: The same in bytes of memory that a queue's jobs take; 0 for no bound.
        queue_bytes_max: The same for single queues, as queue=number, which wins.
        prefetch_max: Most jobs of one queue that may wait inside the process for a free worker.
        weights: Shares of the lanes below critical, as lane=number.
        lease_ms: Silence after which a job goes to another engine.
        renew_ms: Age at which a lease is renewed.
        reclaim_ms: Time between two looks for jobs of engines that died.
        block_ms: Longest wait of one blocking read.
        socket_timeout_ms: Time after which a silent server counts as gone.
        connect_timeout_ms: Time that connecting may take.
        reconnect_ms_max: Upper bound of the jittered wait between two tries to reconnect.
        grace_s: Time from SIGTERM to exit; handlers may use 70 % of it.
        cancel_grace_ms: Time that a cancelled handler has before its worker is given up.
        stuck_max: Handlers that may ignore cancelling before the process asks to be replaced.
        data_bytes_max: Largest payload.
        fetch_bytes_max: Bytes that one read may bring, as far as recent sizes tell.
        reply_patterns: Further stream keys that the field reply may name; * matches anything.
        id_window_ms: How long an id is remembered, to fold the same one; 0 for not at all.
        line_jobs_max: Most jobs that may wait behind one ordering key.
        done_jobs_max: Finished jobs kept per queue.
        done_age_ms_max: How long finished jobs are kept.
        events_max: Entries kept in the events stream of a queue.
        http: Address of metrics, probes and page, as host:port; port 0 picks one; empty for none.
        http_token: Token that any other address than loopback demands, at least 16 characters.
            [secret]
        processes: Engine processes to run.
        process_workers: Processes for CPU-heavy handlers; 0 for one per core.
        log_format: console for people, json for machines, auto for console on a terminal.
        log_level: debug, info, warning or error.
        backlog_age_ms_max: Age of the oldest waiting job above which its queue is unhealthy.
    """

    redis_url: str = "redis://127.0.0.1:6379/0"
    postgres_url: str = ""
    app: str = "processors.app:build"
    queues: tuple[str, ...] = ()
    name: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.-]{0,64}$")] = ""
    concurrency: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 100
    queue_concurrency: dict[str, Annotated[int, msgspec.Meta(ge=1, le=10_000)]] = {}
    jobs_max: Bound = 0
    queue_jobs_max: dict[str, Bound] = {}
    bytes_max: Bound = 0
    queue_bytes_max: dict[str, Bound] = {}
    prefetch_max: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1_024
    weights: dict[str, Annotated[int, msgspec.Meta(ge=1, le=1_000)]] = msgspec.field(
        default_factory=lambda: {"high": 16, "normal": 4, "low": 1}
    )
    lease_ms: Millis = 30_000
    renew_ms: Millis = 10_000
    reclaim_ms: Millis = 1_000
    block_ms: Annotated[int, msgspec.Meta(ge=10, le=1_000)] = 1_000
    socket_timeout_ms: Millis = 5_000
    connect_timeout_ms: Millis = 5_000
    reconnect_ms_max: Millis = 2_000
    grace_s: Seconds = 25.0
    cancel_grace_ms: Millis = 1_000
    stuck_max: Count = 16
    data_bytes_max: Annotated[int, msgspec.Meta(ge=1_024, le=512 * 1_048_576)] = DATA_BYTES_MAX
    fetch_bytes_max: Annotated[int, msgspec.Meta(ge=65_536, le=4_294_967_296)] = 16 * 1_048_576
    reply_patterns: tuple[str, ...] = ()
    id_window_ms: Annotated[int, msgspec.Meta(ge=0, le=604_800_000)] = 300_000
    line_jobs_max: Count = 250_000
    done_jobs_max: Count = 100_000
    done_age_ms_max: Millis = 86_400_000
    events_max: Count = 10_000
    http: str = "127.0.0.1:8787"
    http_token: str = ""
    processes: Annotated[int, msgspec.Meta(ge=1, le=256)] = 1
    process_workers: Annotated[int, msgspec.Meta(ge=0, le=256)] = 0
    log_format: typing.Literal["auto", "console", "json"] = "auto"
    log_level: typing.Literal["debug", "info", "warning", "error"] = "info"
    backlog_age_ms_max: Millis = 60_000

    def __post_init__(self) -> None:
        if self.renew_ms * 2 > self.lease_ms:
            # One renewal may be lost without losing the job.
            raise ValueError("renew_ms must be at most half of lease_ms")
        if self.socket_timeout_ms <= self.block_ms:
            # Else a quiet queue looks like a dead server.
            raise ValueError("socket_timeout_ms must be above block_ms")
        if set(self.weights) != set(LANES[1:]):
            raise ValueError(f"weights must name the lanes {', '.join(LANES[1:])}")
        if urlsplit(self.redis_url).scheme not in {"redis", "rediss", "unix"}:
            raise ValueError("redis_url must begin with redis://, rediss:// or unix://")
        if self.http:
            host, _ = http_address(self.http)
            if host not in {"127.0.0.1", "::1", "localhost"} and not self.http_token:
                raise ValueError(
                    f"http on {host} is open to others: set ENGINE_HTTP_TOKEN to a secret of at "
                    f"least {TOKEN_CHARS_MIN} characters, or serve http on 127.0.0.1"
                )
        if self.http_token and len(self.http_token) < TOKEN_CHARS_MIN:
            raise ValueError(
                f"http_token (ENGINE_HTTP_TOKEN) must have at least {TOKEN_CHARS_MIN} characters"
            )


def http_address(address: str) -> tuple[str, int]:
    """
    Split ``host:port``.

    Raises:
        ValueError: It is not that.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65_535:
        raise ValueError(f"http must be host:port, not {address!r}")
    return host.strip("[]"), int(port)


class Described(msgspec.Struct, frozen=True, kw_only=True):
    """
    One setting as it is shown.

    Attributes:
        name: Its name in the TOML file.
        variable: Its environment variable.
        value: Its value as text, secrets masked.
        source: ``default``, ``environment``, ``file`` or ``command line``.
        meaning: What it does.
    """

    name: str
    variable: str
    value: str
    source: str
    meaning: str


class Loaded(msgspec.Struct, frozen=True):
    """Settings with where each came from."""

    settings: EngineSettings
    sources: dict[str, str]


def load_engine(
    environ: Mapping[str, str],
    *,
    file: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Loaded:
    """
    Read the engine's settings.

    Args:
        environ: The environment.
        file: A TOML file; ``ENGINE_CONFIG`` names one if left out.
        overrides: Values from the command line, which win over all.

    Raises:
        SettingsError: Something is unknown, cannot be read, or fails its check.
    """
    named = environ.get(f"{PREFIX}CONFIG", "")
    path = file or (Path(named) if named else None)
    return Loaded(*load(EngineSettings, environ, prefix=PREFIX, file=path, overrides=overrides))


def load(
    kind: type[Settings],
    environ: Mapping[str, str],
    *,
    prefix: str,
    file: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    see: str = "python -m engine settings",
) -> tuple[Settings, dict[str, str]]:
    """
    Build a settings struct from a TOML file, the environment and overrides, the last ones winning.

    Lists are written ``a,b``, tables ``a=1,b=2``; ``see`` is the command that lists settings.
    Returns the settings and the source of each that is not a default.

    Raises:
        SettingsError: Something is unknown, cannot be read, or fails its check.
    """
    fields = {field.name: field.type for field in msgspec.structs.fields(kind)}
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for source, found in (
        ("file", _from_file(file)),
        ("environment", _from_environ(environ, prefix, fields)),
        ("command line", dict(overrides or {})),
    ):
        for name, value in found.items():
            if name not in fields:
                raise SettingsError(_unknown(name, source, fields, prefix, see))
            values[name] = _folded(value, fields[name])
            sources[name] = source
    try:
        return msgspec.convert(values, kind, strict=False), sources
    except msgspec.ValidationError as error:
        raise SettingsError(_explain(str(error), kind, values, sources, prefix)) from None


def _folded(value: Any, annotation: Any) -> Any:
    """Bring a word that is one of several choices to their case."""
    if typing.get_origin(annotation) is typing.Literal and isinstance(value, str):
        return value.strip().lower()
    return value


def describe(settings: msgspec.Struct, sources: Mapping[str, str], prefix: str) -> list[Described]:
    """List settings with meaning, value and source; secrets are masked."""
    meanings = _meanings(type(settings))
    rows = []
    for field in msgspec.structs.fields(type(settings)):
        meaning, secret = meanings.get(field.name, ("", False))
        value = getattr(settings, field.name)
        rows.append(
            Described(
                name=field.name,
                variable=prefix + field.name.upper(),
                value=mask(str(value)) if secret else _as_text(value),
                source=sources.get(field.name, "default"),
                meaning=meaning,
            )
        )
    return rows


def mask(value: str) -> str:
    """Hide a secret, or the password within a URL."""
    if not value:
        return ""
    try:
        parts = urlsplit(value)
        password = parts.password
    except ValueError:
        return "***"
    if not parts.scheme or not (parts.netloc or parts.path) or "password" in parts.query:
        return "***"
    if password is None:
        return value
    user = parts.username or ""
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{user}:***@{host}"))


def _from_file(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        return tomllib.loads(file.read_text())
    except OSError as error:
        raise SettingsError(f"cannot read {file}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file} is not TOML: {error}") from None


def _from_environ(
    environ: Mapping[str, str], prefix: str, fields: Mapping[str, Any]
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for variable, text in environ.items():
        name = variable.removeprefix(prefix).lower()
        if not variable.startswith(prefix) or name in RESERVED or _is_link(name, text):
            continue
        base = name.removesuffix("_file")
        if name not in fields and base in fields and name != base:
            # A secret kept in a file, as container platforms hand them out.
            found.setdefault(base, _secret_file(variable, text))
        else:
            found[name] = _parse(variable, text, fields.get(name))
    return found


def _is_link(name: str, text: str) -> bool:
    """Tell whether Kubernetes set a variable; a port's own value is a URL, unlike a mistake's."""
    port = LINK_PORT.fullmatch(name) and LINK_URL.match(text)
    return bool(port or LINKS.fullmatch(name))


def _secret_file(variable: str, path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{variable}: cannot read {path}: {error}") from None


def _parse(variable: str, text: str, annotation: Any) -> Any:
    origin = typing.get_origin(annotation)
    if origin is tuple:
        return [part.strip() for part in text.split(",") if part.strip()]
    if origin is dict:
        pairs = [part.partition("=") for part in text.split(",") if part.strip()]
        if any(not separator for _, separator, _ in pairs):
            raise SettingsError(f"{variable} must be written name=number,name=number")
        return {name.strip(): value.strip() for name, _, value in pairs}
    return text


def _unknown(name: str, source: str, fields: Mapping[str, Any], prefix: str, see: str) -> str:
    shown = prefix + name.upper() if source == "environment" else name
    close = difflib.get_close_matches(name, fields, 1)
    nearest = (prefix + close[0].upper() if source == "environment" else close[0]) if close else ""
    hint = f"; did you mean {nearest}?" if nearest else f"; see `{see}`"
    return f"unknown setting {shown} ({source}){hint}"


def _explain(
    message: str,
    kind: type[msgspec.Struct],
    values: Mapping[str, Any],
    sources: Mapping[str, str],
    prefix: str,
) -> str:
    detail, _, where = message.partition(" - at `$.")
    name = where.rstrip("`").split(".")[0].split("[")[0]
    if not name:
        return f"settings do not fit together: {message}"
    shown = prefix + name.upper() if sources.get(name) == "environment" else name
    choices = {field.name: field.type for field in msgspec.structs.fields(kind)}.get(name)
    if typing.get_origin(choices) is typing.Literal:
        detail = f"Expected one of {', '.join(typing.get_args(choices))}"
    _, is_secret = _meanings(kind).get(name, ("", True))
    given = "" if is_secret else f", not {_as_text(values.get(name))[:VALUE_CHARS_MAX]!r}"
    return f"setting {shown}: {detail[0].lower()}{detail[1:]}{given}"


def _meanings(kind: type[msgspec.Struct]) -> dict[str, tuple[str, bool]]:
    """Read each setting's meaning from the class docstring, so that it stands once."""
    meanings: dict[str, tuple[str, bool]] = {}
    name = ""
    for line in (kind.__doc__ or "").partition("Attributes:")[2].splitlines():
        head, colon, rest = line.strip().partition(": ")
        if colon and head in kind.__struct_fields__:
            name = head
            meanings[name] = (rest, False)
        elif name and line.strip():
            meanings[name] = (f"{meanings[name][0]} {line.strip()}", False)
    secret = {name: "secret]" in text for name, (text, _) in meanings.items()}
    return {name: (text.partition(" [")[0], secret[name]) for name, (text, _) in meanings.items()}


def _as_text(value: Any) -> str:
    if isinstance(value, dict):
        return ",".join(f"{name}={number}" for name, number in value.items())
    if isinstance(value, tuple | list):
        return ",".join(map(str, value))
    return "" if isinstance(value, types.NoneType) else str(value)

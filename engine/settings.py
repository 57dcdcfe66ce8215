"""
Settings of one engine process.

They come from an optional TOML file (``ENGINE_CONFIG`` or ``--config``) and from ``ENGINE_*``
variables, which win. Every one has a meaning, a unit, a default and a check; secrets are masked
wherever settings are shown.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qs, quote, urlsplit, urlunsplit

import msgspec

from engine.configuration import load
from engine.errors import SettingsError
from engine.tokens import all_tokens, read_tokens
from schemas.rules import DATA_BYTES_MAX, LANES, PATH_STEP, TYPE_NAME

Millis = Annotated[int, msgspec.Meta(ge=1, le=31_622_400_000)]
Count = Annotated[int, msgspec.Meta(ge=1, le=100_000_000)]
Bound = Annotated[int, msgspec.Meta(ge=0, le=1_000_000_000_000)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]
PREFIX = "ENGINE_"
TOKEN_CHARS_MIN = 16
JSON_PATH = rf"\$?(?:{PATH_STEP})+"
JSON_PATHS = rf"^{JSON_PATH}(?:[\s;]+{JSON_PATH})*$"
TypeOrAll = Annotated[str, msgspec.Meta(pattern=rf"^(\*|{TYPE_NAME.pattern})$")]
TLS_OPTIONS = {
    "redis_ca_file": "ssl_ca_certs",
    "redis_cert_file": "ssl_certfile",
    "redis_key_file": "ssl_keyfile",
}
"""Settings of files, and under what name redis-py takes them from a URL."""


class EngineSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    Settings of one engine process.

    Attributes:
        redis_url: Where the queues live: redis://, rediss:// or unix://. [url, secret]
        redis_ca_file: Certificates of the authorities that may vouch for the server of a rediss://
            URL; empty for those of the system.
        redis_cert_file: This engine's own certificate, for a server that asks for one.
        redis_key_file: The key of that certificate; empty where the same file holds it.
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
        http_host: Host by which others reach http, for /sd; empty for that in http, or this host's
            name where http listens on all addresses.
        http_token: Token that any other address than loopback demands, at least 16 characters.
            May do everything. [secret]
        http_tokens: Tokens by the name of their holder, as name=scope:token with the scope
            metrics, read, operate or admin, or as name=scope:sha256:hash; `token NAME` makes one.
            [secret]
        http_tokens_file: File with such tokens, one a line, read again every few seconds.
        http_place: What the page calls this place, such as PRODUCTION.
        http_payloads: Scope from which on payloads are shown: read, operate or admin.
        http_redact: What of payloads nobody is shown, as type=path;path: names with dots, ..name
            for any depth, * for all, @error for the text of errors; the type * is every type.
        processes: Engine processes to run.
        process_workers: Processes for CPU-heavy handlers; 0 for one per core.
        log_format: console for people, json for machines, auto for console on a terminal.
        log_level: debug, info, warning or error.
        tracing: off, or otel for spans of all attempts, sent as the OTEL_* variables say.
        backlog_age_ms_max: Age of the oldest waiting job above which its queue is unhealthy.
    """

    redis_url: str = "redis://127.0.0.1:6379/0"
    redis_ca_file: str = ""
    redis_cert_file: str = ""
    redis_key_file: str = ""
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
    http_host: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.:-]{0,255}$")] = ""
    http_token: str = ""
    http_tokens: dict[str, str] = {}
    http_tokens_file: str = ""
    http_place: Annotated[str, msgspec.Meta(max_length=32, pattern=r"^[^\x00-\x1f]*$")] = ""
    http_payloads: typing.Literal["read", "operate", "admin"] = "operate"
    http_redact: dict[TypeOrAll, Annotated[str, msgspec.Meta(pattern=JSON_PATHS)]] = {}
    processes: Annotated[int, msgspec.Meta(ge=1, le=256)] = 1
    process_workers: Annotated[int, msgspec.Meta(ge=0, le=256)] = 0
    log_format: typing.Literal["auto", "console", "json"] = "auto"
    log_level: typing.Literal["debug", "info", "warning", "error"] = "info"
    tracing: typing.Literal["off", "otel"] = "off"
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
        msgspec.structs.force_setattr(self, "redis_url", self._url_with_tls())
        self._check_access()

    def _check_access(self) -> None:
        if self.http:
            host, _ = http_address(self.http)
            has_tokens = bool(self.http_token or self.http_tokens or self.http_tokens_file)
            if host not in {"127.0.0.1", "::1", "localhost"} and not has_tokens:
                raise ValueError(
                    f"http on {host} is open to others: set ENGINE_HTTP_TOKEN to a secret of at "
                    f"least {TOKEN_CHARS_MIN} characters, or ENGINE_HTTP_TOKENS, or serve http on "
                    "127.0.0.1"
                )
        if self.http_token and len(self.http_token) < TOKEN_CHARS_MIN:
            raise ValueError(
                f"http_token (ENGINE_HTTP_TOKEN) must have at least {TOKEN_CHARS_MIN} characters"
            )
        read_tokens(self.http_token, self.http_tokens)

    def _url_with_tls(self) -> str:
        """Put the files into the URL, so that whoever connects by the URL uses them."""
        parts = urlsplit(self.redis_url)
        files = {name: path for name in TLS_OPTIONS if (path := getattr(self, name))}
        if files and parts.scheme != "rediss":
            raise ValueError(f"{next(iter(files))} needs a redis_url that begins with rediss://")
        if self.redis_key_file and not self.redis_cert_file:
            raise ValueError("redis_key_file needs redis_cert_file")
        said = parse_qs(parts.query, keep_blank_values=True)
        more = [
            f"{TLS_OPTIONS[name]}={quote(path)}"
            for name, path in files.items()
            if said.get(TLS_OPTIONS[name]) != [path]
        ]
        query = "&".join(part for part in (parts.query, *more) if part)
        return urlunsplit(parts._replace(query=query)) if more else self.redis_url


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
    settings, sources = load(EngineSettings, environ, prefix=PREFIX, file=path, overrides=overrides)
    try:
        all_tokens(settings.http_token, settings.http_tokens, settings.http_tokens_file)
    except ValueError as error:
        raise SettingsError(str(error)) from None
    return Loaded(settings, sources)

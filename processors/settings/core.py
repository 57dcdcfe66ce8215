"""The settings of all processors: general ones, and one section per part of the back end."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from engine import Described, SettingsError, describe_settings, load_settings
from processors.errors import ConfigurationError
from processors.settings.batch import BatchSettings
from processors.settings.email import EmailSettings
from processors.settings.encryption import EncryptionSettings
from processors.settings.gateway import GatewaySettings
from processors.settings.notification import NotificationSettings
from processors.settings.objects import ObjectSettings
from processors.settings.push import PushSettings
from processors.settings.retention import RetentionSettings
from processors.settings.search import SearchSettings
from processors.settings.sms import SmsSettings

PREFIX = "PROCESSORS_"
SEE = "python -m processors settings"

Millis = Annotated[int, msgspec.Meta(ge=1, le=3_600_000)]


class ProcessorSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    Settings of the processors in one engine process.

    Always built by :func:`from_env`, which checks the bounds. Times are in ms.

    Attributes:
        pool_connections_max: Connections to PostgreSQL, at most. Default 10.
        pool_wait_ms: How long a job waits for a free connection, or for a new one to be made,
            before it is put off. Default 5 s.
        statement_ms_max: Longest run of one statement on the server. Default 10 s.
        lock_wait_ms_max: Longest wait for a row lock. Default 5 s.
        outage_snooze_ms: Middle of the delay by which a job is put off while PostgreSQL cannot
            be reached; spread over half to one and a half times. Default 2 s.
        delivery_rows_max: Conversations with more recipients keep watermarks alone. Default 1,000.
        send_batch_max: Messages or receipts that are written by one statement. Default 50.
        send_wait_ms: How long the first of them waits for others. Default 3 ms.
        reads_rows_max: Messages of conversations with up to so many recipients keep who read them.
            Default 20.
        index_messages: Whether messages are followed by an `indexing` job. Default true.
        notify_messages: Whether messages are followed by a `notification` job. Default true.
        outbox_batch_max: Events that the relay publishes in one go. Default 500.
        outbox_poll_ms: How often the relay looks for events that other processes left behind.
            Default 2 s.
        outbox_claim_ms: How long a relay holds events before others may publish them.
            Default 30 s.
        pubsub: Which pub/sub events travel over: auto asks the server and takes the sharded one
            where it has it (Redis 7, Valkey); plain and sharded do not ask.
        outbox_jobs_max: Jobs from transactions that the relay takes in one go. Default 1,000.
        outbox_jobs_poll_ms: How often the relay looks for jobs that other programs committed.
            Default 500 ms.
        outbox_jobs_lease_ms: How long a relay keeps a queue's jobs from others if it falls
            silent. Default 10 s.
        batch: Batches to many recipients.
        email: Email.
        encryption: Keys, and what may be done with them.
        gateway: The WebSocket gateway.
        notification: Notifications over all channels.
        objects: The object store of attachments.
        push: FCM, APNs and web push.
        retention: How long messages and files are kept.
        search: The search index.
        sms: SMS.
    """

    pool_connections_max: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 10
    pool_wait_ms: Millis = 5_000
    statement_ms_max: Millis = 10_000
    lock_wait_ms_max: Millis = 5_000
    outage_snooze_ms: Millis = 2_000
    delivery_rows_max: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1_000
    send_batch_max: Annotated[int, msgspec.Meta(ge=1, le=500)] = 50
    send_wait_ms: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 3
    reads_rows_max: Annotated[int, msgspec.Meta(ge=0, le=1_000)] = 20
    index_messages: bool = True
    notify_messages: bool = True
    outbox_batch_max: Annotated[int, msgspec.Meta(ge=1, le=5_000)] = 500
    outbox_poll_ms: Millis = 2_000
    outbox_claim_ms: Annotated[int, msgspec.Meta(ge=1_000, le=3_600_000)] = 30_000
    pubsub: Literal["auto", "plain", "sharded"] = "auto"
    outbox_jobs_max: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1_000
    outbox_jobs_poll_ms: Millis = 500
    outbox_jobs_lease_ms: Annotated[int, msgspec.Meta(ge=1_000, le=3_600_000)] = 10_000
    batch: BatchSettings = BatchSettings()
    email: EmailSettings = EmailSettings()
    encryption: EncryptionSettings = EncryptionSettings()
    gateway: GatewaySettings = GatewaySettings()
    notification: NotificationSettings = NotificationSettings()
    objects: ObjectSettings = ObjectSettings()
    push: PushSettings = PushSettings()
    retention: RetentionSettings = RetentionSettings()
    search: SearchSettings = SearchSettings()
    sms: SmsSettings = SmsSettings()

    def __post_init__(self) -> None:
        if self.lock_wait_ms_max > self.statement_ms_max:
            # Otherwise the lock's limit could never be reached.
            raise ValueError("lock_wait_ms_max must be at most statement_ms_max")
        if self.statement_ms_max * 2 > self.outbox_claim_ms:
            # A claim must outlast the statements around the publishing.
            raise ValueError("outbox_claim_ms must be at least twice statement_ms_max")


@functools.cache
def sections() -> dict[str, type[msgspec.Struct]]:
    """The sections by the prefix of their variables."""
    fields = msgspec.structs.fields(ProcessorSettings)
    return {
        f"{PREFIX}{field.name.upper()}_": type(field.default)
        for field in fields
        if isinstance(field.default, msgspec.Struct)
    }


def from_env(environ: Mapping[str, str]) -> ProcessorSettings:
    """
    Read and check the settings.

    Raises:
        ConfigurationError: A variable is unknown, no number, out of range or contradicts another.
    """
    return _load(environ)[0]


def described(environ: Mapping[str, str]) -> list[Described]:
    """
    List every setting with meaning, value and source; secrets are masked.

    Raises:
        ConfigurationError: As :func:`from_env`.
    """
    settings, sources = _load(environ)
    names = {_field(prefix) for prefix in sections()}
    general = describe_settings(settings, sources[PREFIX], PREFIX)
    rows = [row for row in general if row.name not in names]
    for prefix in sections():
        rows += describe_settings(getattr(settings, _field(prefix)), sources[prefix], prefix)
    return rows


def _load(environ: Mapping[str, str]) -> tuple[ProcessorSettings, dict[str, dict[str, str]]]:
    rest = dict(environ)
    loaded: dict[str, Any] = {}
    sources: dict[str, dict[str, str]] = {}
    try:
        for prefix, kind in sections().items():
            own = {name: rest.pop(name) for name in list(rest) if name.startswith(prefix)}
            section, sources[prefix] = load_settings(kind, own, prefix=prefix, see=SEE)
            loaded[_field(prefix)] = section
        settings, sources[PREFIX] = load_settings(ProcessorSettings, rest, prefix=PREFIX, see=SEE)
        return msgspec.structs.replace(settings, **loaded), sources
    except (SettingsError, ValueError) as error:
        raise ConfigurationError(f"processors: {error}") from None


def _field(prefix: str) -> str:
    return prefix.removeprefix(PREFIX).removesuffix("_").lower()

"""Settings of the processors, read from ``PROCESSORS_*`` variables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

PREFIX = "PROCESSORS_"

FIELD_PATH = re.compile(r"`\$\.(\w+)`")

Millis = Annotated[int, msgspec.Meta(ge=1, le=3_600_000)]
Count = Annotated[int, msgspec.Meta(ge=1, le=100_000)]


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
        outbox_batch_max: Events that the relay publishes in one go. Default 500.
        outbox_poll_ms: How often the relay looks for events that other processes left behind.
            Default 2 s.
        outbox_claim_ms: How long a relay holds events before others may publish them.
            Default 30 s.
    """

    pool_connections_max: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 10
    pool_wait_ms: Millis = 5_000
    statement_ms_max: Millis = 10_000
    lock_wait_ms_max: Millis = 5_000
    outage_snooze_ms: Millis = 2_000
    delivery_rows_max: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1_000
    outbox_batch_max: Annotated[int, msgspec.Meta(ge=1, le=5_000)] = 500
    outbox_poll_ms: Millis = 2_000
    outbox_claim_ms: Annotated[int, msgspec.Meta(ge=1_000, le=3_600_000)] = 30_000

    def __post_init__(self) -> None:
        if self.lock_wait_ms_max > self.statement_ms_max:
            # Otherwise the lock's limit could never be reached.
            raise ValueError("lock_wait_ms_max must be at most statement_ms_max")
        if self.statement_ms_max * 2 > self.outbox_claim_ms:
            # A claim must outlast the statements around the publishing.
            raise ValueError("outbox_claim_ms must be at least twice statement_ms_max")


def from_env(environ: Mapping[str, str]) -> ProcessorSettings:
    """
    Read and check the settings.

    Raises:
        ValueError: A variable is unknown, no number, out of range or contradicts another.
    """
    values: dict[str, Any] = {}
    for name, text in environ.items():
        if not name.startswith(PREFIX):
            continue
        field = name.removeprefix(PREFIX).lower()
        if field not in ProcessorSettings.__struct_fields__:
            known = ", ".join(PREFIX + each.upper() for each in ProcessorSettings.__struct_fields__)
            raise ValueError(f"{name} is no setting; there are {known}")
        values[field] = text
    try:
        return msgspec.convert(values, ProcessorSettings, strict=False)
    except msgspec.ValidationError as error:
        text = FIELD_PATH.sub(lambda path: PREFIX + path[1].upper(), str(error))
        raise ValueError(f"processor settings: {text}") from error

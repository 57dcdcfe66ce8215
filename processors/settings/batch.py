"""Settings of messages to many recipients."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec


class BatchSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    Settings of messages to many recipients, ``PROCESSORS_BATCH_*``.

    Attributes:
        recipients_max: Recipients of one batch. Default 10,000, which is also the most.
        chunk: Recipients that are claimed and queued together. Default 500.
        rate_per_s: Messages queued per second and batch, at most; 0 for as fast as it goes, which
            is the default. A batch may ask for less.
        queued_max: Messages of one batch that wait in the queue at a time, so that it leaves room
            for others and can be cancelled. Default 2,000.
        lane: Lane of the messages. Default low, behind those that people write.
        lease_ms: How long a claim outlives the job that made it. Default 30 s.
        settle_ms_max: Silence of all queued messages after which they are given up as
            unconfirmed. Default 24 h.
    """

    recipients_max: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 10_000
    chunk: Annotated[int, msgspec.Meta(ge=1, le=2_000)] = 500
    rate_per_s: Annotated[int, msgspec.Meta(ge=0, le=100_000)] = 0
    queued_max: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 2_000
    lane: Literal["critical", "high", "normal", "low"] = "low"
    lease_ms: Annotated[int, msgspec.Meta(ge=1_000, le=3_600_000)] = 30_000
    settle_ms_max: Annotated[int, msgspec.Meta(ge=60_000, le=2_592_000_000)] = 86_400_000

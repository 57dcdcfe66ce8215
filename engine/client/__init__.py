"""Producers: enqueue one job or many, from an event loop or without one."""

from engine.client.blocking import SyncClient
from engine.client.client import Client
from engine.client.jobs import (
    Enqueued,
    EnqueueReport,
    EnqueueStopped,
    JobRefused,
    NewJob,
    Refusal,
)
from engine.store.batches import EnqueueUnsure

__all__ = [
    "Client",
    "EnqueueReport",
    "EnqueueStopped",
    "EnqueueUnsure",
    "Enqueued",
    "JobRefused",
    "NewJob",
    "Refusal",
    "SyncClient",
]

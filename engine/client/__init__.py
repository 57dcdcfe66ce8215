"""Producers: enqueue one job or many, from an event loop or without one."""

from engine.client.blocking import SyncClient
from engine.client.client import Client
from engine.client.flows import chain, fan_in
from engine.client.full import Shed, WhenFull
from engine.client.jobs import (
    Enqueued,
    EnqueueReport,
    EnqueueStopped,
    NewJob,
    Refusal,
)
from engine.errors import EnqueueUnsure, JobRefused, QueueFull

__all__ = [
    "Client",
    "EnqueueReport",
    "EnqueueStopped",
    "EnqueueUnsure",
    "Enqueued",
    "JobRefused",
    "NewJob",
    "QueueFull",
    "Refusal",
    "Shed",
    "SyncClient",
    "WhenFull",
    "chain",
    "fan_in",
]

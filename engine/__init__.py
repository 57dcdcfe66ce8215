"""The front door of the engine: what handlers, producers and apps import."""

from engine.client import (
    Client,
    Enqueued,
    EnqueueReport,
    EnqueueStopped,
    EnqueueUnsure,
    JobRefused,
    NewJob,
    QueueFull,
    Refusal,
    Shed,
    SyncClient,
    chain,
    fan_in,
)
from engine.core.policy import Exponential, RetryPolicy
from engine.errors import Cancel, EngineError, Hold, Retry, SettingsError, Snooze
from engine.registry import App, Ended, Job, Registry
from engine.version import __version__

__all__ = [
    "App",
    "Cancel",
    "Client",
    "Ended",
    "EngineError",
    "EnqueueReport",
    "EnqueueStopped",
    "EnqueueUnsure",
    "Enqueued",
    "Exponential",
    "Hold",
    "Job",
    "JobRefused",
    "NewJob",
    "QueueFull",
    "Refusal",
    "Registry",
    "Retry",
    "RetryPolicy",
    "SettingsError",
    "Shed",
    "Snooze",
    "SyncClient",
    "__version__",
    "chain",
    "fan_in",
]

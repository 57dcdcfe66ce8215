"""The front door of the engine: what handlers, producers and apps import."""

from engine.client import (
    Client,
    Enqueued,
    EnqueueReport,
    EnqueueStopped,
    EnqueueUnsure,
    JobRefused,
    NewJob,
    Refusal,
    SyncClient,
)
from engine.core.policy import Exponential, RetryPolicy
from engine.errors import Cancel, Hold, Retry, Snooze
from engine.registry import App, Ended, Job, Registry
from engine.version import __version__

__all__ = [
    "App",
    "Cancel",
    "Client",
    "Ended",
    "EnqueueReport",
    "EnqueueStopped",
    "EnqueueUnsure",
    "Enqueued",
    "Exponential",
    "Hold",
    "Job",
    "JobRefused",
    "NewJob",
    "Refusal",
    "Registry",
    "Retry",
    "RetryPolicy",
    "Snooze",
    "SyncClient",
    "__version__",
]

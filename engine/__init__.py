"""The front door of the engine: what handlers, producers and apps import."""

from typing import TYPE_CHECKING, Any

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
from engine.clock import Clock, SystemClock
from engine.configuration import Described
from engine.configuration import describe as describe_settings
from engine.configuration import load as load_settings
from engine.core.policy import Exponential, RetryPolicy
from engine.errors import Cancel, EngineError, EnqueueError, Hold, Retry, SettingsError, Snooze
from engine.logs import flush as flush_logs
from engine.logs import set_up as set_up_logs
from engine.registry import App, Ended, Job, Registry
from engine.settings import load_engine
from engine.version import __version__
from engine.wire.keys import reply_key

if TYPE_CHECKING:
    from engine.admin import Admin

__all__ = [
    "Admin",
    "App",
    "Cancel",
    "Client",
    "Clock",
    "Described",
    "Ended",
    "EngineError",
    "EnqueueError",
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
    "SystemClock",
    "__version__",
    "chain",
    "describe_settings",
    "fan_in",
    "flush_logs",
    "load_engine",
    "load_settings",
    "reply_key",
    "set_up_logs",
]


def __getattr__(name: str) -> Any:
    # Imported when asked for: producers and handlers do without it, and start in half the time.
    if name == "Admin":
        from engine.admin import Admin

        return Admin
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

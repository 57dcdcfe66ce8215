"""
What runs in a process of the pool: one function call, and its outcome as bytes.

An exception or a result that cannot be unpickled would break the whole pool, so both are pickled
here, and what does not come through unharmed is replaced by its description.
"""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from engine.runtime.carrying import within


class RemoteTraceback(Exception):
    """The cause of an exception from another process: where it was raised there."""


class RemoteError(Exception):
    """Stands for an exception of another process that cannot cross over as it is."""


def run(function: Callable[[Any], Any], payload: Any, carrier: Mapping[str, str]) -> bytes:
    """Call a function in the trace that is carried, and return what :func:`outcome` takes."""
    try:
        with within(carrier):
            result = function(payload)
        return pickle.dumps((result, None, ""))
    except BaseException as error:  # noqa: BLE001 - told to whoever waits
        story = "".join(traceback.format_exception(error, limit=-8))
        return _pickled(error, story)


def outcome(pickled: bytes) -> Any:
    """
    Return what the function returned.

    Raises:
        BaseException: What the function raised, with its traceback as the cause.
    """
    result, error, story = pickle.loads(pickled)  # noqa: S301 - our own child wrote it
    if error is not None:
        raise error from RemoteTraceback(f"\n{story}")
    return result


def _pickled(error: BaseException, story: str) -> bytes:
    try:
        pickled = pickle.dumps((None, error, story))
        pickle.loads(pickled)  # noqa: S301 - what was just written
    except Exception:  # noqa: BLE001 - an exception's own pickling may raise anything
        told = RemoteError("".join(traceback.format_exception_only(error)).strip()[:500])
        return pickle.dumps((None, told, story))
    return pickled

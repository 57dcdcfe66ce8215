"""Payloads: bytes to what handlers are given, and what is wrong with the others. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec

from engine.errors import Malformed

_PATH = re.compile(r"`(\$[^`]*)`$")


def payload_decoder(payload_type: Any) -> Callable[[bytes], Any]:
    """
    Build the decoder for one job type's payload.

    The decoder raises :class:`Malformed` for bad UTF-8, bad JSON, NaN, deep nesting and values
    that do not fit the type, and nothing else.
    """
    decode = msgspec.json.Decoder(payload_type).decode

    def decoder(data: bytes) -> Any:
        try:
            if not data.isascii():
                # The JSON decoder skips unknown members unread, so it may miss bad UTF-8.
                data.decode()
            return decode(data)
        except Exception as error:  # noqa: BLE001 - a check of the payload's own may raise anything
            raise payload_fault(error) from None

    return decoder


def payload_fault(error: Exception) -> Malformed:
    """Say what is wrong with a payload, from what its decoder raised."""
    if isinstance(error, msgspec.ValidationError):
        return _misfit(str(error))
    if isinstance(error, UnicodeDecodeError):
        return Malformed("data-utf8", detail=f"byte {error.start} is not UTF-8")
    if isinstance(error, RecursionError):
        return Malformed("data-nesting", detail="nested too deeply")
    if isinstance(error, msgspec.MsgspecError | ValueError | OverflowError):
        return Malformed("data-json", detail=str(error)[:200])
    detail = f"{type(error).__name__}: {error}"[:300]
    return Malformed("data-schema", path="$", detail=detail)


def _misfit(message: str) -> Malformed:
    found = _PATH.search(message)
    path = found.group(1) if found else "$"
    return Malformed("data-schema", path=path, detail=message.partition(" - at ")[0][:300])

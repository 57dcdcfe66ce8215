"""Cursors that are handed out and come back: opaque, and checked when they return. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Final, TypeVar

import msgspec

CHECK_BYTES: Final = 8

Value = TypeVar("Value", bound=msgspec.Struct)


class BadCursor(ValueError):
    """A cursor was not made here, or for something else."""


def encode(value: msgspec.Struct, *, context: str) -> str:
    """
    Write a cursor.

    Args:
        value: What it holds; whoever has the cursor can read it.
        context: What it belongs to, such as a query; it is good for nothing else.
    """
    body = msgspec.msgpack.encode(value)
    return base64.urlsafe_b64encode(_check(body, context) + body).rstrip(b"=").decode()


def decode(cursor: str, kind: type[Value], *, context: str) -> Value:
    """
    Read a cursor.

    Raises:
        BadCursor: It was not made by :func:`encode` for this kind and context.
    """
    try:
        data = base64.urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
    except (binascii.Error, ValueError):
        raise BadCursor("the cursor is damaged") from None
    check, body = data[:CHECK_BYTES], data[CHECK_BYTES:]
    if check != _check(body, context):
        raise BadCursor("the cursor is damaged, or belongs to something else")
    try:
        return msgspec.msgpack.decode(body, type=kind)
    except msgspec.MsgspecError:
        raise BadCursor("the cursor is of another release") from None


def _check(body: bytes, context: str) -> bytes:
    """A checksum: a cursor only says where to go on, so it need not be secret."""
    text = context.encode("utf-8", "surrogatepass")
    return hashlib.sha256(b"%d:%b%b" % (len(text), text, body)).digest()[:CHECK_BYTES]

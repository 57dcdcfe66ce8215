"""Reading the engine's own field, which a stranger may have written as well."""

from __future__ import annotations

import re

import msgspec

from engine.errors import Malformed
from engine.wire.names import is_name
from schemas.job import Meta

BYTES_MAX = 524_288
_TICKET = re.compile(r"[0-9]{15,20}-[0-9]{10,20}")
_decode = msgspec.json.Decoder(Meta).decode


def read_meta(raw: bytes) -> Meta:
    """
    Judge the field ``_engine`` of an entry.

    Raises:
        Malformed: No engine wrote this.
    """
    if len(raw) > BYTES_MAX:
        raise _not_ours(f"{len(raw)} bytes, over {BYTES_MAX}")
    try:
        meta = _decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise _not_ours(str(error)[:200]) from None
    if not is_name(meta.id):
        raise _not_ours("the id is not one")
    if meta.ticket and not _TICKET.fullmatch(meta.ticket):
        raise _not_ours("the ticket is not one")
    return meta


def _not_ours(detail: str) -> Malformed:
    return Malformed("engine-field", detail=f"`_engine` is the engine's own: {detail}")

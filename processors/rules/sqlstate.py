"""
What an error of PostgreSQL means for the job that met it, by its SQLSTATE.

The longest matching prefix decides, so that a single code can differ from its class.
"""

from __future__ import annotations

import enum
from typing import Final


class Meaning(enum.Enum):
    """What becomes of the job."""

    OUTAGE = "outage"
    """The server cannot serve now; the job did nothing wrong and spends no attempt."""

    CONTENTION = "contention"
    """This transaction lost against others or took too long; try it again."""

    PERMANENT = "permanent"
    """The same statement with the same values fails for ever."""

    MISCONFIGURED = "misconfigured"
    """Schema, role or database do not fit the code: every job of the type would fail."""

    SUPERSEDED = "superseded"
    """What the job refers to is gone, so nothing is left to do."""

    UNKNOWN = "unknown"
    """No rule; the job's retry policy decides."""


_MEANINGS: Final[dict[str, Meaning]] = {
    "08": Meaning.OUTAGE,  # connection exceptions
    "22": Meaning.PERMANENT,  # data exceptions
    "23": Meaning.PERMANENT,  # a constraint that the row breaks; its text would quote the row
    "23505": Meaning.CONTENTION,  # another transaction was first; the next try sees its row
    "23503": Meaning.SUPERSEDED,  # the referenced row was deleted meanwhile
    "25006": Meaning.OUTAGE,  # read-only: a standby just before its promotion
    "25P03": Meaning.CONTENTION,  # idle in transaction too long: the process was stalled
    "25P04": Meaning.CONTENTION,  # transaction timeout
    "28": Meaning.MISCONFIGURED,  # wrong role or password
    "3D000": Meaning.MISCONFIGURED,  # no such database
    "3F000": Meaning.MISCONFIGURED,  # no such schema
    "40": Meaning.CONTENTION,  # serialisation failure, deadlock, statement outcome unknown
    "42": Meaning.PERMANENT,  # syntax and semantics
    "42501": Meaning.MISCONFIGURED,  # missing privilege
    "42703": Meaning.MISCONFIGURED,  # no such column: migrations are outstanding
    "42704": Meaning.MISCONFIGURED,  # no such object
    "42883": Meaning.MISCONFIGURED,  # no such function
    "42P01": Meaning.MISCONFIGURED,  # no such table
    "42P10": Meaning.MISCONFIGURED,  # no unique index for ON CONFLICT
    "53": Meaning.OUTAGE,  # disk full, out of memory, too many connections
    "54": Meaning.PERMANENT,  # program limits, such as a value too large to index
    "55P03": Meaning.CONTENTION,  # lock timeout
    "57014": Meaning.CONTENTION,  # statement timeout
    "57P": Meaning.OUTAGE,  # shutdown, crash recovery, starting up, dropped sessions
    "58": Meaning.OUTAGE,  # I/O errors of the server's system
}
_LONGEST: Final = 5


def meaning(sqlstate: str) -> Meaning:
    """Look an SQLSTATE up by its longest known prefix."""
    for length in range(_LONGEST, 1, -1):
        found = _MEANINGS.get(sqlstate[:length]) if len(sqlstate) >= length else None
        if found is not None:
            return found
    return Meaning.UNKNOWN


def is_permanent(error: Exception) -> bool:
    """Say whether the same statement with the same values fails for ever."""
    sqlstate = getattr(error, "sqlstate", None)
    # Without a state the client refused the value before the server saw it.
    return sqlstate is None or meaning(sqlstate) is Meaning.PERMANENT


def is_contention(error: Exception) -> bool:
    """Say whether a statement lost against others, or took too long."""
    sqlstate = getattr(error, "sqlstate", None)
    return sqlstate is not None and meaning(sqlstate) is Meaning.CONTENTION

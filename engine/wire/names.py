"""Names that producers give: ids, keys, unique values. Pure."""

from __future__ import annotations

from schemas import rules


def name_of(raw: bytes) -> str:
    """Read a name such as a key; an empty string where it is none."""
    try:
        name = raw.decode()
    except UnicodeDecodeError:
        return ""
    return name if is_name(name) else ""


def is_name(name: str) -> bool:
    """Tell whether a text may name a job or a key."""
    # isprintable() refuses controls and unassigned code points, but counts the space as printable.
    return 1 <= len(name) <= rules.ID_CHARS_MAX and name.isprintable() and " " not in name

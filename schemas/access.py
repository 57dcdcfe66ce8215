"""What is kept and shown of those who look at the page."""

from __future__ import annotations

from typing import Any

from schemas.stats import View


class PageSession(View, frozen=True, kw_only=True):
    """
    One session of the page, as kept in ``mq:page:session:<hash>``.

    Attributes:
        name: Who logged in.
        token: Beginning of the hash of the token that was shown; another token ends the session.
        begun_ms: When, in Unix ms.
    """

    name: str
    token: str
    begun_ms: int


class AuditEntry(View, frozen=True, kw_only=True):
    """
    One change that somebody made.

    Attributes:
        id: Its place in the audit stream.
        at: When, in Unix ms.
        who: Who: the holder of a token, ``local``, or ``user@host`` of the command line.
        what: The change: a word such as ``pause``.
        queue: The queue that was changed.
        detail: What it was about, such as ``id``, ``before`` and ``after``.
        reason: Why, in the person's words.
    """

    id: str
    at: int
    who: str
    what: str
    queue: str
    detail: dict[str, Any]
    reason: str


class AuditPage(View, frozen=True, kw_only=True):
    """
    Part of the audit.

    Attributes:
        entries: Changes, the newest first.
        searched: Entries looked at for this part.
        cursor: Where the next part begins; empty at the end.
    """

    entries: list[AuditEntry]
    searched: int
    cursor: str

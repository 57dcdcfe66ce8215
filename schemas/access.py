"""What is kept and shown of those who look at the page."""

from __future__ import annotations

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

"""The two pages that a person sees who wants to be told less; without scripts."""

from __future__ import annotations

import base64
import hashlib
from html import escape
from typing import Final

from processors.rules.unsubscribe import Channel

STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:32rem;margin:15vh auto;padding:0 1rem;"
    "color:#1c1c1c;background:#fff}"
    "button{font:inherit;padding:.5rem 1.25rem;border:0;border-radius:.4rem;"
    "color:#fff;background:#1d5fd0;cursor:pointer}"
    "@media(prefers-color-scheme:dark){body{color:#e8e8e8;background:#161616}}"
)
STYLE_HASH: Final = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()

HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{STYLE_HASH}'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex",
}
"""For both pages: the address is the right to unsubscribe, so it goes nowhere else."""

CHANNELS: Final[dict[Channel, str]] = {
    "push": "push notifications",
    "email": "emails",
    "sms": "text messages",
    "in_app": "entries in the list of notifications",
}


def asking(kind: str, channel: Channel) -> str:
    """Ask whether it is meant; the answer is a POST to the same address."""
    return _page(
        "Unsubscribe?",
        f"<p>You will get no more {_what(kind, channel)}.</p>"
        '<form method="post"><button name="List-Unsubscribe" value="One-Click">'
        "Unsubscribe</button></form>",
    )


def done(kind: str, channel: Channel) -> str:
    """Say that it is done."""
    return _page("Unsubscribed", f"<p>You will get no more {_what(kind, channel)}.</p>")


def unknown() -> str:
    """Say that the link is none of ours."""
    return _page("Not found", "<p>This link is not complete, or no longer valid.</p>")


def later() -> str:
    """Say that it could not be done."""
    return _page("Not done yet", "<p>This does not work just now. Please try again later.</p>")


def _what(kind: str, channel: Channel) -> str:
    shown = CHANNELS[channel]
    return shown if kind == "*" else f"{shown} of the kind &ldquo;{escape(kind)}&rdquo;"


def _page(title: str, body: str) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><meta name="robots" content="noindex">'
        f"<title>{title}</title><style>{STYLE}</style></head>"
        f"<body><h1>{title}</h1>{body}</body></html>"
    )

"""What strangers may write, wherever the wire lets them, to do harm to whoever looks at it."""

from __future__ import annotations

import msgspec

from tests.support.page_app import HOSTILE
from tests.support.page_world import Page, until

PAYLOADS = (
    "<script>window.hacked=1</script>",
    "</script><script>window.hacked=1</script>",
    '"><img src=x onerror=window.hacked=1>',
    "<svg onload=window.hacked=1>",
    "<svg><script>window.hacked=1</script></svg>",
    "<iframe srcdoc='<script>parent.hacked=1</script>'></iframe>",
    "<a href=javascript:window.hacked=1>x</a>",
    "javascript:window.hacked=1",
    "data:text/html,<script>opener.hacked=1</script>",
    "' onmouseover='window.hacked=1",
    '" autofocus onfocus="window.hacked=1',
    "<details open ontoggle=window.hacked=1>",
    "<math><mtext><table><mglyph><style><img src=x onerror=window.hacked=1>",
    "<base href=//192.0.2.1/>",
    "<meta http-equiv=refresh content='0;url=//192.0.2.1'>",
    "<link rel=stylesheet href=//192.0.2.1/x.css>",
    "<style>*{display:none}</style>",
    "}*{background:url(//192.0.2.1/x)}",
    "<form action=//192.0.2.1><input name=q></form>",
    "${window.hacked=1}",
    "{{constructor.constructor('window.hacked=1')()}}",
    "`;window.hacked=1;`",
    "\\u003cscript\\u003ewindow.hacked=1\\u003c/script\\u003e",
    "&lt;script&gt;window.hacked=1&lt;/script&gt;",
    "\u202egnp.exe\u2066 right to left \u200f",
    "NUL\x00 and \x1b[2J\x1b]0;title\x07 and \r\nSet-Cookie: hacked=1",
    "😀👩‍👩‍👧‍👦 Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢L̠ͨͧͩ͘G̴̻͈͍͔̹̑͗̎̅͛́Ǫ̵̹̻̝̳͂̌̌͘!",
    "__proto__",
    '{"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}}}',
    "x" * 5_000 + "<script>window.hacked=1</script>",
)
"""Thirty ways in."""

((QUEUE, TYPES),) = HOSTILE.items()


def name_of(payload: str) -> str:
    """Make an id or an ordering key of a payload: printable, without spaces, at most 128."""
    shown = "".join(char for char in payload if char.isprintable() and not char.isspace())
    return shown[:128]


def headers_of(payload: str) -> dict[str, str]:
    """Make headers of a payload, one of them with it as its name."""
    return {"said": payload[:900], payload[:400]: "name"}


def data_of(payload: str, **told: str) -> bytes:
    """Make a payload that says it in names and values, at every depth."""
    inner = {payload: payload, "list": [payload, {payload: None}]}
    text = msgspec.json.encode({**told, "give": inner, payload: inner, "say": payload})
    return text[:-1] + b',"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}}}'


def write_all(page: Page) -> None:
    """Write every payload into every field, as jobs that run, end dead, wait, or are broken."""
    for number, payload in enumerate(PAYLOADS):
        write(page, payload, number)
    _beats(page)
    queue = page.queues[QUEUE]
    until(lambda: queue.call("XLEN", queue.keys.dead) >= 2 * len(PAYLOADS))


def write(page: Page, payload: str, number: int, *, round_: str = "") -> None:
    """Write one payload into every field."""
    name = name_of(payload)
    options = headers_of(payload)
    for kind in ("raise", "return"):
        fields = {"id": name_of(f"{kind}{round_}{number}{payload}"), **options}
        page.enqueue(
            *(QUEUE, TYPES[number % 2], "normal"), payload=data_of(payload, do=kind), **fields
        )
    later = {"id": name_of(f"later{round_}{number}{payload}"), "key": name, "delay": 3_600_000}
    page.enqueue(QUEUE, TYPES[0], "low", payload=data_of(payload), **later, **options)
    broken = [b"type", payload.encode(), b"data", b"[" + payload.encode(), payload.encode(), b"1"]
    page.queues[QUEUE].enqueue(broken, lane="high")


def _beats(page: Page) -> None:
    for number, payload in enumerate(PAYLOADS):
        page.queues[QUEUE].beat(
            payload[:200],
            silent_ms=-3_600_000,
            types=(payload[:60],),
            host=payload[:300],
            version=payload[:100],
            http="javascript:window.hacked=1" if number % 2 else payload[:100],
            state=payload[:40],
        )


__all__ = ["PAYLOADS", "QUEUE", "TYPES", "name_of", "write", "write_all"]

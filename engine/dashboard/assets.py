"""The page's own files, read once, and named by what they hold so that browsers may keep them."""

from __future__ import annotations

import gzip
import hashlib
import re
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import PurePosixPath
from posixpath import normpath

import msgspec
from aiohttp import hdrs, web

KINDS = {
    ".html": "text/html",
    ".css": "text/css",
    ".mjs": "text/javascript",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
}
SHELL = "index.html"
PLACE = b"{{assets}}"
"""Stands in the shell for the path under which the other files are served."""

MODULES = b"{{modules}}\n"
"""Stands in the shell for the links by which a view's modules are asked for at once."""

SHEET = "all.css"
"""All style sheets of the shell, joined: one request in place of many."""

_SHEETS = re.compile(rb'(?:<link rel="stylesheet" [^>]*>\n)+')
_NAMED = re.compile(rb'href="{{assets}}/([^"]+)"')
_IMPORT = re.compile(rb"""\b(?:from|import)\s*"(\.[\w./-]+\.mjs)\"""")


class Asset(msgspec.Struct, frozen=True):
    """One file: its bytes as they are and packed, and what they are."""

    plain: bytes
    packed: bytes
    kind: str


class Assets:
    """
    All files of the page, from a fixed list, so that no path can lead elsewhere.

    Attributes:
        digest: Hash of all of them; part of their paths.
    """

    def __init__(self) -> None:
        found = dict(_tree(files("engine.dashboard").joinpath("static"), ""))
        content = hashlib.sha256()
        for name in sorted(found):
            content.update(name.encode() + b"\0" + found[name])
        self.digest = content.hexdigest()[:16]
        self._frame = found.pop(SHELL)
        sheets = _SHEETS.search(self._frame)
        assert sheets is not None
        named = _NAMED.findall(sheets[0])
        found[SHEET] = b"\n".join(found[name.decode()] for name in named)
        self._frame = self._frame.replace(sheets[0], _link("stylesheet", SHEET))
        self._assets = {name: _asset(name, data) for name, data in found.items()}
        self._shells: dict[str, Asset] = {}

    def shell(self, view: str, request: web.Request) -> web.Response:
        """Answer with the page itself, which asks for what it shows, and begins with a view."""
        if view not in self._shells:
            self._shells[view] = _asset(SHELL, self._shell_of(view))
        return _answer(self._shells[view], request)

    def modules(self, view: str) -> list[str]:
        """
        Name the modules that a view needs, in the order in which they are found.

        A browser that learned of them one from the other would take a round trip for each level.
        """
        found = ["app.mjs", f"views/{view}.mjs"]
        for name in found:
            place = PurePosixPath(name).parent
            for other in _IMPORT.findall(self._assets[name].plain):
                path = normpath(place / other.decode())
                if path not in found:
                    found.append(path)
        return found

    def _shell_of(self, view: str) -> bytes:
        links = [_link("modulepreload", name) for name in self.modules(view)]
        shell = self._frame.replace(MODULES, b"".join(links))
        return shell.replace(PLACE, f"/static/{self.digest}".encode())

    def file(self, request: web.Request) -> web.Response:
        """
        Answer with one file.

        Raises:
            web.HTTPNotFound: There is none of that name, or it is another version's.
        """
        name = request.match_info["name"]
        if request.match_info["digest"] != self.digest or name not in self._assets:
            raise web.HTTPNotFound
        response = _answer(self._assets[name], request)
        response.headers[hdrs.CACHE_CONTROL] = "public, max-age=31536000, immutable"
        return response


def _link(kind: str, name: str) -> bytes:
    return b'<link rel="%b" href="%b/%b">\n' % (kind.encode(), PLACE, name.encode())


def _answer(asset: Asset, request: web.Request) -> web.Response:
    headers: dict[str, str] = {hdrs.VARY: hdrs.ACCEPT_ENCODING}
    packs = "gzip" in request.headers.get(hdrs.ACCEPT_ENCODING, "")
    if packs:
        headers[hdrs.CONTENT_ENCODING] = "gzip"
    return web.Response(
        body=asset.packed if packs else asset.plain,
        content_type=asset.kind,
        charset="utf-8",
        headers=headers,
    )


def _tree(place: Traversable, prefix: str) -> list[tuple[str, bytes]]:
    found = []
    for each in place.iterdir():
        if each.is_dir():
            found += _tree(each, f"{prefix}{each.name}/")
        elif _kind(each.name) is not None:
            found.append((prefix + each.name, each.read_bytes()))
    return found


def _asset(name: str, data: bytes) -> Asset:
    kind = _kind(name)
    assert kind is not None
    return Asset(data, gzip.compress(data, 9, mtime=0), kind)


def _kind(name: str) -> str | None:
    return KINDS.get(name[name.rfind(".") :])

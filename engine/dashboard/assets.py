"""The page's own files, read once, and named by what they hold so that browsers may keep them."""

from __future__ import annotations

import gzip
import hashlib
from importlib.resources import files
from importlib.resources.abc import Traversable

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
        found[SHELL] = found[SHELL].replace(PLACE, f"/static/{self.digest}".encode())
        self._assets = {name: _asset(name, data) for name, data in found.items()}

    def shell(self, request: web.Request) -> web.Response:
        """Answer with the page itself; what it shows, it asks for."""
        return self._answer(SHELL, request)

    def file(self, request: web.Request) -> web.Response:
        """
        Answer with one file.

        Raises:
            web.HTTPNotFound: There is none of that name, or it is another version's.
        """
        name = request.match_info["name"]
        if request.match_info["digest"] != self.digest or name not in self._assets:
            raise web.HTTPNotFound
        response = self._answer(name, request)
        response.headers[hdrs.CACHE_CONTROL] = "public, max-age=31536000, immutable"
        return response

    def _answer(self, name: str, request: web.Request) -> web.Response:
        asset = self._assets[name]
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

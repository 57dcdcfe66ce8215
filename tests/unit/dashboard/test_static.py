"""The page's own files: what is vendored is what it says it is, and nothing leads elsewhere."""

from __future__ import annotations

import hashlib
import re
import tomllib
from pathlib import Path
from posixpath import normpath
from typing import Any

import pytest
from aiohttp.test_utils import make_mocked_request

from engine.dashboard.assets import KINDS, Assets
from engine.dashboard.server import PAGES
from tests.tidy.sources import ROOT

STATIC = ROOT / "engine" / "dashboard" / "static"
VENDOR = STATIC / "vendor"
LIBRARIES: list[dict[str, Any]] = tomllib.loads((VENDOR / "vendor.toml").read_text())["library"]
FILES = sorted(path for path in STATIC.rglob("*") if path.is_file())
OWN = [path for path in FILES if VENDOR not in path.parents]
VENDORED = [(library, file) for library in LIBRARIES for file in library["files"]]
LINES_MAX = 400
OWN_BYTES_MAX = 150_000
NAMES_OF_XML = re.compile(r"http://www\.w3\.org/[\w/]+")
"""They are never asked for."""


def name_of(path: Path) -> str:
    return str(path.relative_to(STATIC))


@pytest.mark.parametrize(("library", "file"), VENDORED, ids=lambda part: part.get("file", ""))
def test_a_vendored_file_is_the_one_that_was_taken(
    library: dict[str, Any], file: dict[str, str]
) -> None:
    assert hashlib.sha256((VENDOR / file["file"]).read_bytes()).hexdigest() == file["sha256"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", library["version"])
    assert library["integrity"].startswith("sha512-")


def test_every_vendored_file_is_listed() -> None:
    listed = {file["file"] for _, file in VENDORED} | {"vendor.toml", "LICENSES.txt"}

    assert {path.name for path in VENDOR.iterdir()} == listed


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library["name"])
def test_a_vendored_library_has_its_licence(library: dict[str, Any]) -> None:
    text = (VENDOR / "LICENSES.txt").read_text()
    _, found, rest = text.lower().partition(library["name"])

    assert found
    first_words = {"MIT": "permission is hereby granted", "Apache-2.0": "apache license"}
    assert first_words[library["licence"]] in rest


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_every_file_is_served(path: Path) -> None:
    if path.name == "vendor.toml":
        assert path.suffix not in KINDS
        return

    assert path.suffix in KINDS
    assert name_of(path) in Assets()._assets or path.name == "index.html"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_file_names_another_host(path: Path) -> None:
    if path.name in {"vendor.toml", "LICENSES.txt"}:
        return
    text = NAMES_OF_XML.sub("", path.read_text())
    # A library may say where it comes from in a comment.
    text = re.sub(r"/\*.*?\*/|^//.*$", "", text, flags=re.DOTALL | re.MULTILINE)

    assert not re.search(r"(https?:)?//[a-z0-9-]+(\.[a-z0-9-]+)+", text)
    assert "sourceMappingURL" not in text


@pytest.mark.parametrize("path", OWN, ids=name_of)
def test_no_file_holds_what_the_policy_forbids(path: Path) -> None:
    text = path.read_text()

    if path.suffix == ".html":
        assert not re.search(r"<script(?![^>]*\ssrc=)", text)
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", text)
    if path.suffix == ".mjs":
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function"
            r"|createContextualFragment|srcdoc|dangerouslySet",
            text,
        )
        assert not re.search(r"<[a-z][^>]*\sstyle=[\"'`$]", text)


@pytest.mark.parametrize("path", [each for each in OWN if each.suffix == ".mjs"], ids=name_of)
def test_a_module_is_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LINES_MAX


def test_all_files_of_the_first_load_are_named_in_the_shell_by_their_digest() -> None:
    text = (STATIC / "index.html").read_text()
    named = re.findall(r'(?:href|src)="([^"]+)"', text)

    for address in named:
        place, _, name = address.partition("/")
        if place == "{{assets}}":
            assert (STATIC / name).is_file(), address
        else:
            assert address.startswith("/"), address


def views() -> dict[str, str]:
    """Read which address shows which view off the page's own list."""
    told = (STATIC / "app.mjs").read_text()
    listed = re.findall(r'\["(/[^"]*)", "(\w+)", "[^"]+"\]', told)
    return {re.sub(r":(\w+)", r"{\1}", path): name for path, name in listed}


def test_the_server_begins_each_address_with_the_view_that_the_page_shows_there() -> None:
    assert views() == PAGES


@pytest.mark.parametrize("view", sorted(PAGES.values()))
def test_a_shell_names_all_that_its_view_needs_at_once(view: str) -> None:
    """
    Goal: nothing of the first load is asked for only when something else has come.

    Method: of every module that is named, what it imports is named, too.
    """
    assets = Assets()
    named = assets.modules(view)
    shell = assets.shell(view, make_mocked_request("GET", "/")).body

    assert isinstance(shell, bytes)
    assert re.findall(rb"{{\w+}}", shell) == []
    assert shell.count(b'rel="stylesheet"') == 1
    for name in named:
        assert f'"modulepreload" href="/static/{assets.digest}/{name}"'.encode() in shell
        imports = re.findall(r'^import .*?"(.+?)";', (STATIC / name).read_text(), re.MULTILINE)
        assert {normpath(f"{Path(name).parent}/{each}") for each in imports} <= {*named}
    assert "vendor/preact.mjs" in named
    assert "vendor/uplot.mjs" not in named
